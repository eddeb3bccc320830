//! `forebay check`, and what `forebay run` refuses: every problem at once, each with its place.

use std::net::SocketAddr;
use std::process::Command;

use crate::support::*;

fn good() -> String {
    Config::to(SocketAddr::from(([127, 0, 0, 1], 9000))).text()
}

/// What check prints, on both streams.
fn printed(text: &str) -> (Option<i32>, String) {
    let output = check(text);
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&printed).into_owned())
}

/// `text` with this line put at the end of the table that begins so.
#[track_caller]
fn with(table: &str, line: &str) -> String {
    let text = good();
    let at = text.find(table).unwrap_or_else(|| panic!("no {table} in {text}")) + table.len();
    format!("{}\n{line}{}", &text[..at], &text[at..])
}

#[test]
fn a_good_file_passes() {
    let (code, text) = printed(&good());
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn the_example_passes_as_it_is() {
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.example.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["check", "--config"])
        .arg(example)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
}

#[test]
fn a_wildcard_of_another_server_is_a_warning() {
    let (code, text) = printed(&good().replacen("path = \"/{*rest}\"", "path = \"/a/*\"", 1));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("warning") && text.contains("did you mean {*rest}?"), "{text}");
}

#[test]
fn every_kind_of_mistake_is_an_error_with_its_line_and_key() {
    for (text, words) in [
        (with("[server]", "lisen = []"), ["lisen", "listen"].as_slice()),
        (with("[server]", "idle_timeout = \"75\""), &["idle_timeout"]),
        (with("[server]", "idle_timeout = 75"), &["idle_timeout"]),
        (with("[server]", "max_header_size = \"32 elephants\""), &["max_header_size"]),
        (with("[server]", "max_header_size = \"99999999999999GiB\""), &["max_header_size"]),
        (with("[server]", "trusted_proxies = [\"10.0.0.0/33\"]"), &["trusted_proxies", "10.0.0.0/33"]),
        (with("[server]", "x_cache = \"yes\""), &["x_cache"]),
        (with("[server]", "purge_from = [\"localhost\"]"), &["purge_from", "localhost"]),
        (with("[memory]", "max_sise = \"1MiB\""), &["max_sise", "max_size"]),
        (with("[memory]", "max_size = \"-1MiB\""), &["max_size"]),
        (with("[upstream.origin]", "conect_timeout = \"1s\""), &["conect_timeout", "connect_timeout"]),
        (with("[upstream.origin]", "host = \"a b\""), &["host"]),
        (with("[defaults]", "tttl = \"1s\""), &["tttl", "ttl"]),
        (with("[defaults]", "ttl = \"1 fortnight\""), &["ttl"]),
        (with("[defaults]", "ttl_by_status = { 42 = \"1s\" }"), &["ttl_by_status", "42"]),
        (with("[defaults]", "origin_cache_control = \"ignore\""), &["origin_cache_control", "respect"]),
        (with("[defaults]", "cookies = \"gaurd\""), &["cookies", "guard"]),
        (with("[defaults]", "key = { query_exlude = [] }"), &["query_exlude", "query_exclude"]),
        (with("[defaults]", "key = { headers = [\"a b\"] }"), &["headers", "a b"]),
        (with("[defaults]", "tags = [\"product:{id}\"]"), &["tags", "{id}"]),
        (with("[[route]]", "upstrem = \"x\""), &["upstrem", "upstream"]),
        (good().replace("upstream = \"origin\"", "upstream = \"orgin\""), &["orgin", "origin"]),
        (good().replace("/{*rest}", "no/slash"), &["path", "no/slash"]),
        (good().replace("/{*rest}", "/{a}/{"), &["path"]),
        (good().replace("http://", "gopher://"), &["servers", "gopher"]),
        (good().replace("servers = [", "servers = [] # "), &["servers"]),
        (
            with("[admin]", "").replacen("listen = \"127.0.0.1:0\"", "listen = \"0.0.0.0:9090\"", 1),
            &["token"],
        ),
        (good() + "[[route]]\nname = \"rest\"\npath = \"/x\"\nupstream = \"origin\"\n", &["rest"]),
        (
            good() + "[[route]]\nname = \"two\"\npath = \"/{*other}\"\nupstream = \"origin\"\n",
            &["rest", "path"],
        ),
        (good() + "[reddis]\nurl = \"redis://127.0.0.1:6379\"\n", &["reddis", "redis"]),
        (good() + "[redis]\n", &["url"]),
        (good() + "[redis]\nurl = \"http://127.0.0.1:6379\"\n", &["url"]),
        (good() + "[redis]\nurl = \"redis+cluster://a:1,b:2\"\n", &["url", "redis-cluster://"]),
        (good() + "[redis]\nurl = \"${NOBODY_SET_THIS}\"\n", &["NOBODY_SET_THIS"]),
        ("[server\nlisten = 1".to_owned(), &["proxy.toml:1"]),
        (String::new(), &["route"]),
        ("\0\u{1}\u{feff}".to_owned(), &["proxy.toml"]),
    ] {
        let (code, output) = printed(&text);
        assert_eq!(code, Some(1), "{words:?}: {output}\n{text}");
        for word in words {
            assert!(output.contains(word), "{word:?} is not in {output:?}\n{text}");
        }
        assert!(output.contains("proxy.toml"), "{output}");
        assert!(!output.contains("panicked"), "{output}");
    }
}

#[test]
fn all_problems_are_told_at_once_each_with_its_line() {
    let text = with("[server]", "lisen = []\nidle_timeout = \"x\"") + "[redis]\nurll = \"x\"\n";
    let (code, output) = printed(&text);
    assert_eq!(code, Some(1));
    for word in ["lisen", "idle_timeout", "urll"] {
        let line = text.lines().position(|line| line.starts_with(word)).unwrap() + 1;
        let told =
            output.lines().find(|told| told.contains(word)).unwrap_or_else(|| panic!("{word}: {output}"));
        assert!(told.contains(&format!("proxy.toml:{line}")), "line {line}: {told}");
    }
}

#[test]
fn files_that_are_no_files_are_told_apart_from_mistakes() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().to_owned(), directory.path().join("absent.toml")] {
        for command in ["check", "run"] {
            let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
                .args([command, "--config"])
                .arg(&path)
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(1), "{command} {path:?}");
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(text.contains(&*path.to_string_lossy()) && !text.contains("panicked"), "{text}");
        }
    }
}

#[test]
fn run_refuses_what_check_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.toml");
    std::fs::write(&file, with("[server]", "lisen = []")).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_forebay")).args(["run", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("lisen") && text.contains("listen"), "{text}");
}

#[test]
fn a_listener_that_is_taken_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.toml");
    std::fs::write(&file, good().replacen("127.0.0.1:0", &address, 1)).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_forebay")).args(["run", "--config"]).arg(&file).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(text.contains(&address) && !text.contains("panicked"), "{text}");
}

#[test]
fn the_environment_fills_in_what_the_file_names() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.toml");
    std::fs::write(&file, with("[defaults]", "ttl = \"${SHOP_TTL}\"")).unwrap();
    for (value, code) in [("60s", 0), ("sixty", 1)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        let output = command.args(["check", "--config"]).arg(&file).env("SHOP_TTL", value).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{value}");
    }
}

#[test]
fn help_has_an_example_for_each_command() {
    for arguments in [["--help"].as_slice(), &["run", "--help"], &["check", "--help"], &["demo", "--help"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_forebay")).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("forebay "), "{arguments:?}: {text}");
    }
    let unknown = Command::new(env!("CARGO_BIN_EXE_forebay")).arg("frobnicate").output().unwrap();
    assert!(!unknown.status.success());
}

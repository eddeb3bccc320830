//! The connection for records against a real server, and against one that does not keep to the protocol.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::super::keys::Names;
use super::super::settings::{Node, Server};
use super::super::testing::{RedisServer, until};
use super::super::tests::settings;
use super::*;

/// Longer than anything here should take.
const LONG: Duration = Duration::from_secs(10);

async fn up(server: &RedisServer, change: impl FnOnce(&mut Settings)) -> Pipe {
    let mut settings = settings(server);
    change(&mut settings);
    let pipe = Pipe::start(&Arc::new(settings)).expect("it knows whom to ask");
    until("it is connected", || pipe.is_up()).await;
    pipe
}

fn named(name: &str) -> impl FnOnce(&mut Vec<u8>) {
    let name = key(name);
    move |out| out.extend_from_slice(name.as_bytes())
}

fn key(name: &str) -> Key {
    Key::from(name)
}

fn ask<'p>(pipe: &'p Pipe, name: &str, patience: Duration) -> Awaited<'p> {
    pipe.ask(named(name), clock::monotonic() + patience).expect("it is connected")
}

async fn read(pipe: &Pipe, name: &str) -> Result<String, String> {
    let answer = ask(pipe, name, LONG).await.expect("an answer");
    answer
        .map(|value| String::from_utf8_lossy(&value).into_owned())
        .map_err(|error| error.details().to_owned())
}

#[tokio::test]
async fn values_are_read() {
    let server = RedisServer::running();
    server.command(&["SET", "a", "$3\r\nno protocol\r\n"]);
    server.command(&["LPUSH", "list", "1"]);
    let pipe = up(&server, |_| {}).await;
    assert_eq!(read(&pipe, "a").await, Ok("$3\r\nno protocol\r\n".to_owned()));
    assert_eq!(read(&pipe, "nothing").await, Ok(String::new()));
    let refused = read(&pipe, "list").await.unwrap_err();
    assert!(refused.starts_with("WRONGTYPE "), "{refused}");
}

#[tokio::test]
async fn many_at_once_each_get_their_own() {
    let server = RedisServer::running();
    let long = "x".repeat(200_000);
    for n in 0..50 {
        server.command(&["SET", &format!("k{n}"), &format!("{n}:{}", &long[..n * 4_000])]);
    }
    let pipe = up(&server, |_| {}).await;
    let asked: Vec<_> = (0..500).map(|n| (n % 50, ask(&pipe, &format!("k{}", n % 50), LONG))).collect();
    for (n, answer) in asked {
        let value = answer.await.unwrap().unwrap();
        assert_eq!(value, format!("{n}:{}", &long[..n * 4_000]), "{n}");
    }
}

#[tokio::test]
async fn of_longer_values_only_so_much_is_read() {
    let server = RedisServer::running();
    server.command(&["SETRANGE", "long", &(4 << 20).to_string(), "end"]);
    let pipe = up(&server, |_| {}).await;
    assert_eq!(read(&pipe, "long").await.unwrap().len(), super::super::LONGEST_VALUE);
    assert_eq!(read(&pipe, "nothing").await, Ok(String::new()), "and the connection goes on");
}

#[tokio::test]
async fn logins_and_databases() {
    let server = RedisServer::running();
    server.command(&[
        "ACL",
        "SETUSER",
        "reader",
        "on",
        ">two words\"",
        "~fb-test:*",
        "~a",
        "-@all",
        "+getrange",
        "+select",
    ]);
    server.command(&["EVAL", "redis.call('SELECT',3) return redis.call('SET',KEYS[1],'of three')", "1", "a"]);
    let as_reader = |settings: &mut Settings| {
        settings.database = 3;
        settings.username = Some("reader".to_owned());
        settings.password = Some("two words\"".to_owned());
    };
    let pipe = up(&server, as_reader).await;
    assert_eq!(read(&pipe, "a").await, Ok("of three".to_owned()));
    let refused = read(&pipe, "b").await.unwrap_err();
    assert!(refused.starts_with("NOPERM "), "{refused}");
    // A proof that may not be asked for proves nothing, and harms nothing.
    pipe.prove(&key("a"), clock::monotonic() + LONG);
    assert_eq!(read(&pipe, "a").await, Ok("of three".to_owned()));
    let mut wrong = settings(&server);
    as_reader(&mut wrong);
    wrong.password = Some("wrong".to_owned());
    let error = Dial::of(&Arc::new(wrong)).unwrap().connect().await.err().unwrap();
    assert!(error.to_string().contains("WRONGPASS"), "{error}");
}

#[test]
fn whom_to_ask_is_not_always_known() {
    let node = Node { host: "127.0.0.1".to_owned(), port: 1 };
    let of = |server: Server| {
        let settings = Settings { server, ..settings(&RedisServer::absent()) };
        Dial::of(&Arc::new(settings)).is_some()
    };
    assert!(!of(Server::Cluster { nodes: vec![node.clone()], tls: false }));
    assert!(!of(Server::Sentinel {
        sentinels: vec![node],
        service: "shop".to_owned(),
        tls: false,
        username: None,
        password: None,
    }));
    assert!(of(Server::Unix { path: "/nowhere".into() }));
}

#[tokio::test]
async fn who_gives_up_waiting_takes_no_answer_from_others() {
    let server = RedisServer::running();
    server.command(&["SET", "a", "1"]);
    server.command(&["SET", "b", "2"]);
    let pipe = up(&server, |_| {}).await;
    server.freeze();
    let impatient = [ask(&pipe, "a", Duration::from_millis(20)), ask(&pipe, "a", Duration::from_millis(20))];
    let patient = ask(&pipe, "b", LONG);
    for answer in impatient {
        let error = answer.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Timeout);
    }
    server.thaw();
    assert_eq!(patient.await.unwrap().unwrap(), "2");
    assert_eq!(read(&pipe, "a").await, Ok("1".to_owned()));
}

#[tokio::test]
async fn who_asks_after_others_gave_up_is_told_in_time() {
    let server = RedisServer::running();
    let pipe = up(&server, |_| {}).await;
    server.freeze();
    // Each is told that its own time is over, and not a second later that the connection is.
    for _ in 0..3 {
        let answer = ask(&pipe, "a", Duration::from_millis(20)).await.expect("the connection is still there");
        assert_eq!(answer.unwrap_err().kind(), &ErrorKind::Timeout);
        pipe.prove(&key("a"), clock::monotonic() + Duration::from_millis(20));
    }
    assert!(pipe.is_up());
    server.thaw();
    assert_eq!(read(&pipe, "a").await, Ok(String::new()));
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_answered_is_given_up() {
    let server = RedisServer::running();
    server.command(&["SET", "a", "1"]);
    let pipe = up(&server, |_| {}).await;
    server.freeze();
    let error = ask(&pipe, "a", Duration::from_millis(5)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Timeout);
    // Whoever asks after that and waits is told as soon as it is given up.
    assert!(ask(&pipe, "a", LONG).await.is_err());
    assert!(!pipe.is_up());
    server.thaw();
    until("it is connected again", || pipe.is_up()).await;
    assert_eq!(read(&pipe, "a").await, Ok("1".to_owned()));
}

#[tokio::test]
async fn a_server_that_ends_is_found_again() {
    let mut server = RedisServer::running();
    let pipe = up(&server, |_| {}).await;
    server.freeze();
    let asked = ask(&pipe, "a", LONG);
    server.kill();
    assert!(asked.await.is_err());
    assert!(pipe.ask(named("a"), clock::monotonic() + LONG).is_none());
    server.start();
    until("it is connected again", || pipe.is_up()).await;
    assert_eq!(read(&pipe, "a").await, Ok(String::new()));
}

#[tokio::test]
async fn a_connection_can_be_left_for_another() {
    let server = RedisServer::running();
    let pipe = up(&server, |_| {}).await;
    let connections = || server.command(&["INFO", "stats"]).lines().find_map(connections_received).unwrap();
    let before = connections();
    server.freeze();
    let asked = ask(&pipe, "a", LONG);
    pipe.leave();
    assert!(asked.await.is_err());
    server.thaw();
    until("it is connected again", || pipe.is_up()).await;
    assert_eq!(read(&pipe, "a").await, Ok(String::new()));
    assert_eq!(connections() - before, 2, "this one, and the one that counts");
}

fn connections_received(line: &str) -> Option<u64> {
    line.strip_prefix("total_connections_received:")?.trim().parse().ok()
}

/// A server that answers each command, by its number on its connection, with what `says` gives; the first is
/// the greeting's.
async fn scripted(says: impl Fn(usize, &[Vec<u8>]) -> Vec<u8> + Send + Sync + 'static) -> Pipe {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let says = Arc::new(says);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let says = Arc::clone(&says);
            tokio::spawn(async move { answer(stream, &*says).await });
        }
    });
    let mut settings = settings(&RedisServer::absent());
    settings.server = Server::Tcp { node: Node { host: "127.0.0.1".to_owned(), port }, tls: false };
    let pipe = Pipe::start(&Arc::new(settings)).unwrap();
    until("it is connected", || pipe.is_up()).await;
    pipe
}

async fn answer(
    stream: TcpStream,
    says: &(dyn Fn(usize, &[Vec<u8>]) -> Vec<u8> + Send + Sync),
) -> Option<()> {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    for number in 0.. {
        let mut command = Vec::new();
        for _ in 0..length(&mut reading).await? {
            let mut word = vec![0; length(&mut reading).await? + 2];
            reading.read_exact(&mut word).await.ok()?;
            word.truncate(word.len() - 2);
            command.push(word);
        }
        let words = if number == 0 { value(b"") } else { says(number, &command) };
        writing.write_all(&words).await.ok()?;
    }
    None
}

/// Of the words of a command, or of the bytes of a word.
async fn length(reading: &mut (impl AsyncBufReadExt + Unpin)) -> Option<usize> {
    let mut line = String::new();
    reading.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim().parse().ok()
}

fn value(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

#[tokio::test]
async fn answers_out_of_step_are_seen_by_a_proof() {
    // The first answer is swallowed: from then on each belongs to the question after its own.
    let pipe = scripted(|number, command| match number {
        1 => Vec::new(),
        _ => value(command.last().unwrap()),
    })
    .await;
    let first = ask(&pipe, "a", LONG);
    let second = ask(&pipe, "b", LONG);
    assert_eq!(first.await.unwrap().unwrap(), (super::super::LONGEST_VALUE - 1).to_string());
    pipe.prove(&key("a"), clock::monotonic() + LONG);
    // The proof is the second's answer, and this one the proof's.
    let third = ask(&pipe, "c", LONG);
    assert_eq!(second.await.unwrap().unwrap().len(), 16);
    assert!(third.await.is_err());
    assert!(!pipe.is_up());
}

#[tokio::test]
async fn what_is_no_answer_ends_the_connection() {
    for words in [
        b"+OK\r\n".as_slice(),
        b":1\r\n",
        b"*1\r\n$1\r\na\r\n",
        b"$9999999999\r\n",
        b"$1\r\nab\r\n",
        b"\x00\xff\r\n",
        &[b'-'; 2048],
    ] {
        let owned = words.to_vec();
        let pipe = scripted(move |_, _| owned.clone()).await;
        assert!(ask(&pipe, "a", LONG).await.is_err(), "{}", words.escape_ascii());
    }
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_ends_the_connection() {
    let pipe = scripted(|_, _| [value(b"1"), value(b"2")].concat()).await;
    let first = ask(&pipe, "a", LONG).await;
    assert_eq!(first.unwrap().unwrap(), "1");
    until("it is given up", || !pipe.is_up()).await;
}

#[tokio::test]
async fn whoever_is_no_server_is_not_asked() {
    for greeting in
        ["-LOADING Redis is loading\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "$0\r\n\r\n$0\r\n\r\n", ""]
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(greeting.as_bytes()).await.unwrap();
            // Open until the other side closes it.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            rest
        });
        let mut settings = settings(&RedisServer::absent());
        settings.server = Server::Tcp { node: Node { host: "127.0.0.1".to_owned(), port }, tls: false };
        let connected = Dial::of(&Arc::new(settings)).unwrap().connect().await;
        assert!(connected.is_err(), "{greeting}");
        drop(connected);
        let said = String::from_utf8(server.await.unwrap()).unwrap();
        let probe = Names::new("fb-test").probe();
        assert!(said.contains(&*probe.as_str_lossy()), "it read as records are read: {said}");
    }
}

#[tokio::test]
async fn there_is_a_bound_on_questions() {
    let pipe = scripted(|_, _| Vec::new()).await;
    let asked: Vec<_> = (0..MOST).map(|_| ask(&pipe, "a", LONG)).collect();
    assert!(pipe.ask(named("a"), clock::monotonic() + LONG).is_none());
    drop(asked);
}

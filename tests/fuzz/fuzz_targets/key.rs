//! The cache key (RFC 9111 2): a bound on its length, and no request passes for another one.

#![no_main]

use forebay::caching::key::{KeyRecipe, MAX_KEY, TRACKING};
use forebay_fuzz::{halves, map};
use http::header::COOKIE;
use http::{HeaderMap, HeaderName};
use libfuzzer_sys::fuzz_target;

fn text(bytes: &[u8]) -> String {
    bytes.iter().filter(|byte| byte.is_ascii_graphic()).map(|byte| char::from(*byte)).collect()
}

fuzz_target!(|data: &[u8]| {
    let (target, fields) = halves(data);
    let target = format!("/{}", text(target));
    let recipe = KeyRecipe {
        query_exclude: TRACKING.iter().map(|name| (*name).to_owned()).collect(),
        query_include: Vec::new(),
        sort_query: fields.first().is_some_and(|byte| byte & 1 == 1),
        headers: vec![HeaderName::from_static("x-tenant")],
        cookies: vec!["currency".to_owned()],
    };
    let mut headers = map(&HeaderName::from_static("x-tenant"), fields);
    headers.extend(map(&COOKIE, fields));
    let Ok(key) = recipe.key("http", "a", &target, &headers) else { return };
    assert!(key.text.len() <= MAX_KEY);
    assert_eq!(recipe.key("http", "a", &target, &headers).as_ref(), Ok(&key));
    // Fields come after the target and never look like a part of it.
    let plain = recipe.key("http", "a", &target, &HeaderMap::new()).expect("shorter");
    assert!(key.text.starts_with(&plain.text) && !plain.text.contains(&b'\n'));
    // Without a recipe the key is the target.
    let bare = KeyRecipe::default().key("http", "a", &target, &headers).expect("short");
    assert_eq!(bare.text, format!("http://a{target}"));
    // A recipe that only includes errs towards the key.
    let including = KeyRecipe { query_include: vec!["id".to_owned()], ..KeyRecipe::default() };
    let included = including.key("http", "a", &target, &HeaderMap::new()).expect("shorter");
    assert!(included.text.len() <= bare.text.len());
});

//! `forebay demo`: the first thing a visitor runs.

use crate::support::*;

#[test]
fn the_demo_answers_first_a_miss_then_a_hit_with_age() {
    let demo = Forebay::demo();
    let miss = demo.get("/api/products/1");
    assert_eq!((miss.status, miss.x_cache(), miss.is_complete()), (200, "MISS", true));
    assert_eq!(miss.age(), None);
    let product: serde_json::Value = serde_json::from_slice(&miss.body).expect("a product in JSON");
    assert!(product.is_object(), "{product}");
    let hit = demo.get("/api/products/1");
    assert_eq!((hit.status, hit.x_cache(), hit.body == miss.body), (200, "HIT", true));
    assert!(hit.age().is_some());
    assert_eq!(hit.field("surrogate-key"), None, "tag fields stay inside");
    assert_ne!(demo.get("/api/products/2").body, miss.body);
}

#[test]
fn the_tour_names_addresses_that_work() {
    let demo = Forebay::demo();
    let address = demo.address.to_string();
    until("a curl command", || {
        demo.log().iter().any(|line| line.contains("curl") && line.contains(&address))
    });
}

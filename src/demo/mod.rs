//! The demonstration: a shop to stand in front of, and a guided tour of what the proxy makes of it.
//!
//! Decides: what the product service sells and how it answers, which configuration `forebay demo`
//! runs on, which commands the tour shows. Never touches: the proxy, its rules or its stores. The
//! product service is a backend like any other, with its own reading of HTTP, so that what works in
//! front of it works in front of a stranger's.

mod answer;
mod catalogue;
mod endpoints;
mod input;
mod payload;
mod picture;
pub mod product_service;
mod query;
mod settings;
pub mod tour;

pub use settings::config_text;

//! forebay: a caching reverse proxy.
//!
//! A forebay is the pool that stands in front of a dam. This one stands in front of an HTTP backend,
//! answers cacheable requests from memory and from a Redis that a whole fleet shares, collapses
//! concurrent misses into one fetch, and never lets a failure of the cache become a user's.
//!
//! # The life of a request
//!
//! [`proxy`] is the file to read first. One async function, [`proxy::Proxy::handle`], from top to
//! bottom: receive → select route → admit → look up → judge reuse → collapse → forward → judge
//! storability → store → deliver → record. Each step takes one verdict from the pure core or has one
//! effect through a collaborator.
//!
//! # The map
//!
//! Imports point down only (`tests/layering.rs` checks it):
//!
//! | module | decides | never touches |
//! |---|---|---|
//! | [`cli`] | what a command does with its arguments | requests |
//! | [`server`] | who may connect, for how long, and how answers are framed | HTTP meaning |
//! | [`admin`] | who may look inside and purge, and what they are told | a client's request |
//! | [`proxy`] | the order of the steps of a request | rules, storage formats |
//! | [`store`] | where records are and whether their bytes can be trusted | freshness, requests |
//! | [`collapse`] | who fetches and who waits | what the bytes mean |
//! | [`upstream`] | connections to origins and their time limits | caching |
//! | [`observe`] | names of series, form of log lines | requests |
//! | [`config`] → [`rules`] | what the file means; which route a request is for | the network |
//! | [`caching`] | every rule of RFC 9111 and its family | clocks, sockets, tokio |
//! | [`semantics`] | what fields, dates, validators, ranges mean (RFC 9110) | caching |
//! | [`wire`] | which bytes are one message and which are refused (RFC 9112), on both sides | meaning |
//! | [`clock`] | nothing: it is the only reader of clocks | |
//! | [`boxed`] | nothing: it makes large values where they stay | |
//! | [`demo`] | the product service and the guided tour | the proxy's insides |
//!
//! # What always holds
//!
//! 1. A response goes only to someone the origin would have given it to. Sharing is decided after
//!    the response head, never before it: only what may be stored may be shared with waiters.
//! 2. A body is complete or it is visibly broken.
//! 3. A cache failure is never a user's failure.
//! 4. After a purge is acknowledged, no connected proxy serves the old response; a fetch that began
//!    before an invalidation never brings it back ([`caching::stamp`], [`store::journal`]).
//! 5. One miss is one origin fetch, in the process always, in the fleet while Redis answers.
//! 6. Memory is bounded by configuration.
//! 7. One reading of a message: what is ambiguous is refused; key and forwarded target are the same
//!    bytes.
//! 8. Every decision has one reason out of one closed list ([`caching::outcome::Reason`]).
//! 9. No Redis key without our prefix, no data key without expiry, no scanning of the keyspace.
//!
//! # Threads
//!
//! One single-threaded event loop per worker, each with its own listener on the shared port, its own
//! connections to origins and its own connections to Redis. Shared by all: memory tier, purge table,
//! flights, compiled rules, metrics. The fleet's journal of purges is read on a thread of its own, and the
//! admin listener has another, so that busy event loops delay neither. No lock is held across an await.

pub mod admin;
pub mod boxed;
pub mod caching;
pub mod cli;
pub mod clock;
pub mod collapse;
pub mod config;
pub mod demo;
pub mod observe;
pub mod proxy;
pub mod rules;
pub mod semantics;
pub mod server;
pub mod store;
pub mod upstream;
pub mod wire;

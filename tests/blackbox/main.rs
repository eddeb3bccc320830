//! forebay from outside: the real binary between a scripted origin, raw clients and real Redis servers.
//!
//! Barriers instead of sleeps: a test lets time pass only where time is what it is about.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod access_log;
mod admin;
mod basics;
mod config;
mod continued;
mod demo;
mod explained;
mod failure;
mod faults;
mod fields;
mod fleet;
mod fleet_lock;
mod freshness;
mod hostile_redis;
mod limits;
mod long_bodies;
mod purge;
mod reasons;
mod redis;
mod redis_modes;
mod rfc;
mod sharing;
mod stampede;
mod streaming;
mod support;
mod truncation;
mod tunnels;
mod warm;
mod wire_answers;
mod wire_requests;

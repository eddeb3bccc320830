//! Collapsed forwarding (RFC 9111 4, "collapsed requests"): one miss is one origin fetch.
//!
//! Decides: who leads a fetch and who waits ([`flight`]), how one growing body reaches many readers
//! ([`fill`]), and how long a process waits for the fleet's lock ([`lease`]). Never touches: HTTP
//! rules (whether an answer may be shared is the caller's verdict), sockets, stores.

pub mod fill;
pub mod flight;
pub mod lease;

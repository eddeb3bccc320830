//! Interim responses (RFC 9110 15.2, RFC 8297) on their way from an origin to a client.
//!
//! Decides: to whom they go, the client whose own request is at the origin and who speaks HTTP/1.1, and
//! what of them. Others that wait for the same fetch get the final response alone. Never touches:
//! storage, or when they are written (that is the connection's).

use std::sync::Arc;

use http::header::TRAILER;
use http::{StatusCode, Version};

use super::Proxy;
use super::asked::Asked;
use crate::caching::storability;
use crate::rules::route::Route;
use crate::upstream::SendOptions;
use crate::upstream::response::Head;
use crate::wire::Connection;

impl Proxy {
    /// How a request is sent so that its own client hears the origin's interim responses.
    ///
    /// But for 100, which answers an expectation that ended here, and 101, which is final here.
    pub(super) fn relaying(&self, asked: &Asked, route: &Arc<Route>, connection: &Connection) -> SendOptions {
        if asked.head.version != Version::HTTP_11 {
            return SendOptions::default();
        }
        let (interim, site, route) = (connection.relay(), Arc::clone(&self.site), Arc::clone(route));
        let relay = move |head: &Head| {
            if matches!(head.status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
                return;
            }
            let mut head = head.clone();
            head.clean(&site.via);
            let Some(mut head) = head.into_parts() else { return };
            storability::client_fields(&mut head.headers, false, &route.policy);
            head.headers.remove(TRAILER);
            interim.send(head.status, &head.headers);
        };
        SendOptions { informational: Some(Arc::new(relay)) }
    }
}

//! All rejections: values checked against each other, and the result resolved into [`Rules`].
//!
//! Decides: which combinations of settings make sense. Never touches: TOML (that is `read`), files,
//! or anything outside the text: a certificate or a name that does not resolve is no error here.

mod process;
mod routes;
mod upstreams;

use std::sync::Arc;

use toml::de::DeTable;

use super::read::Reading;
use super::schema;
use crate::rules::Rules;

/// The rules that `root` describes; `None` when something of it has been reported as an error.
pub(super) fn rules(reading: &mut Reading<'_>, root: &DeTable<'_>) -> Option<Rules> {
    reading.unknown_keys("", root, &[schema::ROOT]);
    let server = process::server(reading, root);
    let admin = process::admin(reading, root, server.as_ref());
    let memory = process::memory(reading, root);
    let redis = process::redis(reading, root);
    let upstreams = upstreams::upstreams(reading, root, server.as_ref());

    let (routes, matcher) = routes::routes(reading, root, &upstreams).unzip();

    let mut rules = Rules {
        server: server?.value,
        admin: admin?,
        memory: memory?,
        redis: redis?,
        upstreams: upstreams.into_iter().map(|(_, upstream)| upstream).collect::<Option<_>>()?,
        routes: Vec::new(),
        matcher: matcher?,
        warnings: Vec::new(),
    };
    let max_object_size = rules.max_object_size();
    if max_object_size == 0 {
        reading.found.warning_of_file("memory.max_size is \"0\" and there is no [redis]: nothing is cached");
    }
    for mut route in routes? {
        route.policy.max_object_size = max_object_size;
        rules.routes.push(Arc::new(route));
    }
    Some(rules)
}

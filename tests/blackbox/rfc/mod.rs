//! RFC 9110, 9111, 9211, 9213, 9875, 5861 and 8246 from outside, clause by clause: one suite, on the
//! memory tier alone and on Redis alone.
//!
//! Most of it is tables. A [`Row`] is one resource: what the origin answers, what is asked twice, and
//! what becomes of the second request. `{-60}` in a line is an HTTP-date a minute ago. Time hardly
//! passes here: what is to be stale arrives old, by its `Age` or its `Date`.

/// Instantiates each test on either tier.
macro_rules! both_tiers {
    ($($(#[$attribute:meta])* fn $name:ident($tiers:ident: Tiers) $body:block)*) => {
        $($(#[$attribute])* mod $name {
            use super::*;

            fn story($tiers: Tiers) $body

            #[test]
            fn in_memory() {
                story(Tiers::Memory);
            }

            #[test]
            fn in_redis() {
                story(Tiers::Redis);
            }
        })*
    };
}

mod age;
mod cache_status;
mod conditionals;
mod directives;
mod freshness;
mod head;
mod interim;
mod invalidation;
mod parsing;
mod partial;
mod post;
mod ranges;
mod stage;
mod stale;
mod storing;
mod targeted;
mod validation;
mod vary;

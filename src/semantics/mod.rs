//! HTTP semantics (RFC 9110) that hold for every message, cached or not.
//!
//! Decides: how a field is read, what a date or validator means, which precondition holds, which
//! bytes a range names. Never touches: caching rules, sockets, clocks (time is an argument).
//!
//! # Clause table: RFC 9110
//!
//! Each statement that concerns a shared cache and is not about caching itself, which is in the table
//! of [`crate::caching`]. With it the function that decides, and the tests that show it, beside the
//! function or in the black-box suite; or `n/a` and why.
//!
//! | clause | function | test |
//! |---|---|---|
//! | 5.2, 5.3: several lines of a list are one list | [`fields::members`] | `lists_span_lines` |
//! | 5.3 MUST NOT: the order of lines of one name changes | | n/a: fields are forwarded and stored in the order they came |
//! | 5.5: fields that are no lists: repeated, they are malformed | [`fields::sole`] | `lists_span_lines`, `rfc9110_13_1_3_if_modified_since`, `rfc9110_14_1_1_specifiers` |
//! | 5.6.1.2 MUST: empty members of lists are ignored | [`fields::split_list`] | `rfc9110_5_6_1_lists` |
//! | 5.6.2: tokens | [`fields::is_token`] | `rfc9110_5_6_2_tokens` |
//! | 5.6.4 MUST: quoted strings, quoted pairs | [`fields::unquote`], [`fields::split_list`] | `rfc9110_5_6_4_quoted_strings` |
//! | 5.6.6: parameters | [`fields::parameters`] | `rfc9110_5_6_6_parameters` |
//! | 5.6.7 MUST: all three formats of a date are accepted | [`http_date::parse`] | `rfc9110_5_6_7_formats`, `an_independent_parser_agrees` |
//! | 5.6.7 MUST: dates are generated as IMF-fixdate | [`http_date::format()`] | `what_is_written_is_read` |
//! | 5.6.7 MUST: two-digit years more than 50 years ahead lie in the past | [`http_date::parse`] | `rfc9110_5_6_7_two_digit_years` |
//! | 5.6.7 MUST NOT: anything but GMT | [`http_date::parse`] | `rfc9110_5_6_7_what_is_no_date` |
//! | 6.5.1 MUST NOT: trailers are merged into the header | [`crate::caching::storability::trailer_fields`] | `rfc_9110_6_5_1_trailers`, `trailers` |
//! | 6.5.1 SHOULD NOT: trailers for who has not said that it takes them | [`crate::proxy::deliver::Content::Trailed`] | `trailers` |
//! | 6.5.2 MAY: an intermediary discards trailers | | n/a: they pass, and are stored, but behind the whole content alone |
//! | 6.6.1 MUST: a response without `Date` is given the time of its receipt | [`crate::caching::storability::judge`] | `rfc_9110_6_6_1_a_missing_date_is_added_a_present_one_never_rewritten`, `a_response_without_date_gets_one_that_stays` |
//! | 7.6.1 MUST: what `Connection` nominates is removed, and so is `Connection` | [`fields::remove_hop_by_hop`] | `rfc9110_7_6_1_nominations`, `nothing_nominated_survives` |
//! | 7.6.1 MUST NOT: fields for all recipients as connection options | [`fields::cannot_be_nominated`] | `what_cannot_be_nominated`, `framing_host_and_our_own_fields_cannot_be_nominated_away` |
//! | 7.7 MUST NOT: `no-transform` content is transformed | | n/a: nothing is transformed |
//! | 8.6 MUST NOT: a HEAD's `Content-Length` that is not the GET's | [`crate::caching::stored::StoredResponse::body`] | `head_is_answered_from_a_stored_get` |
//! | 8.8.1: strong and weak validators | [`validator::EntityTag::is_strong`], [`validator::date_is_strong`] | `rfc9110_8_8_3_2_comparison`, `rfc9110_8_8_2_2_strong_dates` |
//! | 8.8.2.1: generating `Last-Modified` | | n/a: an origin's business |
//! | 8.8.2.2: when `Last-Modified` is a strong validator | [`validator::date_is_strong`] | `rfc9110_8_8_2_2_strong_dates` |
//! | 8.8.3: entity tags, weakness in upper case alone | [`validator::EntityTag::parse`] | `rfc9110_8_8_3_syntax` |
//! | 8.8.3.1: generating entity tags | | n/a: an origin's business |
//! | 8.8.3.2: strong comparison | [`validator::EntityTag::strongly_equals`] | `rfc9110_8_8_3_2_comparison` |
//! | 8.8.3.2: weak comparison | [`validator::EntityTag::weakly_equals`] | `rfc9110_8_8_3_2_comparison` |
//! | 12.5.5: `Vary` | [`crate::caching::vary::nominated`] | `rfc_9110_12_5_5_names` |
//! | 13.1 MUST NOT: conditions are evaluated that a cache does not know | [`preconditions::evaluate`] | `rfc9111_4_3_2_what_is_for_the_origin` |
//! | 13.1.1 MAY: `If-Match` is ignored by a cache | [`preconditions::evaluate`] | `rfc9111_4_3_2_what_is_for_the_origin` |
//! | 13.1.2 MUST: `If-None-Match` compares weakly; a list; `*` | [`preconditions::evaluate`], [`validator::TagList`] | `rfc9110_13_1_2_if_none_match`, `rfc9110_13_1_2_lists`, `only_what_was_named` |
//! | 13.1.3 MUST: `If-Modified-Since` is ignored beside `If-None-Match` | [`preconditions::evaluate`] | `rfc9110_13_2_2_precedence` |
//! | 13.1.3 MUST: ... when it is no date, or repeated, or the method is neither GET nor HEAD | [`preconditions::evaluate`] | `rfc9110_13_1_3_if_modified_since` |
//! | 13.1.4: `If-Unmodified-Since` is for the origin | [`preconditions::evaluate`] | `rfc9111_4_3_2_what_is_for_the_origin` |
//! | 13.1.5 MUST: `If-Range` is ignored without `Range` | [`range::judge`] | `rfc9110_13_1_5_if_range` |
//! | 13.1.5 MUST: a date matches exactly, and only where it is strong | [`range::judge`], [`validator::date_is_strong`] | `rfc9110_13_1_5_if_range` |
//! | 13.1.5 MUST: an entity tag matches strongly | [`range::judge`], [`validator::EntityTag::strongly_equals`] | `rfc9110_13_1_5_if_range` |
//! | 13.1.5 SHOULD: where it does not hold, `Range` is ignored | [`range::judge`] | `rfc9110_13_1_5_if_range` |
//! | 13.2.1 MUST: conditions on anything but a success are ignored | [`preconditions::evaluate`] | n/a: the caller asks of a stored 200 alone |
//! | 13.2.2 MUST: the order of evaluation | [`preconditions::evaluate`], [`range::judge`] | `rfc9110_13_2_2_precedence`, `conditionals_are_answered_from_a_fresh_response` |
//! | 14.1: units in any case | [`range::judge`] | `rfc9110_14_1_1_specifiers` |
//! | 14.1.1 MUST: an invalid ranges-specifier is ignored | [`range::judge`] | `rfc9110_14_1_1_specifiers` |
//! | 14.1.2: first, last and suffix; what can be satisfied | [`range::judge`] | `rfc9110_14_1_2_satisfiability`, `what_is_given_exists` |
//! | 14.2 MUST: `Range` is ignored in an unknown unit | [`range::judge`] | `rfc9110_14_1_1_specifiers` |
//! | 14.2 MUST: ... and with any method but GET | [`crate::caching::admission::RequestFacts::range`] | n/a: the caller asks for GET alone |
//! | 14.2 SHOULD: many small or overlapping ranges are ignored | [`range::judge`], [`range::MAX_RANGES`] | `rfc9110_14_2_floods` |
//! | 14.3 MAY: `Accept-Ranges` is sent | | n/a: the origin's, stored as any field |
//! | 14.4 MUST NOT: recombine by a `Content-Range` that is invalid | [`range::ContentRange::parse`], [`crate::caching::partial::part`] | `rfc9110_14_4_content_range`, `parts_agree_with_content_range` |
//! | 14.5: partial PUT | | n/a: forwarded as it is |
//! | 14.6: `multipart/byteranges` | [`range::Multipart`] | `rfc9110_14_6_multipart` |
//! | 15.2 MUST: a proxy forwards interim responses, but what it asked for itself | [`crate::wire::Interim::send`] | `the_final_response_is_right`, `hints_go_out_at_once_to_the_client_that_asked` |
//! | 15.2 MUST NOT: interim responses to HTTP/1.0 | [`crate::wire::Connection::relay`] | `interim_responses_before_what_is_not_stored_and_before_304` |
//! | 15.3.7 MUST: a 206 has the fields a 200 would have had | [`crate::caching::stored::StoredHead::fields`] | `fields_pass_in_order_and_byte_for_byte` |
//! | 15.3.7 SHOULD NOT: ... and no more in answer to `If-Range` | | n/a: all are sent; less would save bytes and help nobody |
//! | 15.3.7.1 MUST: one range has `Content-Range` | [`range::ContentRange::satisfied`] | `rfc9110_14_4_content_range` |
//! | 15.3.7.1 MUST NOT: one range as multipart | [`range::judge`] | `rfc9110_14_1_2_satisfiability` |
//! | 15.3.7.2 MUST: a `Content-Range` in each part | [`range::Multipart::part_head`] | `rfc9110_14_6_multipart` |
//! | 15.3.7.2 MAY: ranges are coalesced or reordered | [`range::judge`] | n/a: they come as they were asked |
//! | 15.3.7.3 MUST NOT: parts are combined without one strong validator | [`crate::caching::partial::join`] | `rfc_9111_3_4_only_with_one_strong_validator`, `what_is_not_the_rest_is_not_joined` |
//! | 15.4.5 MUST: a 304 has `Cache-Control`, `Content-Location`, `Date`, `ETag`, `Expires`, `Vary` of the 200 | [`preconditions::Precondition::NotModified`] | `conditionals_are_answered_from_a_fresh_response` shows it of ETag |
//! | 15.4.5 MUST: a 304 forwarded for a conditional request | [`crate::caching::validation::freshen`] | `one_clients_validators_never_shape_anothers_answer` |
//! | 15.5.17 SHOULD: a 416 has `Content-Range: bytes */length` | [`range::RangeVerdict::Unsatisfiable`], [`range::ContentRange::unsatisfied`] | `rfc9110_14_4_content_range`, `rfc9110_14_1_2_satisfiability` |

pub mod fields;
pub mod forwarded_for;
pub mod http_date;
pub mod preconditions;
pub mod range;
pub mod validator;

/// A point in wall-clock time: milliseconds since the Unix epoch.
///
/// The pure core never asks what time it is; whoever calls it does, once per event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Milliseconds from `earlier` to `self`; zero when `earlier` lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This time plus `millis`, saturating.
    #[must_use]
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

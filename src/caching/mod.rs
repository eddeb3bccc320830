//! HTTP caching (RFC 9111 and its family): every rule, as pure functions.
//!
//! Decides: what may be stored and for how long, what may be reused and how, which variant answers
//! a request, what a validation changes, what an unsafe method invalidates, and the one closed list
//! of reasons. Never touches: tokio, sockets, clocks (time is an argument), stores, configuration
//! files. Each verdict is an enum that carries its [`outcome::Reason`].
//!
//! # Clause table
//!
//! Each normative statement that concerns a shared cache: RFC 9111 from 1.2.2 to 7.3, then what other
//! documents add. With it the function that decides, and the tests that show it, beside the function
//! or in the black-box suite; or `n/a` and why. What RFC 9110 says of every message is in the table of
//! [`crate::semantics`]. `tests/documents.rs` checks that the functions and the tests exist.
//!
//! ## RFC 9111
//!
//! | clause | function | test |
//! |---|---|---|
//! | 1.2.2: delta-seconds are digits; overflow is 2^31 | [`cache_control::DeltaSeconds::parse`], [`age::age_seconds`] | `rfc9111_1_2_2_delta_seconds`, `rfc_9111_1_2_2_age_is_bounded` |
//! | 2: the key is method and target URI | [`key::KeyRecipe::key`], [`stored::Traits::HEAD_ONLY`] | `rfc9111_2_keys_are_the_forwarded_bytes`, `keys_are_injective`, `the_key_is_scheme_host_path_and_query_byte_for_byte` |
//! | 3 MUST NOT: the method is not understood | [`storability::judge`] | `rfc_9111_3_and_4_which_requests_are_looked_up`, `rfc_9110_9_3_3_post` |
//! | 3 MUST NOT: the status is not final | [`storability::judge`] | `rfc_9111_3_statuses`, `rule_13_interim_answers_never_replace_the_final_one` |
//! | 3 MUST NOT: 206, 304 or `must-understand`, and the status is not understood | [`storability::judge`], [`freshness::is_understood`] | `rfc_9111_3_statuses`, `rfc_9111_3_and_5_2_2_directives` |
//! | 3 MUST NOT: `no-store` | [`storability::judge`] | `rfc_9111_3_and_5_2_2_directives`, `private_and_no_store_in_any_case_on_any_line_are_never_shared` |
//! | 3 MUST NOT: `private`, in a shared cache | [`storability::judge`] | `rfc_9111_3_and_5_2_2_directives`, `a_hundred_private_answers_are_a_hundred_different_ones_fetched_at_once` |
//! | 3 MUST NOT: `Authorization`, and nothing allows sharing | [`storability::judge`] | `rfc_9111_3_5_authorization` |
//! | 3 MUST NOT: neither `public`, explicit freshness nor a heuristically cacheable status | [`storability::judge`], [`freshness::lifetime`] | `rfc_9111_3_statuses`, `rfc_9111_3_for_validation_alone` |
//! | 3: a cache extension may override any of these | [`targeted::governing`] | `rfc9213_2_2_target_list` |
//! | 3: `private` permits a private cache | | n/a: this cache is shared |
//! | 3.1 MUST: all fields are stored, unknown ones too | [`storability::judge`] | `rfc_9111_3_1_fields` |
//! | 3.1 MAY: `Connection` and what it nominates go before storage | [`crate::semantics::fields::remove_hop_by_hop`] | `nothing_withheld_is_ever_stored`, `nominated_fields_and_tags_are_not_stored` |
//! | 3.1 MAY: so do the other fields of one hop | [`crate::semantics::fields::is_hop_by_hop`] | `rfc9111_3_1_never_stored` |
//! | 3.1: fields of a qualified `no-cache` or `private` are not stored | [`storability::judge`], [`validation::freshen`] | `rfc_9111_3_1_fields` |
//! | 3.1 MUST NOT: proxy authentication fields | [`crate::semantics::fields::is_hop_by_hop`] | `rfc9111_3_1_never_stored` |
//! | 3.1 MAY: trailers are stored apart from the header, and sent again behind the whole content | [`storability::trailer_fields`], [`stored::StoredHead::trailers`] | `rfc_9110_6_5_1_trailers`, `trailers` |
//! | 3.1 MUST NOT: they are combined with the header | [`stored::StoredHead::trailers`] | `trailers` |
//! | 3.2 MUST: an update replaces each field it carries | [`validation::freshen`] | `rfc_9111_3_2_fields_a_304_replaces`, `validation_renews_the_response_and_merges_fields` |
//! | 3.2: but what is never stored, and `Content-Length` | [`validation::freshen`] | `rfc_9111_3_2_fields_a_304_replaces` |
//! | 3.2 MAY, SHOULD: nor what the stored bytes depend on, and no more than that | [`validation::freshen`] | `any_304_leaves_the_content_described_as_it_is` |
//! | 3.3 MAY: a 200 that broke off is stored as incomplete | | n/a: what breaks off is not stored (`content_length_cut_anywhere`, `chunked_cut_anywhere`) |
//! | 3.3 MAY: a 206 is stored as an incomplete 200 | [`partial::part`], [`stored::Part`] | `rfc_9111_3_3_parts` |
//! | 3.3 MUST NOT: store parts in units that are not understood | [`partial::part`] | `rfc_9110_14_4_content_range`, `parts_agree_with_content_range` |
//! | 3.3 MAY: a part is completed by a range request | [`partial::completion`] | `rfc_9111_3_4_what_is_missing_is_asked_for_once`, `a_part_is_completed_by_its_rest`, `what_is_not_the_rest_is_not_joined` |
//! | 3.3 MUST NOT: answer with a part, but a range wholly within it | [`reuse::judge`], [`stored::Part::covers`] | `who_may_be_given_it`, `a_part_answers_nothing_that_it_lacks` |
//! | 3.3 MUST NOT: send a part without 206 | [`stored::StoredHead::part`] | `rfc_9111_3_3_parts`, `one_clients_range_never_shapes_anothers_answer` |
//! | 3.4 MAY: parts are combined where they share a strong validator | [`partial::join`] | `rfc_9111_3_4_parts_are_joined`, `rfc_9111_3_4_only_with_one_strong_validator` |
//! | 3.4 MAY: the rest of an answer that a store loses on its way is taken from the origin, where both share a strong validator | [`continuation::Missing`] | `only_the_very_bytes_are_taken_for_the_rest`, `whatever_becomes_of_a_chunk_the_answer_is_whole`, `what_is_not_the_rest_breaks_the_answer_off` |
//! | 3.4 MUST: the newer part's fields update the older's | [`partial::join`] | `rfc_9111_3_4_the_newer_fields_and_every_id_of_both` |
//! | 3.5 MUST NOT: reuse an answer to `Authorization` unless the response allows it | [`storability::judge`], [`reuse::judge`] | `rfc_9111_3_5_authorization`, `who_may_be_given_it`, `answers_to_authorization_are_shared_only_when_the_origin_says_so` |
//! | 3.5: `must-revalidate`, `public`, `s-maxage` allow it | [`stored::Traits::SHARED_WITH_AUTHORIZATION`] | `rfc_9111_3_5_authorization` |
//! | 4 MUST NOT: another target URI | [`key::KeyRecipe::key`] | `keys_are_injective`, `the_value_of_another_key_is_not_believed` |
//! | 4 MUST NOT: the method does not allow it | [`reuse::judge`], [`admission::admit`] | `who_may_be_given_it`, `head_is_answered_from_a_stored_get` |
//! | 4 MUST NOT: nominated fields do not match | [`vary::variant_hash`] | `rfc_9111_4_1_which_requests_match` |
//! | 4 MUST NOT: `no-cache`, and not validated | [`reuse::judge`] | `rfc_9111_5_2_2_4_no_cache_is_validated_however_fresh` |
//! | 4 MUST NOT: neither fresh, allowed to be stale nor validated | [`reuse::judge`] | `rfc_9111_4_2_fresh_is_lifetime_above_age`, `nothing_is_served_past_every_window` |
//! | 4 MUST: reuse generates `Age` | [`age::age_seconds`], [`stored::StoredHead::current_age`] | `rfc_9111_1_2_2_age_is_bounded`, `first_a_miss_then_hits_with_age` |
//! | 4 MUST: unsafe methods are written through | [`admission::admit`] | `rfc_9111_3_and_4_which_requests_are_looked_up`, `other_methods_and_get_with_content_are_never_answered_from_the_cache` |
//! | 4: one response may satisfy several requests, each as reuse allows | [`reuse::judge`], [`storability::judge`] | `different_variants_and_credentials_never_share_a_fetch`, `a_hundred_private_answers_are_a_hundred_different_ones_fetched_at_once` |
//! | 4 MUST: of several suitable responses the most recent | [`vary::VaryIndex::select`] | `rfc_9111_4_1_the_most_recent_match_answers` |
//! | 4: forward with `max-age=0` to disambiguate | | n/a: the most recent needs no help |
//! | 4 MUST: without a clock, validate always | | n/a: there is a clock |
//! | 4.1 MUST NOT: reuse unless every nominated field matches | [`vary::variant_hash`], [`vary::VaryIndex::select`] | `rfc_9111_4_1_which_requests_match`, `variants_stay_side_by_side` |
//! | 4.1: white space, combined lines and known normalisations may differ | [`vary::variant_hash`] | `rfc_9111_4_1_which_requests_match`, `variants_do_not_depend_on_lines` |
//! | 4.1: absence matches absence alone | [`vary::variant_hash`] | `rfc_9111_4_1_which_requests_match`, `values_of_one_field_never_pass_for_those_of_another` |
//! | 4.1: `*` never matches | [`vary::nominated`] | `rfc_9110_12_5_5_names`, `vary_counts_on_every_line_and_a_star_anywhere_means_never` |
//! | 4.1 MAY: a preference among several matches | | n/a: the most recent, the other choice that the clause gives |
//! | 4.1 SHOULD: prefer responses with `Vary` to one without | | n/a: a response without it takes the place of the variants, as the origin's newest word on what selects |
//! | 4.1: nothing matches: forward, with the stored entity tags | [`validation::condition`], [`vary::VaryIndex::etags`] | `rfc_9111_4_3_1_the_condition` |
//! | 4.2: fresh is a lifetime above the age | [`stored::StoredHead::remaining`] | `rfc_9111_4_2_fresh_is_lifetime_above_age` |
//! | 4.2: limits of the client need not be honoured | [`admission::RequestFacts::read`] | `rfc_9111_5_2_1_request_directives_count_only_where_respected`, `clients_directives_count_only_where_the_route_says_so` |
//! | 4.2 SHOULD: dates match in any case | [`crate::semantics::http_date::parse`] | `rfc9111_4_2_dates_in_any_case` |
//! | 4.2 MUST: coarse clocks round `Expires` down | | n/a: milliseconds are finer than any HTTP-date |
//! | 4.2 MUST NOT: local time zones | | n/a: none is ever read |
//! | 4.2 SHOULD: zones other than GMT are invalid | [`crate::semantics::http_date::parse`] | `rfc9110_5_6_7_what_is_no_date` |
//! | 4.2.1: `s-maxage`, `max-age`, `Expires` less `Date`, in this order | [`freshness::lifetime`] | `rfc_9111_4_2_1_and_rfc_9213_2_2_precedence`, `freshness_never_exceeds_what_any_directive_allows`, `s_maxage_beats_max_age_and_expires` |
//! | 4.2.1: of several values the first, or stale | [`cache_control::ResponseDirectives::parse`], [`freshness::lifetime`] | `rfc9111_4_2_1_duplicates`: the smallest, never more than the first |
//! | 4.2.1: of conflicting directives the most restrictive | [`storability::judge`], [`reuse::judge`] | `neighbours_never_loosen`, `rfc_9111_3_and_5_2_2_directives` |
//! | 4.2.1: invalid freshness is stale | [`cache_control::DeltaSeconds::Invalid`], [`freshness::lifetime`] | `rfc9111_4_2_1_invalid_is_not_absent`, `rfc_9111_4_2_1_and_rfc_9213_2_2_precedence` |
//! | 4.2.2 MAY: heuristic freshness | [`freshness::lifetime`] | `rfc_9111_4_2_2_heuristic` |
//! | 4.2.2 MUST NOT: where an explicit time is present | [`freshness::lifetime`] | `rfc_9111_4_2_2_heuristic` |
//! | 4.2.2: only statuses that allow it, and what is marked `public` | [`freshness::is_heuristically_cacheable`] | `rfc_9111_4_2_2_heuristic`, `heuristics_need_a_status_that_is_understood` |
//! | 4.2.3 MUST: `Age` counts from when the request was sent | [`age::corrected_initial_age`] | `rfc_9111_4_2_3_corrected_initial_age` |
//! | 4.2.3: the larger of apparent and corrected age | [`age::corrected_initial_age`] | `rfc_9111_4_2_3_corrected_initial_age`, `rfc_9111_4_2_3_age_on_arrival`, `age_on_arrival_counts` |
//! | 4.2.3 MAY: trust `Age` alone | | n/a: the larger of both is the safer one |
//! | 4.2.3: the current age grows with the time since receipt | [`stored::StoredHead::current_age`] | `age_never_decreases_and_freshness_never_grows` |
//! | 4.2.4 MUST NOT: stale against `no-cache`, `must-revalidate`, `s-maxage`, `proxy-revalidate` | [`storability::judge`], [`reuse::judge`], [`reuse::stale_if_error`] | `rfc_9111_4_2_4_windows_past_freshness`, `rfc_5861_3_and_4_windows`, `must_revalidate_forbids_serving_stale` |
//! | 4.2.4 MUST NOT: stale unless disconnected or permitted | [`reuse::judge`], [`reuse::stale_if_error`] | `rfc_5861_3_and_4_windows`, `nothing_is_served_past_every_window` |
//! | 4.2.4: disconnected | [`reuse::stale_if_error`] | `stale_if_error_covers_every_way_an_origin_fails`: a window of origin, route or client must allow it |
//! | 4.3.1 MUST: stored entity tags are sent | [`validation::condition`] | `rfc_9111_4_3_1_the_condition` |
//! | 4.3.1 SHOULD: `Last-Modified` too, for one stored response | [`validation::condition`] | `rfc_9111_4_3_1_the_condition` |
//! | 4.3.1 MAY: `Last-Modified` for a subrange | [`partial::completion`] | n/a: parts are completed by a strong entity tag alone |
//! | 4.3.2 SHOULD: a client's conditions are evaluated on the stored response | [`crate::semantics::preconditions::evaluate`] | `rfc9110_13_2_2_precedence`, `conditionals_are_answered_from_a_fresh_response` |
//! | 4.3.2 MUST NOT: conditions that are for the origin, or where nothing is stored | [`crate::semantics::preconditions::evaluate`], [`admission::admit`] | `rfc9111_4_3_2_what_is_for_the_origin` |
//! | 4.3.2 SHOULD: `If-None-Match` that names it, or `*`: 304 | [`crate::semantics::preconditions::evaluate`] | `rfc9110_13_1_2_if_none_match` |
//! | 4.3.2 MAY: the client's entity tags join the stored ones | [`validation::remove_preconditions`] | n/a: no client's validator shapes an answer that others may get |
//! | 4.3.2 MUST NOT: a part's entity tag joins them | [`reuse::judge`] | n/a: nothing is joined; a part that cannot answer is not validated (`who_may_be_given_it`) |
//! | 4.3.2 MUST: a 304 for a tag that the client does not have becomes a 200 | [`crate::semantics::preconditions::evaluate`] | `one_clients_validators_never_shape_anothers_answer` |
//! | 4.3.2 SHOULD: `If-Modified-Since` against `Last-Modified`, `Date` or receipt: 304 | [`crate::semantics::preconditions::evaluate`] | `rfc9110_13_1_3_if_modified_since` |
//! | 4.3.2: `If-Range` | [`crate::semantics::range::judge`] | `rfc9110_13_1_5_if_range` |
//! | 4.3.3 MUST: a full response answers the request | [`validation::Answer::Full`] | `rfc_9111_4_3_3_kinds_of_answer`, `a_200_to_a_validation_replaces_what_was_stored` |
//! | 4.3.3 MAY: it is stored | [`storability::judge`] | `a_200_to_a_validation_replaces_what_was_stored` |
//! | 4.3.3: 5xx is passed on, or counts as no answer | [`validation::Answer::Error`], [`reuse::stale_if_error`] | `rfc_9111_4_3_3_kinds_of_answer`, `stale_if_error_covers_every_way_an_origin_fails` |
//! | 4.3.4: a strong validator selects what has it | [`validation::selects`] | `rfc_9111_4_3_4_which_stored_response_a_304_selects` |
//! | 4.3.4 MUST NOT: update anything where nothing has it | [`validation::freshen`] | `rfc_9111_4_3_4_which_stored_response_a_304_selects` |
//! | 4.3.4: a weak validator selects the most recent that corresponds | [`validation::selects`], [`vary::VaryIndex::by_etag`] | `rfc_9111_4_3_4_which_stored_response_a_304_selects` |
//! | 4.3.4: without any validator, the only stored response | [`validation::selects`] | `rfc_9111_4_3_4_which_stored_response_a_304_selects` |
//! | 4.3.4 MUST: the fields of the 304 update it | [`validation::freshen`] | `rfc_9111_3_2_fields_a_304_replaces` |
//! | 4.3.5 SHOULD: HEAD updates each stored GET it could have selected, or makes it stale | [`validation::head_update`] | `rfc_9111_4_3_5_head_updates_or_invalidates_get` |
//! | 4.3.5 MUST: with the fields of the HEAD | [`validation::head_update`] | `rfc_9111_4_3_5_head_updates_or_invalidates_get` |
//! | 4.4 MUST: a non-error answer to an unsafe or unknown method invalidates the target | [`invalidation::targets`] | `rfc_9111_4_4_which_responses_invalidate`, `unsafe_methods_invalidate_on_success_only` |
//! | 4.4 MAY: `Location` and `Content-Location` too | [`invalidation::targets`] | `rfc_9111_4_4_location_and_content_location_of_the_same_origin_alone`, `rfc_3986_5_4_references` |
//! | 4.4 MUST NOT: of another origin | [`invalidation::targets`] | `rfc_9111_4_4_location_and_content_location_of_the_same_origin_alone`, `unsafe_methods_invalidate_location_on_the_same_host_only` |
//! | 4.4: invalid is removed, or validated before it is used | [`stamp::Stamp`] | `unsafe_methods_invalidate_on_success_only`, `an_unsafe_method_invalidates_for_the_other_proxy_too` |
//! | 5.1 SHOULD: of several `Age` values the first | [`age::age_value`] | `rfc_9111_5_1_age_values` |
//! | 5.1 SHOULD: an invalid `Age` is ignored | [`age::age_value`] | `rfc_9111_5_1_age_values` |
//! | 5.2 MUST: a proxy passes directives through | [`storability::client_fields`] | `rfc9111_5_2_directives_pass_through` |
//! | 5.2: names in any case, arguments as token or quoted string | [`cache_control::ResponseDirectives::parse`] | `rfc9111_5_2_spellings` |
//! | 5.2.1 MAY: request directives are implemented | [`cache_control::RequestDirectives::parse`], [`policy::ClientCacheControl`] | `rfc9111_5_2_1_requests`, `rfc_9111_5_2_1_request_directives_count_only_where_respected` |
//! | 5.2.1.1: `max-age` | [`reuse::judge`] | `rfc_9111_5_2_1_request_directives` |
//! | 5.2.1.2: `max-stale` | [`reuse::judge`] | `rfc_9111_5_2_1_request_directives` |
//! | 5.2.1.3: `min-fresh` | [`reuse::judge`] | `rfc_9111_5_2_1_request_directives` |
//! | 5.2.1.4: `no-cache` | [`reuse::judge`] | `rfc_9111_5_2_1_request_directives` |
//! | 5.2.1.5 MUST NOT: `no-store` | [`admission::admit`], [`storability::judge`] | `rfc_9111_5_2_1_5_no_store_of_the_request`; by default clients have no say: a response without their data is stored for everyone |
//! | 5.2.1.6: `no-transform` | | n/a: nothing is transformed |
//! | 5.2.1.7 SHOULD: `only-if-cached` is answered from the cache, or 504 | [`admission::RequestFacts::only_if_cached`] | `rfc_9111_5_2_1_request_directives_count_only_where_respected`, `clients_directives_count_only_where_the_route_says_so` |
//! | 5.2.2 MUST: response directives are obeyed | [`storability::judge`], [`reuse::judge`] | `rfc9111_5_2_2_responses`, `restrictions_count_however_they_are_written` |
//! | 5.2.2.1: `max-age` | [`freshness::lifetime`] | `rfc_9111_4_2_1_and_rfc_9213_2_2_precedence` |
//! | 5.2.2.2 MUST NOT: `must-revalidate`, stale and not validated | [`reuse::judge`], [`reuse::stale_if_error`] | `rfc_5861_3_and_4_windows`, `must_revalidate_forbids_serving_stale` |
//! | 5.2.2.2 MUST, SHOULD: an error, 504 or one more applicable, when disconnected | [`reuse::stale_if_error`] | `must_revalidate_forbids_serving_stale` |
//! | 5.2.2.3 SHOULD: `must-understand` beats `no-store` where the status is understood | [`freshness::ignores_no_store`] | `rfc_9111_3_and_5_2_2_directives` |
//! | 5.2.2.4 MUST NOT: `no-cache`, used without validation | [`reuse::judge`] | `rfc_9111_5_2_2_4_no_cache_is_validated_however_fresh` |
//! | 5.2.2.4 MAY: a qualified `no-cache` excludes its fields | [`storability::judge`] | `rfc_9111_3_1_fields`, `rfc9111_5_2_2_qualified` |
//! | 5.2.2.5 MUST NOT: `no-store`, stored or used again | [`storability::judge`] | `rfc_9111_3_and_5_2_2_directives`, `private_and_no_store_in_any_case_on_any_line_are_never_shared` |
//! | 5.2.2.6 MUST NOT: `no-transform`, transformed | | n/a: nothing is transformed |
//! | 5.2.2.7 MUST NOT: `private`, stored by a shared cache | [`storability::judge`] | `rfc_9111_3_and_5_2_2_directives` |
//! | 5.2.2.7 MUST NOT, MAY: a qualified `private` excludes its fields | [`storability::judge`] | `rfc_9111_3_1_fields`, `rfc9111_5_2_2_qualified` |
//! | 5.2.2.8 MUST NOT: `proxy-revalidate`, stale and not validated | [`reuse::judge`] | `rfc_9111_4_2_4_windows_past_freshness` |
//! | 5.2.2.9 MAY: `public` | [`storability::judge`], [`freshness::lifetime`] | `rfc_9111_3_5_authorization`, `rfc_9111_4_2_2_heuristic`, `rfc_9111_3_for_validation_alone` |
//! | 5.2.2.10: `s-maxage` beats `max-age` and `Expires` | [`freshness::lifetime`] | `s_maxage_beats_max_age_and_expires` |
//! | 5.2.2.10 MUST NOT: `s-maxage`, stale and not validated | [`storability::judge`] | `rfc_9111_4_2_4_windows_past_freshness` |
//! | 5.2.3 MUST: unknown directives are ignored | [`cache_control::ResponseDirectives::parse`] | `rfc9111_5_2_3_neighbours` |
//! | 5.3 MUST: `Expires` is ignored beside `max-age` or `s-maxage` | [`freshness::lifetime`] | `rfc_9111_4_2_1_and_rfc_9213_2_2_precedence` |
//! | 5.3 MUST: an invalid `Expires`, `0` above all, lies in the past | [`freshness::lifetime`] | `rfc_9111_4_2_1_and_rfc_9213_2_2_precedence`, `rfc9110_5_6_7_what_is_no_date` |
//! | 5.4: `Pragma` is deprecated | [`cache_control::RequestDirectives::parse`] | `rfc9111_5_4_pragma`, `rfc_9111_5_4_pragma_counts_without_cache_control_only` |
//! | 5.5: `Warning` is obsolete | | n/a: neither generated nor read; it passes as any field does |
//! | 6: history is no cache | | n/a: a matter of user agents |
//! | 7.1: no request decides what others are given | [`key::KeyRecipe::key`], [`validation::remove_preconditions`] | `a_recipe_errs_on_the_side_of_the_key`, `one_clients_validators_never_shape_anothers_answer`, `one_clients_range_never_shapes_anothers_answer` |
//! | 7.2: timing tells what is stored | | n/a: of a shared cache in front of public content it tells nothing private |
//! | 7.3: `Set-Cookie` does not keep a response from being stored | [`storability::judge`], [`policy::SetCookiePolicy`] | `rfc_9111_7_3_set_cookie_in_its_three_modes`, `set_cookie_may_be_shared_with_explicit_freshness_only` |
//!
//! ## Other documents
//!
//! | clause | function | test |
//! |---|---|---|
//! | RFC 5861 3 | [`reuse::judge`] | `rfc_5861_3_and_4_windows`, `stale_while_revalidate_answers_at_once_and_renews_behind` |
//! | RFC 5861 4: of a response, of a request | [`reuse::stale_if_error`] | `rfc_5861_3_and_4_windows`, `stale_if_error_covers_every_way_an_origin_fails` |
//! | RFC 8246 2: no validation of what is immutable while it is fresh | [`reuse::judge`] | `rfc_8246_2_a_reload_of_something_immutable` |
//! | RFC 9213 2.1 MUST: the field is a structured Dictionary; invalid or empty is ignored | [`targeted::targeted`] | `rfc9213_2_1_invalid_is_absent` |
//! | RFC 9213 2.1: values of the wrong type are not used; parameters are ignored | [`targeted::targeted`] | `rfc9213_2_1_types` |
//! | RFC 9213 2.2 MUST: the first valid field of the target list governs; `Cache-Control` and `Expires` are ignored | [`targeted::governing`], [`freshness::Word`] | `rfc9213_2_2_target_list`, `rfc_9111_4_2_1_and_rfc_9213_2_2_precedence` |
//! | RFC 9213 2.2 MUST: `max-age`, `must-revalidate`, `no-store`, `no-cache`, `private` | [`targeted::targeted`] | `rfc9213_2_2_directives` |
//! | RFC 9213 3 SHOULD: `CDN-Cache-Control` passes on | [`storability::client_fields`] | `rfc9111_5_2_directives_pass_through` |
//! | RFC 9211 2: one member of ours, after those nearer the origin | [`outcome::CacheStatus::to_text`] | `cache_status_is_appended_to_the_inner_caches` |
//! | RFC 9211 2.1, 2.2 MUST NOT: `hit` and `fwd` together | [`outcome::CacheStatus::hit`], [`outcome::CacheStatus::forwarded`] | `rfc9211_2_members`, `members_are_structured_fields` |
//! | RFC 9211 2.2: the most specific reason | [`outcome::Reason::fwd`] | `rfc9211_2_2_reasons` |
//! | RFC 9211 2.3, 2.5, 2.6: `fwd-status`, `stored`, `collapsed` | [`outcome::Forwarded`] | `rfc9211_2_members` |
//! | RFC 9211 2.4: `ttl`, negative when stale | [`outcome::CacheStatus::ttl`] | `rfc9211_2_4_ttl` |
//! | RFC 9211 2.7: `key` | | n/a: it would tell strangers which fields and cookies count |
//! | RFC 9211 2.8: `detail` | [`outcome::CacheStatus::detail`] | `every_code_is_a_token_of_its_own` |
//! | RFC 9875 2: groups are strings, of one origin | [`tags::ids`] | `rfc_9875_2_groups_are_strings_and_belong_to_their_origin`, `groups_are_strings` |
//! | RFC 9875 3: groups are invalidated by answers to unsafe methods alone | [`invalidation::targets`] | `rfc_9875_3_groups_of_unsafe_responses_alone` |
//! | RFC 9110 9.2.1: which methods are safe | [`invalidation::is_safe`] | `rfc_9111_4_4_which_responses_invalidate` |
//! | RFC 9110 9.2.3: methods that allow caching: GET, HEAD, POST | [`admission::admit`], [`storability::judge`] | `rfc_9111_3_and_4_which_requests_are_looked_up`, `rfc_9110_9_3_3_post` |
//! | RFC 9110 9.3.1: content of a GET has no meaning, and may poison | [`admission::admit`] | `rfc_9111_3_and_4_which_requests_are_looked_up`, `other_methods_and_get_with_content_are_never_answered_from_the_cache` |
//! | RFC 9110 9.3.2: HEAD is answered as GET is, without content | [`reuse::judge`] | `who_may_be_given_it`, `head_is_answered_from_a_stored_get` |
//! | RFC 9110 9.3.3: a POST's answer is stored with explicit freshness and its own Content-Location | [`storability::judge`] | `rfc_9110_9_3_3_post` |
//! | RFC 9110 9.3.4 to 9.3.8: answers to other methods are not cacheable | [`storability::judge`] | `rfc_9110_9_3_3_post`, `other_methods_and_get_with_content_are_never_answered_from_the_cache` |
//! | RFC 9110 12.5.5: `Vary` is a list of names, or `*` | [`vary::nominated`] | `rfc_9110_12_5_5_names`, `vary_names_are_sorted_bounded_and_never_lost` |
//! | RFC 9110 15.1: statuses cacheable by heuristics, 405 and 414 by these alone | [`freshness::is_heuristically_cacheable`], [`storability::judge`] | `rfc_9110_15_1_where_the_routes_ttl_applies`, `rfc_9110_15_1_what_reflects_a_request_is_stored_by_heuristics_alone` |
//! | RFC 9110 15.2: interim responses are never stored | [`storability::judge`] | `rfc_9111_3_statuses`, `the_final_response_is_right` |
//! | RFC 6585 3 to 6: 428, 429, 431 and 511 MUST NOT be stored | [`storability::judge`] | `rfc_9111_3_statuses` |
//!
//! # Where this differs on purpose
//!
//! - `s-maxage` forbids stale answers even beside `stale-while-revalidate`, since RFC 9111 4.2.4 and
//!   5.2.2.10 say so; many caches serve them. An origin that wants both sends `max-age` with the
//!   window in `CDN-Cache-Control`.
//! - A request with `Authorization` is answered only by what the origin lets be shared, even where it
//!   was fetched without; RFC 9111 3.5 would allow it.
//! - A 304 without any validator updates the one response whose validators were sent; the letter of
//!   4.3.4 knows this only for a stored response without validators, and many origins omit them.
//! - Requests' `no-store` counts only where the route respects clients.
//! - Of several values of one directive the smallest counts, which may be smaller than the first.

pub mod admission;
pub mod age;
pub mod cache_control;
pub mod continuation;
pub mod freshness;
pub mod invalidation;
pub mod key;
pub mod outcome;
pub mod partial;
pub mod policy;
pub mod reuse;
pub mod stamp;
pub mod storability;
pub mod stored;
pub mod tags;
pub mod targeted;
pub mod url;
pub mod validation;
pub mod vary;

#[cfg(test)]
mod testing;

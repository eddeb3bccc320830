//! Whole reports, as people read them.

use std::io;
use std::path::PathBuf;

use clap::Parser;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::caching::admission::RequestFacts;
use crate::caching::invalidation::TargetUri;
use crate::caching::policy::{ClientCacheControl, CookiePolicy, OriginCacheControl, Policy};
use crate::caching::stamp::Stamp;
use crate::caching::storability::{self, Exchange, QUESTIONS, Storability};
use crate::cli::{Cli, Command};

/// Sun, 06 Nov 1994 08:49:37 GMT
const NOW: UnixMillis = UnixMillis(784_111_777_000);

const CONFIG: &str = r#"
[redis]
url = "redis://127.0.0.1:6379/0"

[upstream.shop]
servers = ["http://127.0.0.1:9000"]

[[route]]
name = "product"
path = "/api/products/{id}"
upstream = "shop"
ttl = "60s"
stale_while_revalidate = "30s"
stale_if_error = "10m"

[[route]]
name = "lists"
path = "/api/{*rest}"
upstream = "shop"
key = { sort_query = true, headers = ["Accept-Language"], cookies = ["currency"] }
client_cache_control = "respect"

[[route]]
name = "forced"
path = "/forced"
upstream = "shop"
ttl = "5s"
min_ttl = "10s"
origin_cache_control = "override"
set_cookie = "strip"

[[route]]
name = "events"
path = "/events"
upstream = "shop"
cache = false

[[route]]
name = "other"
host = "*.other.example"
path = "/{*rest}"
upstream = "shop"

[[route]]
name = "images"
host = "shop.example"
path = "/images/{*file}"
upstream = "shop"

[[route]]
name = "thumbnails"
host = "shop.example"
path = "/images/{name}/small"
upstream = "shop"

[[route]]
name = "about"
path = "/about"
upstream = "shop"
"#;

/// The report for a command line, without its configuration.
fn told(line: &[&str]) -> String {
    explained(CONFIG, line).unwrap()
}

fn explained(config: &str, line: &[&str]) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.toml");
    std::fs::write(&path, config).unwrap();
    let args = ["forebay", "explain", "--config", path.to_str().unwrap()];
    let cli = Cli::try_parse_from(args.iter().chain(line)).unwrap();
    let Command::Explain(args) = cli.command else { panic!("explain") };
    let said = explain(&args, &|_| None, &mut io::empty(), NOW);
    said.map_err(|wrong| wrong.replace(&format!("{}/", dir.path().display()), ""))
}

#[test]
fn a_request_alone() {
    insta::assert_snapshot!(told(&[
        "-H", "Accept-Language: de", "-H", "Cookie: sid=1; currency=EUR", "-H", "Cache-Control: max-age=0",
        "https://shop.example/api/search?q=tea&utm_source=mail&page=2&a#top",
    ]), @r#"
        Request   GET http://shop.example/api/search?q=tea&utm_source=mail&page=2&a
          TLS towards clients ends before forebay: what it sees, and keys, is http.

        Route     lists: any host, /api/{*rest}, to upstream shop
          not product (/api/products/{id}): the path differs at segment 2: "search" is not "products"
          not forced (/forced): the path differs at segment 1: "api" is not "forced"
          not events (/events): the path differs at segment 1: "api" is not "events"
          not images (/images/{*file}): the path differs at segment 1: "api" is not "images"
          not thumbnails (/images/{name}/small): the path differs at segment 1: "api" is not "images"
          not about (/about): the path differs at segment 1: "api" is not "about"
          not other (/{*rest}): answers for *.other.example

        Key       http://shop.example/api/search?a&page=2&q=tea
                  header accept-language:2:de
                  cookie 12:currency=EUR
          hash                   6dcf2c4a417184f6bbd06c578e84ce04

        Cache     looked up
          cookie                 reuses only what the origin itself made cacheable: cookies = "guard"
          cache-control          of clients counts (RFC 9111 5.2.1): client_cache_control = "respect"
    "#);
}

#[test]
fn rfc_9111_a_response_that_is_stored() {
    insta::assert_snapshot!(told(&[
        "-H", "Accept-Encoding: gzip, br", "http://shop.example/api/products/7", "--response",
        r#"HTTP/1.1 200 OK\r\nCache-Control: max-age=60, stale-if-error=600\r\nAge: 10\r\nETag: "v7"\r\nVary: Accept-Encoding, Origin\r\nConnection: X-Trace\r\nX-Trace: 1\r\nCache-Tag: product-7, tea\r\nContent-Length: 12"#,
    ]), @r#"
        Request   GET http://shop.example/api/products/7

        Route     product: any host, /api/products/{id}, to upstream shop
          not lists (/api/{*rest}): matches, but is less specific: segment 2 is "{*rest}", where the selected route has "products"
          not forced (/forced): the path differs at segment 1: "api" is not "forced"
          not events (/events): the path differs at segment 1: "api" is not "events"
          not images (/images/{*file}): the path differs at segment 1: "api" is not "images"
          not thumbnails (/images/{name}/small): the path differs at segment 1: "api" is not "images"
          not about (/about): the path differs at segment 1: "api" is not "about"
          not other (/{*rest}): answers for *.other.example

        Key       http://shop.example/api/products/7
          hash                   b4065083bf94772d3d0106178947a32d

        Cache     looked up

        Response  200 OK, received Sun, 06 Nov 1994 08:49:37 GMT
          directives             max-age=60, stale-if-error=600
          freshness              60 s, by max-age (RFC 9111 5.2.2.1)
          age                    10 s on arrival (RFC 9111 4.2.3)

        Rules     what would keep it out, in the order it is asked
          no   route-not-cached        forebay
          no   request-method          RFC 9111 3
          no   cookie-bypass           forebay
          no   request-no-store        RFC 9111 5.2.1.5
          no   status-not-cacheable    RFC 9111 3
          no   part-not-storable       RFC 9111 3.3
          no   status-not-understood   RFC 9111 5.2.2.3
          no   no-store                RFC 9111 5.2.2.5
          no   private                 RFC 9111 5.2.2.7
          no   authorization           RFC 9111 3.5
          no   set-cookie              RFC 9111 7.3
          no   no-freshness            RFC 9111 3
          no   status-not-cacheable    RFC 9111 3
          no   reflects-request        forebay
          no   request-method          RFC 9111 3
          no   cookie-guard            RFC 9111 7.3
          no   ttl-zero                RFC 9111 4.2
          no   already-stale           RFC 9111 4.2
          no   vary-any                RFC 9111 4.1
          no   too-many-variants       forebay
          no   too-large               forebay
          no   too-many-tags           forebay

        Stored    yes
          fresh                  for 50 s, until Sun, 06 Nov 1994 08:50:27 GMT
          stale, renewing        for 30 s more (RFC 5861 3)
          stale, origin failing  for 10 min more (RFC 5861 4)
          kept                   for 1 h more, to be validated (RFC 9111 4.3)
          forgotten              after 1 h 50 s, at Sun, 06 Nov 1994 09:50:27 GMT
          answers                variant 54000798224bd74f of its key (RFC 9111 4.1): requests with
                                 accept-encoding: gzip, br
                                 origin: absent
          tags                   product-7, tea (cache-tag)
          without the fields     connection, x-trace
          in                     memory 256MiB (objects up to 1MiB); redis redis://127.0.0.1:6379/0 prefix forebay (objects up to 8MiB)

        Later     the same request again
          now                    fresh (RFC 9111 4.2): answered from the cache
          after 50 s             stale-while-revalidate (RFC 5861 3): answered stale, and renewed
          after 80 s             stale (RFC 9111 4.2): the origin is asked with if-none-match: "v7"; if the origin fails, stale-if-error (RFC 5861 4): answered stale
          after 10 min 50 s      stale (RFC 9111 4.2): the origin is asked with if-none-match: "v7"
          after 1 h 50 s         nothing-stored (RFC 9111 4): fetched anew

        Others    meanwhile, a request
          with Cookie            fresh (RFC 9111 4.2): answered from the cache
          with Authorization     authorization-not-shared (RFC 9111 3.5): fetched anew
          by HEAD                fresh (RFC 9111 4.2): answered from the cache
    "#);
}

#[test]
fn rfc_9111_5_2_2_7_a_private_response() {
    insta::assert_snapshot!(told(&[
        "http://shop.example/about", "--response",
        "HTTP/1.1 200 OK\\nCache-Control: private, max-age=60, max-age=x\\nDate: Sun, 06 Nov 1994 08:48:37 GMT",
    ]), @r#"
        Request   GET http://shop.example/about

        Route     about: any host, /about, to upstream shop
          not product (/api/products/{id}): the path differs at segment 1: "about" is not "api"
          not lists (/api/{*rest}): the path differs at segment 1: "about" is not "api"
          not forced (/forced): the path differs at segment 1: "about" is not "forced"
          not events (/events): the path differs at segment 1: "about" is not "events"
          not images (/images/{*file}): the path differs at segment 1: "about" is not "images"
          not thumbnails (/images/{name}/small): the path differs at segment 1: "about" is not "images"
          not other (/{*rest}): answers for *.other.example

        Key       http://shop.example/about
          hash                   c92c6b4ff35243121a9b0ec932c05e2e

        Cache     looked up

        Response  200 OK, received Sun, 06 Nov 1994 08:49:37 GMT
          directives             max-age (cannot be read: counts as 0), private
          freshness              0 s, by max-age (RFC 9111 5.2.2.1)
          age                    60 s on arrival (RFC 9111 4.2.3)
                                 its Date lies in the past; leave Date out to explain it as received when it was sent

        Rules     what would keep it out, in the order it is asked
          no   route-not-cached        forebay
          no   request-method          RFC 9111 3
          no   cookie-bypass           forebay
          no   request-no-store        RFC 9111 5.2.1.5
          no   status-not-cacheable    RFC 9111 3
          no   part-not-storable       RFC 9111 3.3
          no   status-not-understood   RFC 9111 5.2.2.3
          no   no-store                RFC 9111 5.2.2.5
          YES  private                 RFC 9111 5.2.2.7
          and 13 more questions that are not asked any more

        Stored    no: private (RFC 9111 5.2.2.7)
          The response says private.
          Leave private out if everyone may have this response.
    "#);
}

#[test]
fn rfc_9213_2_2_a_targeted_field() {
    insta::assert_snapshot!(told(&[
        "http://shop.example/about", "--response",
        "HTTP/2 200\nCache-Control: no-store\nExpires: 0\nForebay-Cache-Control: Max-Age=9\nCDN-Cache-Control: max-age=600, must-revalidate\n\nbody",
    ]), @r#"
        Request   GET http://shop.example/about

        Route     about: any host, /about, to upstream shop
          not product (/api/products/{id}): the path differs at segment 1: "about" is not "api"
          not lists (/api/{*rest}): the path differs at segment 1: "about" is not "api"
          not forced (/forced): the path differs at segment 1: "about" is not "forced"
          not events (/events): the path differs at segment 1: "about" is not "events"
          not images (/images/{*file}): the path differs at segment 1: "about" is not "images"
          not thumbnails (/images/{name}/small): the path differs at segment 1: "about" is not "images"
          not other (/{*rest}): answers for *.other.example

        Key       http://shop.example/about
          hash                   c92c6b4ff35243121a9b0ec932c05e2e

        Cache     looked up

        Response  200 OK, received Sun, 06 Nov 1994 08:49:37 GMT
          not read               forebay-cache-control: empty, or no valid structured dictionary (RFC 9213 2.1)
          read                   cdn-cache-control, and neither Cache-Control nor Expires (RFC 9213 2.2)
          directives             max-age=600, must-revalidate
          freshness              10 min, by max-age of the field above (RFC 9213 2.2)
          age                    0 s on arrival (RFC 9111 4.2.3)

        Rules     what would keep it out, in the order it is asked
          no   route-not-cached        forebay
          no   request-method          RFC 9111 3
          no   cookie-bypass           forebay
          no   request-no-store        RFC 9111 5.2.1.5
          no   status-not-cacheable    RFC 9111 3
          no   part-not-storable       RFC 9111 3.3
          no   status-not-understood   RFC 9111 5.2.2.3
          no   no-store                RFC 9111 5.2.2.5
          no   private                 RFC 9111 5.2.2.7
          no   authorization           RFC 9111 3.5
          no   set-cookie              RFC 9111 7.3
          no   no-freshness            RFC 9111 3
          no   status-not-cacheable    RFC 9111 3
          no   reflects-request        forebay
          no   request-method          RFC 9111 3
          no   cookie-guard            RFC 9111 7.3
          no   ttl-zero                RFC 9111 4.2
          no   already-stale           RFC 9111 4.2
          no   vary-any                RFC 9111 4.1
          no   too-many-variants       forebay
          no   too-large               forebay
          no   too-many-tags           forebay

        Stored    yes
          fresh                  for 10 min, until Sun, 06 Nov 1994 08:59:37 GMT
          stale answers          never: must-revalidate, proxy-revalidate or s-maxage (RFC 9111 4.2.4)
          kept                   no longer: it has no validator to ask with (RFC 9111 4.3.1)
          forgotten              after 10 min, at Sun, 06 Nov 1994 08:59:37 GMT
          answers                every request for its key (RFC 9111 4.1)
          in                     memory 256MiB (objects up to 1MiB); redis redis://127.0.0.1:6379/0 prefix forebay (objects up to 8MiB)

        Later     the same request again
          now                    fresh (RFC 9111 4.2): answered from the cache
          after 10 min           nothing-stored (RFC 9111 4): fetched anew

        Others    meanwhile, a request
          with Cookie            fresh (RFC 9111 4.2): answered from the cache
          with Authorization     fresh (RFC 9111 4.2): answered from the cache
          by HEAD                fresh (RFC 9111 4.2): answered from the cache
    "#);
}

#[test]
fn rfc_9111_5_2_2_4_always_asked_about() {
    insta::assert_snapshot!(told(&[
        "-X", "HEAD", "http://shop.example/about", "--response",
        "HTTP/1.1 200 OK\nCache-Control: no-cache\nLast-Modified: Sun, 06 Nov 1994 07:49:37 GMT\nETag: W/\"a\"",
    ]), @r#"
        Request   HEAD http://shop.example/about

        Route     about: any host, /about, to upstream shop
          not product (/api/products/{id}): the path differs at segment 1: "about" is not "api"
          not lists (/api/{*rest}): the path differs at segment 1: "about" is not "api"
          not forced (/forced): the path differs at segment 1: "about" is not "forced"
          not events (/events): the path differs at segment 1: "about" is not "events"
          not images (/images/{*file}): the path differs at segment 1: "about" is not "images"
          not thumbnails (/images/{name}/small): the path differs at segment 1: "about" is not "images"
          not other (/{*rest}): answers for *.other.example

        Key       http://shop.example/about
          hash                   c92c6b4ff35243121a9b0ec932c05e2e

        Cache     looked up
          method                 the origin is asked by GET, so that its answer serves both

        Response  200 OK, received Sun, 06 Nov 1994 08:49:37 GMT
          directives             no-cache
          freshness              none: no-freshness (RFC 9111 3)
          age                    0 s on arrival (RFC 9111 4.2.3)

        Rules     what would keep it out, in the order it is asked
          no   route-not-cached        forebay
          no   request-method          RFC 9111 3
          no   cookie-bypass           forebay
          no   request-no-store        RFC 9111 5.2.1.5
          no   status-not-cacheable    RFC 9111 3
          no   part-not-storable       RFC 9111 3.3
          no   status-not-understood   RFC 9111 5.2.2.3
          no   no-store                RFC 9111 5.2.2.5
          no   private                 RFC 9111 5.2.2.7
          no   authorization           RFC 9111 3.5
          no   set-cookie              RFC 9111 7.3
          no   no-freshness            RFC 9111 3
          no   status-not-cacheable    RFC 9111 3
          no   reflects-request        forebay
          no   request-method          RFC 9111 3
          no   cookie-guard            RFC 9111 7.3
          no   ttl-zero                RFC 9111 4.2
          no   already-stale           RFC 9111 4.2
          no   vary-any                RFC 9111 4.1
          no   too-many-variants       forebay
          no   too-large               forebay
          no   too-many-tags           forebay

        Stored    yes
          fresh                  never without asking: no-cache (RFC 9111 5.2.2.4)
          stale answers          never: no-cache (RFC 9111 4.2.4)
          kept                   for 1 h more, to be validated (RFC 9111 4.3)
          forgotten              after 1 h, at Sun, 06 Nov 1994 09:49:37 GMT
          answers                every request for its key (RFC 9111 4.1)
          in                     memory 256MiB (objects up to 1MiB); redis redis://127.0.0.1:6379/0 prefix forebay (objects up to 8MiB)

        Later     the same request again
          now                    must-validate (RFC 9111 5.2.2.4): the origin is asked with if-none-match: W/"a", if-modified-since: Sun, 06 Nov 1994 07:49:37 GMT
          after 1 h              nothing-stored (RFC 9111 4): fetched anew

        Others    meanwhile, a request
          with Cookie            must-validate (RFC 9111 5.2.2.4): the origin is asked with if-none-match: W/"a", if-modified-since: Sun, 06 Nov 1994 07:49:37 GMT
          with Authorization     authorization-not-shared (RFC 9111 3.5): fetched anew
          by GET                 must-validate (RFC 9111 5.2.2.4): the origin is asked with if-none-match: W/"a", if-modified-since: Sun, 06 Nov 1994 07:49:37 GMT
    "#);
}

#[test]
fn a_request_with_a_cookie_and_only_the_routes_ttl() {
    insta::assert_snapshot!(told(&[
        "-H", "Cookie: sid=1", "http://shop.example/api/products/7", "--response", "HTTP/1.1 200 OK",
    ]), @r#"
        Request   GET http://shop.example/api/products/7

        Route     product: any host, /api/products/{id}, to upstream shop
          not lists (/api/{*rest}): matches, but is less specific: segment 2 is "{*rest}", where the selected route has "products"
          not forced (/forced): the path differs at segment 1: "api" is not "forced"
          not events (/events): the path differs at segment 1: "api" is not "events"
          not images (/images/{*file}): the path differs at segment 1: "api" is not "images"
          not thumbnails (/images/{name}/small): the path differs at segment 1: "api" is not "images"
          not about (/about): the path differs at segment 1: "api" is not "about"
          not other (/{*rest}): answers for *.other.example

        Key       http://shop.example/api/products/7
          hash                   b4065083bf94772d3d0106178947a32d

        Cache     looked up
          cookie                 reuses only what the origin itself made cacheable: cookies = "guard"

        Response  200 OK, received Sun, 06 Nov 1994 08:49:37 GMT
          directives             none
          freshness              60 s, by the route's ttl
          age                    0 s on arrival (RFC 9111 4.2.3)

        Rules     what would keep it out, in the order it is asked
          no   route-not-cached        forebay
          no   request-method          RFC 9111 3
          no   cookie-bypass           forebay
          no   request-no-store        RFC 9111 5.2.1.5
          no   status-not-cacheable    RFC 9111 3
          no   part-not-storable       RFC 9111 3.3
          no   status-not-understood   RFC 9111 5.2.2.3
          no   no-store                RFC 9111 5.2.2.5
          no   private                 RFC 9111 5.2.2.7
          no   authorization           RFC 9111 3.5
          no   set-cookie              RFC 9111 7.3
          no   no-freshness            RFC 9111 3
          no   status-not-cacheable    RFC 9111 3
          no   reflects-request        forebay
          no   request-method          RFC 9111 3
          YES  cookie-guard            RFC 9111 7.3
          and 6 more questions that are not asked any more

        Stored    no: cookie-guard (RFC 9111 7.3)
          The request carries Cookie and only the route's ttl made the stored response fresh.
          Let the origin send Cache-Control with max-age or s-maxage, or set cookies = "ignore".
    "#);
}

#[test]
fn rfc_9111_4_4_an_unsafe_request() {
    insta::assert_snapshot!(told(&[
        "-X", "POST", "-H", "Content-Length: 3", "http://shop.example/api/products/", "--response",
        "HTTP/1.1 201 Created\nLocation: /api/products/8\nCache-Group-Invalidation: \"products\"",
    ]), @r#"
        Request   POST http://shop.example/api/products/

        Route     lists: any host, /api/{*rest}, to upstream shop
          not product (/api/products/{id}): the path differs at segment 3: it is empty, and a {name} never is
          not forced (/forced): the path differs at segment 1: "api" is not "forced"
          not events (/events): the path differs at segment 1: "api" is not "events"
          not images (/images/{*file}): the path differs at segment 1: "api" is not "images"
          not thumbnails (/images/{name}/small): the path differs at segment 1: "api" is not "images"
          not about (/about): the path differs at segment 1: "api" is not "about"
          not other (/{*rest}): answers for *.other.example

        Key       http://shop.example/api/products/
          hash                   df3fd97d7333edc6b1a8164e2edad4fa

        Cache     forwarded without a look-up: method-not-cacheable (RFC 9110 9.2.3)
          Only GET and HEAD are answered from the cache.
          Use GET for what may be cached.

        Response  201 Created, received Sun, 06 Nov 1994 08:49:37 GMT
          directives             none
          freshness              none: no-freshness (RFC 9111 3)
          age                    0 s on arrival (RFC 9111 4.2.3)
          invalidates            /api/products/ (RFC 9111 4.4)
          invalidates            /api/products/8 (RFC 9111 4.4)
          invalidates            groups "products" (RFC 9875 3)

        Rules     what would keep it out, in the order it is asked
          no   route-not-cached        forebay
          YES  request-method          RFC 9111 3
          and 20 more questions that are not asked any more

        Stored    no: request-method (RFC 9111 3)
          The response to this method is not stored.
          Use GET for what may be cached.
    "#);
}

#[test]
fn a_route_that_overrides_its_origin() {
    insta::assert_snapshot!(told(&[
        "http://shop.example/forced", "--response",
        "HTTP/1.1 200 OK\nCache-Control: no-store\nSet-Cookie: sid=2",
    ]), @r#"
        Request   GET http://shop.example/forced

        Route     forced: any host, /forced, to upstream shop
          not product (/api/products/{id}): the path differs at segment 1: "forced" is not "api"
          not lists (/api/{*rest}): the path differs at segment 1: "forced" is not "api"
          not events (/events): the path differs at segment 1: "forced" is not "events"
          not images (/images/{*file}): the path differs at segment 1: "forced" is not "images"
          not thumbnails (/images/{name}/small): the path differs at segment 1: "forced" is not "images"
          not about (/about): the path differs at segment 1: "forced" is not "about"
          not other (/{*rest}): answers for *.other.example

        Key       http://shop.example/forced
          hash                   212e1dcbfa187d5c2e62f3e07393a79f

        Cache     looked up

        Response  200 OK, received Sun, 06 Nov 1994 08:49:37 GMT
          directives             no-store
          freshness              10 s, by the route's ttl
                                 5 s is what was stated; min_ttl of the route says 10 s
                                 origin_cache_control = "override": the route's word replaces the origin's
          age                    0 s on arrival (RFC 9111 4.2.3)

        Rules     what would keep it out, in the order it is asked
          no   route-not-cached        forebay
          no   request-method          RFC 9111 3
          no   cookie-bypass           forebay
          no   request-no-store        RFC 9111 5.2.1.5
          no   status-not-cacheable    RFC 9111 3
          no   part-not-storable       RFC 9111 3.3
          no   status-not-understood   RFC 9111 5.2.2.3
          no   no-store                RFC 9111 5.2.2.5
          no   private                 RFC 9111 5.2.2.7
          no   authorization           RFC 9111 3.5
          no   set-cookie              RFC 9111 7.3
          no   no-freshness            RFC 9111 3
          no   status-not-cacheable    RFC 9111 3
          no   reflects-request        forebay
          no   request-method          RFC 9111 3
          no   cookie-guard            RFC 9111 7.3
          no   ttl-zero                RFC 9111 4.2
          no   already-stale           RFC 9111 4.2
          no   vary-any                RFC 9111 4.1
          no   too-many-variants       forebay
          no   too-large               forebay
          no   too-many-tags           forebay

        Stored    yes
          fresh                  for 10 s, until Sun, 06 Nov 1994 08:49:47 GMT
          stale, renewing        not at all (RFC 5861 3)
          stale, origin failing  not at all (RFC 5861 4)
          kept                   no longer: it has no validator to ask with (RFC 9111 4.3.1)
          forgotten              after 10 s, at Sun, 06 Nov 1994 08:49:47 GMT
          answers                every request for its key (RFC 9111 4.1)
          without the fields     set-cookie
          in                     memory 256MiB (objects up to 1MiB); redis redis://127.0.0.1:6379/0 prefix forebay (objects up to 8MiB)

        Later     the same request again
          now                    fresh (RFC 9111 4.2): answered from the cache
          after 10 s             nothing-stored (RFC 9111 4): fetched anew

        Others    meanwhile, a request
          with Cookie            cookie-guard (RFC 9111 7.3): fetched anew
          with Authorization     authorization-not-shared (RFC 9111 3.5): fetched anew
          by HEAD                fresh (RFC 9111 4.2): answered from the cache
    "#);
}

#[test]
fn a_status_that_only_the_route_makes_fresh() {
    insta::assert_snapshot!(told(&[
        "http://shop.example/api/products/7", "--response", "HTTP/1.1 302 Found\nLocation: /elsewhere",
    ]), @r#"
        Request   GET http://shop.example/api/products/7

        Route     product: any host, /api/products/{id}, to upstream shop
          not lists (/api/{*rest}): matches, but is less specific: segment 2 is "{*rest}", where the selected route has "products"
          not forced (/forced): the path differs at segment 1: "api" is not "forced"
          not events (/events): the path differs at segment 1: "api" is not "events"
          not images (/images/{*file}): the path differs at segment 1: "api" is not "images"
          not thumbnails (/images/{name}/small): the path differs at segment 1: "api" is not "images"
          not about (/about): the path differs at segment 1: "api" is not "about"
          not other (/{*rest}): answers for *.other.example

        Key       http://shop.example/api/products/7
          hash                   b4065083bf94772d3d0106178947a32d

        Cache     looked up

        Response  302 Found, received Sun, 06 Nov 1994 08:49:37 GMT
          directives             none
          freshness              none: status-not-cacheable (RFC 9111 3)
          age                    0 s on arrival (RFC 9111 4.2.3)

        Rules     what would keep it out, in the order it is asked
          no   route-not-cached        forebay
          no   request-method          RFC 9111 3
          no   cookie-bypass           forebay
          no   request-no-store        RFC 9111 5.2.1.5
          no   status-not-cacheable    RFC 9111 3
          no   part-not-storable       RFC 9111 3.3
          no   status-not-understood   RFC 9111 5.2.2.3
          no   no-store                RFC 9111 5.2.2.5
          no   private                 RFC 9111 5.2.2.7
          no   authorization           RFC 9111 3.5
          no   set-cookie              RFC 9111 7.3
          no   no-freshness            RFC 9111 3
          YES  status-not-cacheable    RFC 9111 3
          and 9 more questions that are not asked any more

        Stored    no: status-not-cacheable (RFC 9111 3)
          A response of this status is not stored without explicit freshness, or never.
          Send max-age, or add the status to ttl_by_status.
    "#);
}

#[test]
fn no_route_at_all() {
    insta::assert_snapshot!(told(&["http://shop.example/images/a/large/b"]), @r#"
        Request   GET http://shop.example/images/a/large/b

        Route     images: shop.example, /images/{*file}, to upstream shop
          not thumbnails (/images/{name}/small): the path differs at segment 3: "large" is not "small"
          not product (/api/products/{id}): the path differs at segment 1: "images" is not "api"
          not lists (/api/{*rest}): the path differs at segment 1: "images" is not "api"
          not forced (/forced): the path differs at segment 1: "images" is not "forced"
          not events (/events): the path differs at segment 1: "images" is not "events"
          not about (/about): the path differs at segment 1: "images" is not "about"
          not other (/{*rest}): answers for *.other.example

        Key       http://shop.example/images/a/large/b
          hash                   1eb5a46cdc158c3f4dd162df3be14297

        Cache     looked up
    "#);
    insta::assert_snapshot!(told(&["http://nobody.example/", "--response", "HTTP/1.1 200 OK"]), @r#"
        Request   GET http://nobody.example/

        Route     none: no-route (forebay)
          No route matches the host and path.
          Add a route, or one with path = "/{*rest}" for everything else.
          not product (/api/products/{id}): the path differs at segment 1: "" is not "api"
          not lists (/api/{*rest}): the path differs at segment 1: "" is not "api"
          not forced (/forced): the path differs at segment 1: "" is not "forced"
          not events (/events): the path differs at segment 1: "" is not "events"
          not about (/about): the path differs at segment 1: "" is not "about"
          not other (/{*rest}): answers for *.other.example
          nor any of 2 more, which are less near
    "#);
}

#[test]
fn a_key_that_is_too_long() {
    let url = format!("http://shop.example/about?{}", "a".repeat(17 << 10));
    let report = told(&[&url, "--response", "HTTP/1.1 200 OK\nCache-Control: max-age=60"]);
    assert!(report.contains("\nKey       none: key-too-long (forebay)\n"), "{report}");
    assert!(report.contains("\nCache     forwarded without a look-up: key-too-long (forebay)\n"), "{report}");
    assert!(report.contains("\nStored    no: key-too-long (forebay)\n"), "{report}");
}

#[test]
fn of_ten_thousand_routes_the_nearest_are_told() {
    let mut config = "[upstream.u]\nservers = [\"http://127.0.0.1:1\"]\n".to_owned();
    for n in 0..10_000 {
        config.push_str(&format!(
            "[[route]]\nname = \"r{n}\"\npath = \"/{}/{n}\"\nupstream = \"u\"\n",
            n % 100
        ));
    }
    let report = explained(&config, &["http://a/42/4242"]).unwrap();
    assert!(report.contains("\nRoute     r4242: any host, /42/4242, to upstream u\n"), "{report}");
    assert!(
        report.contains("  not r42 (/42/42): the path differs at segment 2: \"4242\" is not \"42\"\n"),
        "{report}"
    );
    assert!(report.contains("  nor any of 9993 more, which are less near\n"), "{report}");
    assert!(report.lines().count() < 20, "{report}");
}

#[test]
fn what_cannot_be_explained_is_said() {
    let url = "http://shop.example/";
    for (line, wrong) in [
        (
            &["--response", "nothing", url][..],
            "--response: line 1: \"nothing\" is no status line such as \"HTTP/1.1 200 OK\"",
        ),
        (&["--response", "-", url], "--response: there is no status line"),
        (&["-H", "host: a", "-H", "host: b", url], "-H: host is given more than once"),
    ] {
        assert_eq!(explained(CONFIG, line).unwrap_err(), wrong);
    }
    let wrong = explained(&CONFIG.replace("http://127", "ftp://127"), &[url]).unwrap_err();
    assert!(wrong.starts_with("proxy.toml:6: upstream.shop.servers: ftp://"), "{wrong}");
    let missing = ExplainArgs {
        config: Some(PathBuf::from("/nonexistent/proxy.toml")),
        admin: None,
        token: None,
        method: Method::GET,
        fields: Vec::new(),
        response: None,
        url: url.parse().unwrap(),
    };
    let wrong = explain(&missing, &|_| None, &mut io::empty(), NOW).unwrap_err();
    assert!(wrong.starts_with("/nonexistent/proxy.toml: cannot be read"), "{wrong}");
    for (line, wrong) in [
        (&["shop.example"][..], "it has no scheme; did you mean \"http://shop.example\"?"),
        (&["-H", "a", url], "it has no colon; a field is written 'name: value'"),
        (&["-X", "a b", url], "invalid HTTP method"),
    ] {
        let args = ["forebay", "explain", "--config", "a.toml"];
        let error = Cli::try_parse_from(args.iter().chain(line)).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(wrong), "{error}");
    }
}

// === the order of the questions ===

type Lines<'a> = &'a [(&'a str, &'a str)];

fn map(lines: Lines<'_>) -> HeaderMap {
    let pairs = lines.iter().map(|(name, value)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    });
    let mut map = HeaderMap::new();
    pairs.for_each(|(name, value)| {
        map.append(name, value);
    });
    map
}

/// The reason for which a response is not stored, and the question that is told to have decided.
fn decided(
    policy: &Policy,
    method: &Method,
    request: Lines<'_>,
    status: u16,
    response: Lines<'_>,
    content_length: Option<u64>,
) -> Option<(Reason, Option<usize>)> {
    let (request, headers) = (map(request), map(response));
    let facts = RequestFacts::read(method, &request, policy);
    let exchange = Exchange {
        method,
        facts: &facts,
        request: &request,
        target: TargetUri { scheme: "http", authority: "a", path_and_query: "/" },
        host: "a",
        url: 1,
        tags: &[],
        status: StatusCode::from_u16(status).unwrap(),
        headers: &headers,
        content_length,
        request_sent: NOW,
        response_received: NOW,
        stamp: Stamp::default(),
    };
    match storability::judge(&exchange, policy) {
        Storability::Store(_) => None,
        Storability::Pass(reason) => Some((reason, storability::decided_by(&exchange, policy, reason))),
    }
}

#[test]
fn rfc_9111_3_the_questions_are_told_in_the_order_they_are_asked() {
    let plain = Policy::default();
    let off = Policy { cache: false, ..Policy::default() };
    let bypass = Policy {
        cookies: CookiePolicy::Bypass,
        client_cache_control: ClientCacheControl::Respect,
        ..Policy::default()
    };
    let ttl = Policy { ttl: Some(60_000), ttl_by_status: vec![(400, 60_000)], ..Policy::default() };
    let cookie = ("cookie", "a=1");
    let no_store = ("cache-control", "no-store");
    let fresh = ("cache-control", "max-age=60");
    let variants = (0..33).map(|n| format!("f{n}")).collect::<Vec<_>>().join(",");
    let tags = (0..200).map(|n| format!("t{n}")).collect::<Vec<_>>().join(" ");
    let tags = ("surrogate-key", tags.as_str());
    let any = ("vary", "*");
    let large = Some(u64::MAX);
    let (get, put, post) = (Method::GET, Method::PUT, Method::POST);
    // Each row has what its own question asks for, and what a later one asks for too.
    type Row<'a> = (usize, &'a Policy, &'a Method, Lines<'a>, u16, Lines<'a>, Option<u64>);
    let rows: &[Row<'_>] = &[
        (0, &off, &put, &[], 200, &[fresh], None),
        (1, &bypass, &put, &[cookie], 200, &[fresh], None),
        (2, &bypass, &get, &[cookie, no_store], 200, &[fresh], None),
        (3, &bypass, &get, &[no_store], 412, &[fresh], None),
        (4, &plain, &get, &[], 429, &[fresh, ("cache-control", "must-understand")], None),
        (5, &plain, &get, &[("range", "bytes=0-1")], 206, &[no_store], None),
        (6, &plain, &get, &[], 418, &[("cache-control", "must-understand, no-store")], None),
        (7, &plain, &get, &[], 200, &[("cache-control", "private, no-store")], None),
        (8, &plain, &get, &[("authorization", "x")], 200, &[("cache-control", "private")], None),
        (9, &plain, &get, &[("authorization", "x")], 200, &[fresh, ("set-cookie", "a=b")], None),
        (10, &plain, &get, &[], 200, &[("set-cookie", "a=b")], None),
        (11, &plain, &get, &[], 200, &[any], None),
        (12, &ttl, &get, &[cookie], 302, &[any], None),
        (13, &ttl, &get, &[cookie], 400, &[any], None),
        (14, &ttl, &post, &[cookie], 200, &[("content-location", "/")], None),
        (15, &ttl, &get, &[cookie], 200, &[("age", "60")], None),
        (16, &plain, &get, &[], 200, &[("cache-control", "max-age=0"), any], None),
        (17, &plain, &get, &[], 200, &[fresh, ("age", "60"), any], None),
        (18, &plain, &get, &[], 200, &[fresh, any], large),
        (19, &plain, &get, &[], 200, &[fresh, ("vary", &variants)], large),
        (20, &plain, &get, &[], 200, &[fresh, tags], large),
        (21, &plain, &get, &[], 200, &[fresh, tags], None),
    ];
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), (0..QUESTIONS.len()).collect::<Vec<_>>());
    for (question, policy, method, request, status, response, length) in rows {
        let found = decided(policy, method, request, *status, response, *length);
        assert_eq!(found, Some((QUESTIONS[*question], Some(*question))), "{request:?} {status} {response:?}");
    }
}

proptest! {
    /// Whatever keeps a response out is one of the questions.
    #[test]
    fn whatever_decides_is_a_question(
        status in 100_u16..600,
        method in "GET|HEAD|POST|PUT",
        request in prop::collection::vec(prop::sample::select(vec![
            ("cookie", "a=1"), ("authorization", "x"), ("range", "bytes=0-1"), ("cache-control", "no-store"),
        ]), 0..3),
        response in prop::collection::vec(prop::sample::select(vec![
            ("cache-control", "max-age=60"), ("cache-control", "private"), ("cache-control", "no-cache"),
            ("cache-control", "no-store, must-understand"), ("cache-control", "public"), ("set-cookie", "a=b"),
            ("vary", "*"), ("vary", "a"), ("age", "99"), ("etag", "\"a\""), ("content-location", "/"),
            ("content-range", "bytes 0-1/5"), ("cdn-cache-control", "s-maxage=5"), ("expires", "0"),
        ]), 0..5),
        ttl in prop::option::of(0_u64..100_000), over: bool, keep in 0_u64..2,
        length in prop::option::of(any::<u64>()),
    ) {
        let policy = Policy {
            ttl,
            keep,
            origin_cache_control: if over { OriginCacheControl::Override } else { OriginCacheControl::Respect },
            client_cache_control: ClientCacheControl::Respect,
            ..Policy::default()
        };
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        if let Some((reason, question)) = decided(&policy, &method, &request, status, &response, length) {
            prop_assert_eq!(question.and_then(|at| QUESTIONS.get(at)), Some(&reason));
        }
    }

    /// Whatever is asked and answered, every route has something to say about it.
    #[test]
    fn anything_is_explained(
        path in "/(api/products/7|api/a|forced|events|images/a/small|about|[a-z/]{0,8})(\\?[ab=&]{0,6})?",
        host in "shop\\.example|a\\.other\\.example:8080|nobody",
        method in "GET|HEAD|POST|get",
        given in prop::collection::vec("(cookie|authorization|cache-control|pragma|range|if-none-match|connection|upgrade|vary): [ -~]{0,12}", 0..4),
        response in prop::option::of(prop::collection::vec(
            "(cache-control|cdn-cache-control|vary|age|date|expires|etag|last-modified|set-cookie|cache-tag|cache-groups|content-range|location|connection): ([ -~]{0,16}|max-age=[0-9]{1,12}|s-maxage=9|public|no-cache)",
            0..6,
        )),
        status in 100_u16..1000,
    ) {
        let rules = config::parse(CONFIG, "test", &|_| None).unwrap();
        let url: Url = format!("http://{host}{path}").parse().unwrap();
        let given: Vec<Field> = given.iter().map(|field| field.parse().unwrap()).collect();
        let asked = Asked::new(Method::from_bytes(method.as_bytes()).unwrap(), &url, &given).unwrap();
        let head = response.map(|lines| Head::parse(format!("HTTP/1.1 {status}\n{}", lines.join("\n")).as_bytes()).unwrap());
        let report = report(&rules, &asked, head.as_ref(), NOW);
        prop_assert!(report.starts_with("Request   ") && report.ends_with('\n'));
        let routed = rules.select(&asked.authority, asked.path()).is_some();
        prop_assert_eq!(report.contains("\nStored    "), routed && head.is_some());
    }
}

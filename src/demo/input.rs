//! What requests say: the filter of a list, a new price, the user a cookie names.
//!
//! Decides: what is well formed and within bounds. Never touches: answers. Nothing here trusts its
//! length, its encoding or its time of arrival.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use tokio::time::timeout;

use super::catalogue::{Filter, MAX_CENTS, Sort, categories, cents};
use super::query::{Query, Refusal};

/// The largest body of a change, in bytes.
const MAX_CHANGE: usize = 4 << 10;
/// How long the body of a change may take.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Which products a list is asked for.
///
/// # Errors
/// 400 that names the parameter and what it may be.
pub(super) fn filter(query: &Query) -> Result<Filter, Refusal> {
    let category = match query.one("category")? {
        None => None,
        Some(name) => Some(categories().find(|known| *known == name).ok_or_else(|| {
            let known: Vec<_> = categories().collect();
            Refusal::bad(format!("no such category; there are {}", known.join(", ")))
        })?),
    };
    let money = |name: &str, default| match query.one(name)? {
        None => Ok(default),
        Some(text) => cents(text).ok_or_else(|| Refusal::bad(format!("{name} must be a price, as in 19.99"))),
    };
    let (min_cents, max_cents) = (money("min_price", 0)?, money("max_price", MAX_CENTS)?);
    if min_cents > max_cents {
        return Err(Refusal::bad("min_price is above max_price"));
    }
    let sort = match query.one("sort")? {
        None => Sort::default(),
        Some(name) => Sort::named(name)
            .ok_or_else(|| Refusal::bad(format!("no such order; there are {}", Sort::NAMES)))?,
    };
    Ok(Filter {
        category,
        min_cents,
        max_cents,
        sort,
        page: query.number("page", 1..=10_000, 1)?,
        per_page: query.number("per_page", 1..=100, 20)?,
    })
}

/// Reads the new price, in cents, from the body of a change. Bounded in size and in time.
///
/// # Errors
/// 400, 408 or 413, saying what was expected.
pub(super) async fn price<B>(body: B) -> Result<u64, Refusal>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Change {
        price: serde_json::Number,
    }
    let body = Box::pin(Limited::new(body, MAX_CHANGE));
    let bytes: Bytes = match timeout(CHANGE_TIMEOUT, body.collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a change has at most {MAX_CHANGE} bytes"),
            ));
        }
        Ok(Err(_)) => return Err(Refusal::bad("the body broke off")),
        Err(_) => return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    };
    let change: Change = serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::bad(format!("expected {{\"price\": 19.99}}: {error}")))?;
    cents(&change.price.to_string()).ok_or_else(|| {
        Refusal::bad("price must be from 0 to 1000000 with at most two decimals, as in {\"price\": 19.99}")
    })
}

/// The user that the cookie `user=` names, when it names one alone.
pub(super) fn user_cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| HeaderValue::to_str(line).ok());
    let mut users =
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().strip_prefix("user="));
    let user = users.next()?;
    (users.next().is_none() && is_user(user)).then_some(user)
}

/// Whether this could be the name of a user: short, and harmless in a cookie and in JSON.
pub(super) fn is_user(name: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=32).contains(&name.len()) && name.bytes().all(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cookie_names_one_user() {
        for (lines, expected) in [
            (&["user=ana"][..], Some("ana")),
            (&["theme=dark; user=ben"], Some("ben")),
            (&["user=ana; user=ben"], None),
            (&["user=ana", "user=ben"], None),
            (&["user="], None),
            (&["user=a\"b"], None),
            (&["superuser=ana"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, HeaderValue::from_str(line).unwrap());
            }
            assert_eq!(user_cookie(&headers), expected, "{lines:?}");
        }
    }
}

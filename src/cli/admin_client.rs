//! Asking the admin listener of a running proxy.
//!
//! Decides: where it is, with which token it is asked, and how its refusals are told. Never touches:
//! what is asked for.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;

use super::client::{self, Connection, Listener};

/// Larger answers are none of an admin listener.
const MOST: usize = 16 << 20;

/// For an answer; a purge waits for Redis no longer than `write_timeout`.
const PATIENCE: Duration = Duration::from_secs(90);

/// An admin listener, and how to be let in.
#[derive(Debug)]
pub(super) struct AdminClient<'a> {
    /// Where it is.
    pub(super) at: &'a Listener,
    /// Its token, if it wants one.
    pub(super) token: Option<&'a str>,
}

/// What the listener answered.
#[derive(Debug)]
pub(super) struct Told {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its content.
    pub(super) text: String,
    /// Whether it was given a token.
    with_token: bool,
}

impl Told {
    /// What an answer that is no success says, in one line.
    pub(super) fn refusal(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.text).unwrap_or_default();
        let said = ["error", "message"].iter().find_map(|name| json[*name].as_str());
        let why = match self.status {
            StatusCode::UNAUTHORIZED if self.with_token => "it wants another token than this one",
            StatusCode::UNAUTHORIZED => "it wants a token: give --token, or set FOREBAY_ADMIN_TOKEN",
            _ => said.unwrap_or(self.text.trim()),
        };
        format!("the admin listener answered {}: {}", self.status.as_u16(), super::plain(why))
    }
}

impl AdminClient<'_> {
    /// GET.
    pub(super) fn get(&self, target: &str) -> Result<Told, String> {
        self.ask(Method::GET, target, Bytes::new())
    }

    /// POST of JSON.
    pub(super) fn post(&self, target: &str, body: &serde_json::Value) -> Result<Told, String> {
        self.ask(Method::POST, target, Bytes::from(body.to_string()))
    }

    fn ask(&self, method: Method, target: &str, body: Bytes) -> Result<Told, String> {
        let url = &self.at.0;
        let mut request = Request::builder().method(method).uri(target).header(HOST, &url.authority);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = self.token {
            let mut token = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| "the token has a character that no field can carry".to_owned())?;
            token.set_sensitive(true);
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let asking = async {
            let mut connection = Connection::open(url).await?;
            let answer = connection.send(request, PATIENCE).await?;
            let status = answer.status();
            let content = client::content(answer.into_body(), MOST, PATIENCE).await?;
            let text = String::from_utf8_lossy(&content).into_owned();
            Ok::<_, client::Failure>(Told { status, text, with_token: self.token.is_some() })
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let told = runtime.map_err(|error| error.to_string())?.block_on(asking);
        told.map_err(|failure| format!("http://{}: {}", url.authority, client::told(&failure)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_in_one_line() {
        let told = |status: u16, text: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            Told { status, text: text.to_owned(), with_token: false }.refusal()
        };
        assert_eq!(
            told(400, "{\"error\": \"tags[0] is empty\"}"),
            "the admin listener answered 400: tags[0] is empty"
        );
        assert_eq!(
            told(503, "{\"message\": \"later\", \"scope\": \"untold\"}"),
            "the admin listener answered 503: later"
        );
        assert_eq!(
            told(404, "nothing\u{1b}[2J here\n"),
            "the admin listener answered 404: nothing\\u{1b}[2J here"
        );
        assert!(told(401, "").ends_with("set FOREBAY_ADMIN_TOKEN"));
        let wrong = Told { status: StatusCode::UNAUTHORIZED, text: String::new(), with_token: true };
        assert_eq!(wrong.refusal(), "the admin listener answered 401: it wants another token than this one");
    }
}

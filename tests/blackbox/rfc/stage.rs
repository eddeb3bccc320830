//! One origin, one proxy, one tier; and the tables that run on them.

use std::ops::Deref;
use std::time::Duration;

use crate::support::*;

/// Which tier holds what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tiers {
    Memory,
    Redis,
}

/// A proxy before a scripted origin; everything a [`Forebay`] can be asked.
pub(super) struct Stage {
    pub(super) origin: Origin,
    proxy: Forebay,
    redis: Option<Redis>,
}

impl Tiers {
    /// A stage with these lines in `[defaults]`.
    pub(super) fn stage(self, defaults: &[&str]) -> Stage {
        self.configured(|config| defaults.iter().fold(config, |config, line| config.defaults(line)))
    }

    /// A stage with a configuration of its own.
    pub(super) fn configured(self, configure: impl FnOnce(Config) -> Config) -> Stage {
        let origin = Origin::start();
        let config = configure(Config::new(&origin));
        let (config, redis) = match self {
            Self::Memory => (config, None),
            Self::Redis => {
                let redis = Redis::start();
                (config.redis(&redis).without_memory(), Some(redis))
            }
        };
        let stage = Stage { origin, proxy: config.start(), redis };
        if stage.redis.is_some() {
            // Each of the two workers has a connection of its own.
            until("both workers use Redis", || stage.ready().matches("\"breaker\": \"closed\"").count() == 2);
        }
        stage
    }

    /// What `detail` of Cache-Status calls it.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
        }
    }
}

impl Deref for Stage {
    type Target = Forebay;

    fn deref(&self) -> &Forebay {
        &self.proxy
    }
}

impl Stage {
    /// A request without content; what it has set going has ended when this returns.
    #[track_caller]
    pub(super) fn ask(&self, method: &str, target: &str, lines: &str) -> Answer {
        let answer = self.proxy.request(method, target, lines);
        self.settle();
        answer
    }

    /// [`Stage::ask`] with GET.
    #[track_caller]
    pub(super) fn fetch(&self, target: &str, lines: &str) -> Answer {
        self.ask("GET", target, lines)
    }

    /// Whether a client would take the answer for a whole 200; it may as well see the connection break.
    pub(super) fn is_answered_whole(&self, target: &str) -> bool {
        let mut client = self.connect();
        client.send(request("GET", target, ""));
        let whole = client.try_answer().is_ok_and(|answer| answer.is_complete() && answer.status == 200);
        self.settle();
        whole
    }

    /// Waits until nothing is being fetched or stored: an answer is out before it is stored.
    #[track_caller]
    pub(super) fn settle(&self) {
        until("nothing is under way", || self.ready().contains("\"errands\": 0,"));
    }

    fn ready(&self) -> String {
        get(self.proxy.admin, "/ready", "Connection: close\r\n").text()
    }

    /// Scripts `target`: each answer has these lines, a field `X-Version` and content that both say
    /// which answer it is; a condition is answered with 304.
    pub(super) fn versions(&self, target: &str, lines: &str) {
        let lines = dated(lines);
        self.origin.on(target, move |exchange| answer_row(exchange, 200, &lines));
    }

    /// Runs a table. Every row is asked for once, and then every row again.
    #[track_caller]
    pub(super) fn run(&self, rows: &[Row]) {
        for (index, row) in rows.iter().enumerate() {
            // Its dates are the same in every answer.
            let (status, lines) = (row.status, dated(row.lines));
            self.origin.on(&format!("/{index}"), move |exchange| answer_row(exchange, status, &lines));
        }
        let firsts: Vec<_> = rows
            .iter()
            .enumerate()
            .map(|(index, row)| self.fetch(&format!("/{index}"), &crlf(row.first)))
            .collect();
        let mut failures = Vec::new();
        for (index, (row, first)) in rows.iter().zip(&firsts).enumerate() {
            let target = format!("/{index}");
            let second = self.fetch(&target, &crlf(row.second));
            let seen = self.origin.seen_at(&target);
            let conditional = seen.get(1).is_some_and(|seen| {
                seen.field("if-none-match").is_some() || seen.field("if-modified-since").is_some()
            });
            let then = match (second.x_cache(), seen.len(), second.field("x-version"), conditional) {
                ("HIT", 1, Some("1"), _) => Then::Reused,
                ("STALE", _, Some("1"), _) => Then::Stale,
                ("REVALIDATED", 2, Some("1"), true) => Then::Validated,
                ("MISS" | "BYPASS", 2, Some("2"), false) => Then::Fetched,
                _ => Then::SomethingElse,
            };
            let sound = first.is_complete() && second.is_complete() && first.status == row.status;
            if then != row.then || !sound || first.field("x-version") != Some("1") {
                failures.push(format!(
                    "{}\n  {:?}\n  expected {:?}, got {then:?}: first {} {}, second {} {}; {} at the origin",
                    row.name,
                    row.lines,
                    row.then,
                    first.status,
                    first.cache_status(),
                    second.status,
                    second.cache_status(),
                    seen.len(),
                ));
            }
        }
        assert!(failures.is_empty(), "{} of {} rows:\n{}", failures.len(), rows.len(), failures.join("\n"));
    }
}

/// What becomes of the second request of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Answered from what the first one had stored.
    Reused,
    /// The same, after the origin had confirmed it.
    Validated,
    /// The same, stale.
    Stale,
    /// The origin sent another one, and was asked no condition.
    Fetched,
    /// None of these: always a failure.
    SomethingElse,
}

/// A resource that is asked for twice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    name: &'static str,
    status: u16,
    lines: &'static str,
    first: &'static str,
    second: &'static str,
    then: Then,
}

/// A row: the fields of each 200, one a line, and what becomes of the second GET.
pub(super) const fn row(name: &'static str, lines: &'static str, then: Then) -> Row {
    Row { name, status: 200, lines, first: "", second: "", then }
}

impl Row {
    /// A row whose two requests differ.
    pub(super) const fn of(
        name: &'static str,
        lines: &'static str,
        first: &'static str,
        second: &'static str,
        then: Then,
    ) -> Self {
        Self { name, status: 200, lines, first, second, then }
    }

    pub(super) const fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Fields of both requests.
    pub(super) const fn asked(self, lines: &'static str) -> Self {
        Self { first: lines, second: lines, ..self }
    }

    /// Fields of the second request.
    pub(super) const fn then_asked(self, lines: &'static str) -> Self {
        Self { second: lines, ..self }
    }
}

/// Fields with these lines; those of a scripted answer with its dates filled in.
pub(super) fn with(reply: Reply, lines: &str) -> Reply {
    let mut reply = reply;
    for line in lines.split('\n').filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').expect("a field line has a colon");
        let value = value.strip_prefix(' ').unwrap_or(value);
        if name == "Date" {
            reply = reply.without_date();
        }
        if (name, value) != ("Date", "none") {
            reply = reply.field(name, dated(value));
        }
    }
    reply
}

/// The answer of a row to one request.
fn answer_row(exchange: &mut Exchange, status: u16, lines: &str) {
    let nth = exchange.nth();
    let asked = exchange.head();
    if asked.field("if-none-match").is_some() || asked.field("if-modified-since").is_some() {
        return exchange.reply(&with(Reply::not_modified(), lines));
    }
    let content = if matches!(status, 204 | 205) { String::new() } else { format!("v{nth}") };
    let reply = with(Reply::new(status), lines).field("X-Version", nth.to_string());
    exchange.reply(&reply.body(content));
}

/// Lines of a request, each with its CRLF.
pub(super) fn crlf(lines: &str) -> String {
    lines.split('\n').filter(|line| !line.is_empty()).map(|line| format!("{line}\r\n")).collect()
}

/// The text with each `{-60}` or `{+60}` replaced by the HTTP-date that many seconds from now.
pub(super) fn dated(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (offset, after) = after.split_once('}').expect("a date is closed");
        out += before;
        out += &date(offset.parse().expect("an offset in seconds"));
        rest = after;
    }
    out + rest
}

/// The HTTP-date this many seconds from now.
pub(super) fn date(offset: i64) -> String {
    let millis = ::forebay::clock::wall().0.saturating_add_signed(offset * 1000);
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_millis(millis))
}

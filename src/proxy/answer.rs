//! Answers made from stored responses: preconditions, ranges, HEAD, and the fields forebay adds.
//!
//! Decides: which part of a stored response answers this request (RFC 9110 13.2.2, 14.2, 15.4.5).
//! Never touches: whether it may be reused (that verdict has fallen before).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    AGE, CACHE_STATUS, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, LAST_MODIFIED, TE, TRAILER,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use super::Proxy;
use super::asked::{Asked, Outcome};
use super::deliver::{Content, Delivery, PIECE, Reply};
use super::errand::Landed;
use super::error::Failure;
use super::record::Record;
use crate::caching::admission::RequestFacts;
use crate::caching::age::age_seconds;
use crate::caching::outcome::{CacheResult, Reason, X_CACHE};
use crate::caching::stored::{self, InStore, StoredBody, StoredHead};
use crate::caching::tags;
use crate::collapse::fill::FillReader;
use crate::semantics::preconditions::{self, Precondition};
use crate::semantics::range::{self, ByteRange, ContentRange, Multipart, RangeVerdict, Representation};
use crate::semantics::{UnixMillis, fields};
use crate::upstream::{Answer, AnswerBody, response};
use crate::wire::{AnswerHead, FieldLines};

/// Where a stored response's content is read from.
#[derive(Debug)]
pub(super) enum Source {
    /// At hand.
    Whole(Bytes),
    /// Still growing, or shared with other readers.
    Growing(FillReader, Option<u64>),
    /// In a store, where what this request needs of it is being read.
    Opened(Box<Opened>),
}

/// Stored content of which one request's part is being read.
#[derive(Debug)]
pub(super) struct Opened {
    /// Length of all of it.
    pub length: u64,
    /// The bytes that this request needs, and what stands around them; `None` where it needs none.
    pub reader: Option<FillReader>,
    /// What stands around them where they are several ranges.
    pub multipart: Option<Multipart>,
}

/// What of a stored response's content its answer to one request is made of.
#[derive(Debug)]
pub(super) enum Needs {
    /// Nothing.
    Nothing,
    /// All of it.
    Whole,
    /// This range of it.
    Range(ByteRange),
    /// These ranges of it, in this frame.
    Ranges(Multipart, Vec<ByteRange>),
}

/// What of a content of `length` bytes is needed, before any of it is read.
pub(super) fn needs(asked: &Asked, facts: &RequestFacts, head: &StoredHead, length: u64) -> Needs {
    if *asked.method() == Method::HEAD || is_not_modified(asked, facts, head) {
        return Needs::Nothing;
    }
    let Some((complete, begins)) = extent(head, Some(length)) else { return Needs::Whole };
    match ranges(asked, facts, head, complete) {
        RangeVerdict::Single(range) if held(head, range) => Needs::Range(within(range, begins)),
        RangeVerdict::Several(ranges) if ranges.iter().all(|range| held(head, *range)) => {
            let within = ranges.iter().map(|range| within(*range, begins)).collect();
            Needs::Ranges(multipart(head.field(&CONTENT_TYPE).cloned(), complete, ranges), within)
        }
        RangeVerdict::Unsatisfiable => Needs::Nothing,
        RangeVerdict::Whole | RangeVerdict::Single(_) | RangeVerdict::Several(_) => Needs::Whole,
    }
}

impl Source {
    /// The content of a response that answers a HEAD: none of it is read.
    #[must_use]
    pub(super) fn of_head(body: &StoredBody) -> Self {
        match body {
            StoredBody::Here(body) => Self::Whole(body.clone()),
            StoredBody::InStore(InStore { length, .. }) => {
                Self::Opened(Box::new(Opened { length: *length, reader: None, multipart: None }))
            }
        }
    }

    const fn length(&self) -> Option<u64> {
        match self {
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Growing(_, length) => *length,
            Self::Opened(opened) => Some(opened.length),
        }
    }

    fn whole(self) -> Content {
        match self {
            Self::Whole(bytes) => Content::Whole(bytes),
            Self::Growing(reader, _) => Content::Growing(reader),
            Self::Opened(opened) => opened.content(),
        }
    }

    fn slice(self, range: ByteRange) -> Content {
        match self {
            Self::Whole(bytes) => Content::Whole(cut(&bytes, range)),
            Self::Growing(from, _) => Content::Part { from, skip: range.first, take: range.length() },
            // It is the range that is being read.
            Self::Opened(opened) => opened.content(),
        }
    }
}

impl Opened {
    fn content(self) -> Content {
        self.reader.map_or(Content::Unread(self.length), Content::Stored)
    }
}

/// A stored response, as one client is answered from it.
#[derive(Debug)]
pub(super) struct Reused<'a> {
    /// Its head.
    pub head: &'a StoredHead,
    /// Which fields the client is given.
    pub fields: Given<'a>,
    /// Its content.
    pub source: Source,
}

/// To whom a response is told.
#[derive(Debug)]
pub(super) enum Given<'a> {
    /// To the client that fetched it: the fields as they came for it (a qualified `private`, the origin's
    /// own `Age`).
    First(&'a HeaderMap),
    /// To any other: the stored fields, and how old it is by now (RFC 9111 5.1).
    Again {
        /// What `Age` says, in seconds.
        age: u64,
    },
}

impl<'a> Given<'a> {
    /// A stored response, as of `now`.
    pub(super) fn again(head: &StoredHead, now: UnixMillis) -> Self {
        Self::Again { age: age_seconds(head.current_age(now)) }
    }

    /// What a fetch came to: to the client that caused it, or to one that waited for it.
    pub(super) fn landed(landed: &'a Landed, is_first: bool, now: UnixMillis) -> Self {
        match &landed.own_fields {
            Some(own) if is_first => Self::First(own),
            _ => Self::again(&landed.head, now),
        }
    }

    /// The lines of a stored response that are to be told.
    fn stored(&self, head: &'a StoredHead, told: Told) -> Fields<'a> {
        let age = match self {
            Self::First(_) => None,
            Self::Again { age } => Some(*age),
        };
        Fields::Stored { fields: &head.fields, told, age }
    }

    /// All of them as a map.
    fn map(&self, head: &StoredHead) -> HeaderMap {
        match self {
            Self::First(own) => (*own).clone(),
            Self::Again { age } => {
                let mut map = HeaderMap::with_capacity(head.fields.len() + 4);
                map.extend(head.fields.iter().map(|(name, value)| (name.clone(), value.clone())));
                map.insert(AGE, HeaderValue::from(*age));
                map
            }
        }
    }
}

impl Proxy {
    /// Answers from a stored response, or from one that is being stored.
    pub(super) fn answer(
        self: &Arc<Self>,
        asked: &Asked,
        facts: &RequestFacts,
        route: usize,
        reused: Reused<'_>,
        mut outcome: Outcome,
    ) -> Reply {
        let Reused { head, fields, source } = reused;
        let (status, fields, content) = if is_not_modified(asked, facts, head) {
            (StatusCode::NOT_MODIFIED, fields.stored(head, Told::In304), Content::Empty)
        } else if facts.range || head.part.is_some() || !head.trailers.is_empty() {
            let mut headers = fields.map(head);
            let (status, content) = select(asked, facts, head, source, &mut headers);
            let content = trailed(asked, head, status, content, &mut headers);
            (status, Fields::Map(headers), content)
        } else {
            let fields = match fields {
                Given::First(own) => Fields::Map(own.clone()),
                fields @ Given::Again { .. } => fields.stored(head, Told::All),
            };
            (head.status, fields, source.whole())
        };
        if status == StatusCode::RANGE_NOT_SATISFIABLE && outcome.fwd.is_none() {
            outcome.reason = Some(Reason::RangeNotSatisfiable);
        }
        self.finish(asked, Some(route), status, fields, content, outcome)
    }

    /// Passes the origin's answer on as it streams.
    pub(super) fn pass(
        self: &Arc<Self>,
        asked: &Asked,
        route: usize,
        status: StatusCode,
        headers: HeaderMap,
        body: AnswerBody,
        outcome: Outcome,
    ) -> Reply {
        self.finish(asked, Some(route), status, Fields::Map(headers), passing(asked, body), outcome)
    }

    /// The same of an answer whose fields nobody has looked at: less those that end here, and the tags.
    pub(super) fn pass_on(
        self: &Arc<Self>,
        asked: &Asked,
        route: usize,
        answer: Answer<response::Head>,
        outcome: Outcome,
    ) -> Reply {
        let Answer { mut head, body, .. } = answer;
        head.clean(&self.site.via);
        let content = passing(asked, body);
        self.finish(asked, Some(route), head.status, Fields::Lines(&head.fields), content, outcome)
    }

    /// Tells the client that both sides now speak another protocol.
    pub(super) fn switching(
        self: &Arc<Self>,
        asked: &Asked,
        route: usize,
        headers: HeaderMap,
        outcome: Outcome,
    ) -> Reply {
        self.finish(
            asked,
            Some(route),
            StatusCode::SWITCHING_PROTOCOLS,
            Fields::Map(headers),
            Content::Empty,
            outcome,
        )
    }

    /// Tells the client that no response could be had.
    pub(super) fn fail(
        self: &Arc<Self>,
        asked: &Asked,
        route: Option<usize>,
        failure: Failure,
        mut outcome: Outcome,
    ) -> Reply {
        outcome.result = CacheResult::Error;
        outcome.reason = Some(failure.reason);
        // RFC 9211 2: no member on what is generated here.
        (outcome.fwd, outcome.tier) = (None, None);
        let (headers, content) = failure.answer();
        self.finish(asked, route, failure.status, Fields::Map(headers), content, outcome)
    }

    /// Adds what forebay says of itself, and hands the record to whoever sees the end of the body.
    pub(super) fn finish(
        self: &Arc<Self>,
        asked: &Asked,
        route: Option<usize>,
        status: StatusCode,
        fields: Fields<'_>,
        content: Content,
        outcome: Outcome,
    ) -> Reply {
        let server = &self.site.rules.server;
        let x_cache = outcome.result.x_cache().filter(|_| server.x_cache);
        // A stated length leaves no room for trailers (RFC 9112 7.1.2).
        let kept =
            Kept { trailer: content.length().is_none() && takes_trailers(asked), x_cache: x_cache.is_none() };
        let mut head = fields.write(status, kept);
        if let Some(member) = outcome.cache_status(&server.name) {
            // Behind those of the caches nearer to the origin (RFC 9211 2).
            head.text_line(&CACHE_STATUS, member.to_text().as_bytes());
        }
        if let Some(word) = &x_cache {
            head.line(&X_CACHE, word);
        }
        let record = Record::of(self, asked, route, status, outcome);
        let delivery = match content {
            Content::Empty => {
                record.write(0, None);
                Delivery::of(Content::Empty)
            }
            content if *asked.method() == Method::HEAD => {
                // The length a GET would have had (RFC 9110 8.6); the content itself is not sent. What the
                // origin answered to a HEAD has none, and its head knows better.
                if !matches!(content, Content::Passing(_))
                    && let Some(length) = content.length()
                {
                    head.unsent_length(length);
                }
                record.write(0, None);
                Delivery::of(Content::Empty)
            }
            Content::Whole(bytes) if bytes.len() <= PIECE => {
                record.write(bytes.len() as u64, None);
                Delivery::of(Content::Whole(bytes))
            }
            content => Delivery::new(content, Some(Box::new(record))),
        };
        (head, delivery)
    }
}

/// An origin's content on its way to the client: what has come with its head is at hand, as stored content is.
fn passing(asked: &Asked, body: AnswerBody) -> Content {
    // The answer to a HEAD has no content, and that says nothing of its length.
    if *asked.method() == Method::HEAD {
        return Content::Passing(Box::new(body));
    }
    match body.into_whole(PIECE) {
        Ok(content) => Content::Whole(content),
        Err(body) => Content::Passing(Box::new(body)),
    }
}

/// The fields of an answer, less what forebay says of itself.
#[derive(Debug)]
pub(super) enum Fields<'a> {
    /// These.
    Map(HeaderMap),
    /// These lines of an origin's answer, less its tags.
    Lines(&'a FieldLines),
    /// Those of a stored response that are to be told, and how old it is by now where that is said.
    Stored {
        /// All of them.
        fields: &'a stored::Fields,
        /// Which are told.
        told: Told,
        /// What `Age` says, in seconds.
        age: Option<u64>,
    },
}

/// Which fields of a stored response are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// All.
    All,
    /// Those that a 304 has.
    In304,
}

/// Which fields of others are told that this hop may have to leave out.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// `Trailer`, where trailers may follow.
    trailer: bool,
    /// `X-Cache`, where we say none.
    x_cache: bool,
}

impl Kept {
    fn field(self, name: &HeaderName) -> bool {
        (self.trailer || *name != TRAILER) && (self.x_cache || *name != X_CACHE)
    }

    /// The same of a name in lower case.
    fn line(self, name: &[u8]) -> bool {
        (self.trailer || name != TRAILER.as_str().as_bytes())
            && (self.x_cache || name != X_CACHE.as_str().as_bytes())
    }
}

impl Fields<'_> {
    /// The head with those that are `kept`.
    fn write(self, status: StatusCode, kept: Kept) -> AnswerHead {
        match self {
            Self::Map(map) => AnswerHead::of_kept(status, &map, |name| kept.field(name)),
            Self::Lines(lines) => {
                AnswerHead::of_lines(status, lines, |name| kept.line(name) && !tags::is_tag_field_bytes(name))
            }
            Self::Stored { fields, told, age } => {
                let mut head = AnswerHead::new(status);
                match fields.text().filter(|_| told == Told::All) {
                    Some(text) => text.write(|piece| head.text(piece, text.is_dated())),
                    None => fields.iter().for_each(|(name, value)| {
                        if *name == CONTENT_LENGTH {
                            // Of a response to HEAD: there is no content to count.
                            head.stated_length(value.as_bytes());
                        } else if (told == Told::All || is_in_304(name)) && kept.field(name) {
                            head.line(name, value);
                        }
                    }),
                }
                if let Some(age) = age {
                    head.number_line(&AGE, age);
                }
                head
            }
        }
    }
}

/// Whether the client's own copy is what it is to be answered with (RFC 9110 13.2.2).
fn is_not_modified(asked: &Asked, facts: &RequestFacts, head: &StoredHead) -> bool {
    facts.conditional
        && head.status == StatusCode::OK
        && precondition(asked, head) == Precondition::NotModified
}

fn precondition(asked: &Asked, head: &StoredHead) -> Precondition {
    preconditions::evaluate(
        asked.headers(),
        head.field(&ETAG),
        head.field(&LAST_MODIFIED),
        head.field(&DATE),
        asked.now,
    )
}

/// The bytes that a request selects of a response whose complete length is known: all of them
/// (`None`), or ranges.
fn ranges(asked: &Asked, facts: &RequestFacts, head: &StoredHead, complete: u64) -> RangeVerdict {
    if !facts.range || *asked.method() != Method::GET {
        return RangeVerdict::Whole;
    }
    let whole = Representation {
        length: complete,
        etag: head.field(&ETAG),
        last_modified: head.field(&LAST_MODIFIED),
        date: head.field(&DATE),
    };
    range::judge(asked.headers(), &whole, asked.now)
}

/// Whether a stored part (RFC 9111 3.3) holds everything that this request asks of it.
pub(super) fn part_suffices(asked: &Asked, facts: &RequestFacts, head: &StoredHead) -> bool {
    let Some(part) = head.part else { return true };
    match ranges(asked, facts, head, part.complete) {
        RangeVerdict::Single(range) => part.covers(range.first, range.last),
        RangeVerdict::Several(ranges) => ranges.iter().all(|range| part.covers(range.first, range.last)),
        RangeVerdict::Unsatisfiable => true,
        RangeVerdict::Whole => false,
    }
}

/// The part of the stored response that the request selects: all of it, or ranges of it.
fn select(
    asked: &Asked,
    facts: &RequestFacts,
    head: &StoredHead,
    source: Source,
    headers: &mut HeaderMap,
) -> (StatusCode, Content) {
    let Some((complete, begins)) = extent(head, source.length()) else {
        return (head.status, source.whole());
    };
    match (ranges(asked, facts, head, complete), source) {
        (RangeVerdict::Single(range), source) if held(head, range) => {
            headers.insert(CONTENT_RANGE, ContentRange::satisfied(range, complete).to_value());
            (StatusCode::PARTIAL_CONTENT, source.slice(within(range, begins)))
        }
        (RangeVerdict::Several(ranges), Source::Whole(body))
            if ranges.iter().all(|range| held(head, *range)) =>
        {
            let multipart = multipart(headers.remove(CONTENT_TYPE), complete, ranges);
            headers.insert(CONTENT_TYPE, multipart.content_type());
            let mut pieces = Vec::with_capacity(multipart.ranges().len() * 2 + 1);
            for (at, range) in multipart.ranges().iter().enumerate() {
                pieces.extend(multipart.part_head(at));
                pieces.push(cut(&body, within(*range, begins)));
            }
            pieces.push(multipart.tail());
            (StatusCode::PARTIAL_CONTENT, Content::Pieces(pieces.into_iter(), multipart.content_length()))
        }
        (RangeVerdict::Several(_), Source::Opened(opened)) if opened.multipart.is_some() => {
            if let Some(multipart) = &opened.multipart {
                headers.insert(CONTENT_TYPE, multipart.content_type());
            }
            (StatusCode::PARTIAL_CONTENT, opened.content())
        }
        (RangeVerdict::Unsatisfiable, _) => {
            headers.insert(CONTENT_RANGE, ContentRange::unsatisfied(complete).to_value());
            (StatusCode::RANGE_NOT_SATISFIABLE, Content::Empty)
        }
        // Several ranges of a body that is still growing would have to be held back: whole, then.
        // A part that does not hold what was asked for is what the origin chose to answer with.
        (RangeVerdict::Whole | RangeVerdict::Single(_) | RangeVerdict::Several(_), source) => {
            if let Some(part) = head.part {
                let range = ByteRange { first: part.first, last: part.last };
                headers.insert(CONTENT_RANGE, ContentRange::satisfied(range, complete).to_value());
            }
            (head.status, source.whole())
        }
    }
}

/// Whether the client has said that it takes trailers (RFC 9110 6.5.1, 10.1.4), and could be sent some.
fn takes_trailers(asked: &Asked) -> bool {
    asked.head.version == Version::HTTP_11
        && asked.head.headers.contains_key(TE)
        && fields::has_token(&asked.head.headers, &TE, "trailers")
}

/// The content with the trailers that are stored with it, where it is the whole of what they came with
/// and the client takes them. A 304 and a range have none: they were said of the whole.
fn trailed(
    asked: &Asked,
    head: &StoredHead,
    status: StatusCode,
    content: Content,
    headers: &mut HeaderMap,
) -> Content {
    if head.trailers.is_empty() {
        return content;
    }
    let is_whole = head.part.is_none() && status == head.status;
    if !is_whole || *asked.method() != Method::GET || !takes_trailers(asked) {
        return content;
    }
    let mut trailers = HeaderMap::with_capacity(head.trailers.len());
    for (name, value) in &head.trailers {
        if !trailers.contains_key(name) {
            headers.append(TRAILER, HeaderValue::from(name.clone()));
        }
        trailers.append(name.clone(), value.clone());
    }
    Content::Trailed(Box::new(content), trailers)
}

/// How long the representation is of which a response holds `length` bytes, and where in it they begin: a
/// part knows, a whole response begins at its first byte. `None` where it has no ranges.
fn extent(head: &StoredHead, length: Option<u64>) -> Option<(u64, u64)> {
    match (head.part, head.status) {
        (Some(part), _) => Some((part.complete, part.first)),
        (None, StatusCode::OK) => length.map(|length| (length, 0)),
        (None, _) => None,
    }
}

/// A range of a representation within content that begins there.
const fn within(range: ByteRange, begins: u64) -> ByteRange {
    ByteRange { first: range.first.saturating_sub(begins), last: range.last.saturating_sub(begins) }
}

fn multipart(content_type: Option<HeaderValue>, complete: u64, ranges: Vec<ByteRange>) -> Multipart {
    let seed = u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..));
    Multipart::new(seed, content_type, complete, ranges)
}

/// Whether a stored response holds a range of its representation.
fn held(head: &StoredHead, range: ByteRange) -> bool {
    head.part.is_none_or(|part| part.covers(range.first, range.last))
}

fn cut(body: &Bytes, range: ByteRange) -> Bytes {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(body.len());
    let (start, end) = (at(range.first), at(range.last.saturating_add(1)));
    body.slice(start..end.max(start))
}

/// RFC 9110 15.4.5: the fields a 200 would have had that concern the cached response, no others.
fn is_in_304(name: &HeaderName) -> bool {
    use http::header::{CACHE_CONTROL, CONTENT_LOCATION, EXPIRES, VARY, VIA};
    const KEPT: [HeaderName; 8] =
        [CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY, VIA];
    KEPT.contains(name) || name.as_str() == "cdn-cache-control"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same answer, byte for byte, whatever form the lines are in.
    #[test]
    fn every_form_of_lines_is_told_alike() {
        let lines = |special: &'static str| {
            let line = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
            let all = [line("content-type", "text/html"), line("date", "then"), line("etag", "\"a\"")];
            all.into_iter().chain([line(special, "1"), line("x-a", ""), line("x-a", "b")]).collect::<Vec<_>>()
        };
        for special in ["x-b", "x-cache", "content-length"] {
            let loose = stored::Fields::from(lines(special));
            let open = lines(special).into_iter().map(|(name, _)| (name, None)).collect();
            let template = Arc::new(stored::Template::new(open).prepared());
            let own = lines(special).into_iter().map(|(_, value)| value).collect();
            let packed = stored::Fields::packed(template, own).expect("as many");
            let text = loose.as_text().expect("lines");
            assert_eq!(text.text().is_some(), special == "x-b");
            for (told, x_cache) in [(Told::All, false), (Told::All, true), (Told::In304, false)] {
                let head = |fields| {
                    let fields = Fields::Stored { fields, told, age: Some(7) };
                    format!("{:?}", fields.write(StatusCode::OK, Kept { trailer: true, x_cache }))
                };
                assert_eq!(head(&text), head(&loose), "{special} {told:?}");
                assert_eq!(head(&packed), head(&loose), "{special} {told:?}");
            }
            // As the origin said them, tags and all.
            let said = lines(special).iter().fold("cache-tag: t\r\n".to_owned(), |said, (name, value)| {
                said + &format!("{name}: {}\r\n", value.to_str().expect("text"))
            });
            let said = FieldLines::read(said.as_bytes()).expect("good lines");
            let map: HeaderMap = lines(special).into_iter().collect();
            for x_cache in [false, true] {
                let head = |fields: Fields<'_>| {
                    format!("{:?}", fields.write(StatusCode::OK, Kept { trailer: true, x_cache }))
                };
                assert_eq!(head(Fields::Lines(&said)), head(Fields::Map(map.clone())), "{special}");
            }
        }
    }
}

//! The endpoints of the product service: which path is which, and what each one says.
//!
//! Decides: paths, methods, content, `Cache-Control`, tags. Never touches: sockets. Each endpoint
//! shows one thing a cache must get right; its comment says which.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::header::{ALLOW, CONTENT_LOCATION, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::Body;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::answer::{Answer, NO_STORE, SURROGATE_KEY};
use super::catalogue::{Catalogue, PRODUCTS, Product, categories, cents};
use super::input::{filter, is_user, price, user_cookie};
use super::payload::Payload;
use super::picture;
use super::product_service::Cost;
use super::query::{Query, Refusal, whole_number};
use crate::clock;

const READ: &str = "GET, HEAD, OPTIONS";
const READ_AND_CHANGE: &str = "GET, HEAD, OPTIONS, PUT, PATCH, POST";

/// Every third request of `/flaky` fails.
const FLAKY_PERIOD: u64 = 3;
/// The longest `/slow`, in seconds.
const SLOWEST: u64 = 30;

/// What can be downloaded, and how large it is in bytes.
const DOWNLOADS: [(&str, u64); 3] =
    [("price-list.bin", 2 << 20), ("brochure.bin", 8 << 20), ("film.bin", 64 << 20)];

/// What a path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Index,
    Products,
    Product(u32),
    Search,
    Image(u32),
    Download(&'static str, u64),
    Account,
    Login,
    Flaky,
    Slow,
    Events,
    Health,
    Stats,
}

/// How often each endpoint was asked: what `/stats` shows, and a cache in front keeps small.
#[derive(Debug, Default)]
struct Counters {
    index: AtomicU64,
    products: AtomicU64,
    product: AtomicU64,
    product_change: AtomicU64,
    search: AtomicU64,
    image: AtomicU64,
    download: AtomicU64,
    account: AtomicU64,
    login: AtomicU64,
    flaky: AtomicU64,
    slow: AtomicU64,
    events: AtomicU64,
    health: AtomicU64,
    stats: AtomicU64,
    unknown: AtomicU64,
}

/// The shop's state, shared by all its connections.
#[derive(Debug)]
pub(super) struct Shop {
    /// Held for as long as it takes to read or write, never across an await.
    catalogue: RwLock<Catalogue>,
    cost: Cost,
    counters: Counters,
    /// Set once, when the service stops: ends the event streams.
    stopping: Arc<AtomicBool>,
}

impl Shop {
    pub(super) fn new(cost: Cost) -> Self {
        Self {
            catalogue: RwLock::new(Catalogue::printed()),
            cost,
            counters: Counters::default(),
            stopping: Arc::default(),
        }
    }

    /// Ends every event stream at its next tick.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Answers one request. Dropped when its client goes away; a price change has then either
    /// happened or not, as it takes no await.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Response<Payload>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let endpoint = endpoint(head.uri.path());
        let number = self.count(endpoint, &head.method);
        let answer = match endpoint {
            None => Err(Refusal::new(StatusCode::NOT_FOUND, "no such page; / lists what there is")),
            Some(Endpoint::Product(id)) if is_change(&head.method) => {
                self.change(id, &head.headers, body).await
            }
            Some(endpoint) if head.method == Method::GET || head.method == Method::HEAD => {
                self.read(endpoint, number, head.uri.query(), &head.headers).await
            }
            Some(endpoint) if head.method == Method::OPTIONS => Ok(Answer::methods(endpoint.allow())),
            Some(endpoint) => {
                let message = format!("{} has no meaning here", head.method);
                let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message);
                Ok(Answer::refusal(&refusal).field(ALLOW, endpoint.allow()))
            }
        };
        answer.unwrap_or_else(|refusal| Answer::refusal(&refusal)).respond(&head.method, &head.headers)
    }

    /// Answers a GET or HEAD, the `number`th request of this endpoint.
    async fn read(
        &self,
        endpoint: Endpoint,
        number: u64,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Answer, Refusal> {
        let query = Query::parse(query)?;
        match endpoint {
            Endpoint::Index => self.index().await,
            Endpoint::Products => self.products(&query).await,
            Endpoint::Product(id) => self.product(id).await,
            Endpoint::Search => self.search(&query).await,
            Endpoint::Image(id) => self.image(id).await,
            Endpoint::Download(name, length) => Ok(download(name, length)),
            Endpoint::Account => self.account(number, headers).await,
            Endpoint::Login => self.login(&query).await,
            Endpoint::Flaky => self.flaky(number).await,
            Endpoint::Slow => slow(&query).await,
            Endpoint::Events => Ok(self.events()),
            Endpoint::Health => health(),
            Endpoint::Stats => self.stats(),
        }
    }

    /// What there is.
    async fn index(&self) -> Result<Answer, Refusal> {
        pause(self.cost.page).await;
        let categories: Vec<_> = categories().collect();
        let index = serde_json::json!({
            "service": "forebay's demonstration shop",
            "products": PRODUCTS,
            "categories": categories,
            "endpoints": {
                "/api/products": "a list; category, min_price, max_price, sort, page, per_page",
                "/api/products/{id}": "one product; PUT, PATCH or POST {\"price\": 19.99} changes its price",
                "/api/search?q=": "products by name, category or material",
                "/images/{id}.png": "a picture of a product",
                "/downloads/{name}": DOWNLOADS.map(|(name, length)| format!("{name}: {} MiB", length >> 20)),
                "/me": "a page for the user that the cookie user= names, and for nobody else",
                "/login?user=": "sets that cookie, on a page that claims to be cacheable",
                "/flaky": "fails every third time",
                "/slow?seconds=": "takes its time",
                "/events": "server-sent events, about one a second",
                "/health": "whether this service is up",
                "/stats": "how often each of these was asked",
            },
        });
        Ok(Answer::json(&index)?.cache("public, max-age=60"))
    }

    /// Lists: many addresses with the same content behind them, each tagged with what it shows.
    async fn products(&self, query: &Query) -> Result<Answer, Refusal> {
        let filter = filter(query)?;
        pause(self.cost.list).await;
        let catalogue = self.catalogue.read().unwrap_or_else(PoisonError::into_inner);
        let page = catalogue.list(&filter);
        let mut tags = String::from("catalogue");
        if let Some(category) = filter.category {
            tags += &format!(" category:{category}");
        }
        for product in &page.products {
            tags += &format!(" product:{}", product.id);
        }
        let answer = Answer::json(&page)?.modified(catalogue.modified);
        Ok(answer.cache(PRODUCT_CACHE_CONTROL).vary("Accept-Encoding").computed(SURROGATE_KEY, &tags))
    }

    /// One product: the plain case, with validators, stale-while-revalidate and tags.
    async fn product(&self, id: u32) -> Result<Answer, Refusal> {
        pause(self.cost.page).await;
        let catalogue = self.catalogue.read().unwrap_or_else(PoisonError::into_inner);
        match catalogue.product(id) {
            Some(product) => product_answer(product),
            // A 404 with freshness of its own: asked for again and again, found out once.
            None => Ok(Answer::lasting_refusal(&no_such_product(id))),
        }
    }

    /// A new price: an unsafe method, after which no cache may answer with the old one.
    async fn change<B>(&self, id: u32, headers: &HeaderMap, body: B) -> Result<Answer, Refusal>
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let price = price(body).await?;
        pause(self.cost.page).await;
        let now = clock::wall().0 / 1000;
        let mut catalogue = self.catalogue.write().unwrap_or_else(PoisonError::into_inner);
        let before = catalogue.product(id).ok_or_else(|| no_such_product(id))?;
        product_answer(before)?.check_if_match(headers)?;
        let product = catalogue.change_price(id, price, now).ok_or_else(|| no_such_product(id))?;
        let answer = Answer::json(product)?.modified(product.modified);
        Ok(answer.computed(CONTENT_LOCATION, &format!("/api/products/{id}")))
    }

    /// A search: dear, asked in many spellings, fresh for a shorter time.
    async fn search(&self, query: &Query) -> Result<Answer, Refusal> {
        let words = query.one("q")?.unwrap_or_default().trim();
        if words.is_empty() || words.chars().count() > 64 {
            return Err(Refusal::bad("q must be 1 to 64 characters, as in /api/search?q=teapot"));
        }
        pause(self.cost.search).await;
        #[derive(Serialize)]
        struct Found<'a> {
            query: &'a str,
            products: Vec<&'a Product>,
        }
        let catalogue = self.catalogue.read().unwrap_or_else(PoisonError::into_inner);
        let found = Found { query: words, products: catalogue.search(words) };
        let mut tags = String::from("catalogue");
        for product in &found.products {
            tags += &format!(" product:{}", product.id);
        }
        let answer = Answer::json(&found)?.modified(catalogue.modified);
        Ok(answer.cache("public, max-age=30").vary("Accept-Encoding").computed(SURROGATE_KEY, &tags))
    }

    /// A picture: larger, long fresh, the same for everybody.
    async fn image(&self, id: u32) -> Result<Answer, Refusal> {
        if id == 0 || id > PRODUCTS {
            return Ok(Answer::lasting_refusal(&no_such_product(id)));
        }
        pause(self.cost.file).await;
        let answer = Answer::bytes("image/png", picture::png(id).into());
        Ok(answer.cache("public, max-age=86400").computed(SURROGATE_KEY, &format!("product:{id}")))
    }

    /// A private page: no two users, and no two visits, get the same one.
    async fn account(&self, visit: u64, headers: &HeaderMap) -> Result<Answer, Refusal> {
        pause(self.cost.page).await;
        let account = match user_cookie(headers) {
            Some(user) => serde_json::json!({ "user": user, "visit": visit, "basket": [1 + visit % 480] }),
            None => serde_json::json!({ "user": null, "visit": visit, "log in": "/login?user=ana" }),
        };
        Ok(Answer::json(&account)?.cache("private, max-age=60").vary("Cookie"))
    }

    /// A careless page: it sets a cookie and claims to be cacheable. A cache that believed it would
    /// hand one user's session to the next.
    async fn login(&self, query: &Query) -> Result<Answer, Refusal> {
        let user = query.one("user")?.unwrap_or("guest");
        if !is_user(user) {
            return Err(Refusal::bad("user must be 1 to 32 letters, digits, '-' or '_'"));
        }
        pause(self.cost.page).await;
        let answer = Answer::json(&serde_json::json!({ "user": user, "next": "/me" }))?;
        let cookie = format!("user={user}; Path=/; HttpOnly; SameSite=Lax");
        Ok(answer.cache("public, max-age=60").computed(SET_COOKIE, &cookie))
    }

    /// A page that fails at times, and allows a stale answer while it does.
    async fn flaky(&self, asked: u64) -> Result<Answer, Refusal> {
        pause(self.cost.page).await;
        if asked.is_multiple_of(FLAKY_PERIOD) {
            let message = format!("request {asked} fails, as every {FLAKY_PERIOD}rd one does");
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message);
            return Ok(Answer::refusal(&refusal).field(RETRY_AFTER, "1"));
        }
        let answer = Answer::json(&serde_json::json!({ "asked": asked }))?;
        Ok(answer.cache("public, max-age=1, stale-if-error=600"))
    }

    /// Server-sent events: bytes that must pass while the response is still growing.
    fn events(&self) -> Answer {
        let mut every = interval(self.cost.event_interval.max(Duration::from_millis(1)));
        // A reader that stalls is not owed the events it slept through.
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let events = Payload::Events { number: 0, every, stopping: Arc::clone(&self.stopping) };
        Answer::streamed("text/event-stream", events).cache(NO_STORE)
    }

    /// What reached this service since it began.
    fn stats(&self) -> Result<Answer, Refusal> {
        let asked: serde_json::Map<String, serde_json::Value> = self
            .counters
            .all()
            .into_iter()
            .map(|(name, counter)| (name.to_owned(), counter.load(Ordering::Relaxed).into()))
            .collect();
        Ok(Answer::json(&asked)?.cache(NO_STORE))
    }

    /// Counts one request, and says which one of its endpoint it is, from 1: no two get one number.
    fn count(&self, endpoint: Option<Endpoint>, method: &Method) -> u64 {
        let counters = &self.counters;
        let counter = match endpoint {
            None => &counters.unknown,
            Some(Endpoint::Index) => &counters.index,
            Some(Endpoint::Products) => &counters.products,
            Some(Endpoint::Product(_)) if is_change(method) => &counters.product_change,
            Some(Endpoint::Product(_)) => &counters.product,
            Some(Endpoint::Search) => &counters.search,
            Some(Endpoint::Image(_)) => &counters.image,
            Some(Endpoint::Download(..)) => &counters.download,
            Some(Endpoint::Account) => &counters.account,
            Some(Endpoint::Login) => &counters.login,
            Some(Endpoint::Flaky) => &counters.flaky,
            Some(Endpoint::Slow) => &counters.slow,
            Some(Endpoint::Events) => &counters.events,
            Some(Endpoint::Health) => &counters.health,
            Some(Endpoint::Stats) => &counters.stats,
        };
        counter.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

/// Fresh for a minute; half a minute longer while a new one is fetched.
const PRODUCT_CACHE_CONTROL: &str = "public, max-age=60, stale-while-revalidate=30";

fn product_answer(product: &Product) -> Result<Answer, Refusal> {
    let tags = format!("product:{} category:{} catalogue", product.id, product.category);
    let answer = Answer::json(product)?.modified(product.modified);
    Ok(answer.cache(PRODUCT_CACHE_CONTROL).vary("Accept-Encoding").computed(SURROGATE_KEY, &tags))
}

/// A download: streamed, many times larger than what a connection buffers.
fn download(name: &str, length: u64) -> Answer {
    let answer = Answer::streamed("application/octet-stream", Payload::download(length));
    answer
        .etag(format!("\"{name}-{length}\""))
        .cache("public, max-age=3600")
        .computed(header::CONTENT_DISPOSITION, &format!("attachment; filename=\"{name}\""))
}

/// A page that takes its time: what many clients at once should wait for together.
async fn slow(query: &Query) -> Result<Answer, Refusal> {
    let hundredths = cents(query.one("seconds")?.unwrap_or("3")).filter(|&given| given <= SLOWEST * 100);
    let Some(hundredths) = hundredths else {
        return Err(Refusal::bad(format!("seconds must be a number from 0 to {SLOWEST}, as in 0.25")));
    };
    pause(Duration::from_millis(hundredths * 10)).await;
    Ok(Answer::json(&serde_json::json!({ "seconds": hundredths as f64 / 100.0 }))?
        .cache("public, max-age=60"))
}

/// Whether this service is up: must never be answered by anything else.
fn health() -> Result<Answer, Refusal> {
    Ok(Answer::json(&serde_json::json!({ "status": "ok" }))?.cache(NO_STORE))
}

/// Which endpoint a path names; paths are compared as they came.
fn endpoint(path: &str) -> Option<Endpoint> {
    Some(match path {
        "/" => Endpoint::Index,
        "/api/products" => Endpoint::Products,
        "/api/search" => Endpoint::Search,
        "/me" => Endpoint::Account,
        "/login" => Endpoint::Login,
        "/flaky" => Endpoint::Flaky,
        "/slow" => Endpoint::Slow,
        "/events" => Endpoint::Events,
        "/health" => Endpoint::Health,
        "/stats" => Endpoint::Stats,
        _ => {
            if let Some(id) = path.strip_prefix("/api/products/") {
                Endpoint::Product(whole_number(id)?)
            } else if let Some(file) = path.strip_prefix("/images/") {
                Endpoint::Image(whole_number(file.strip_suffix(".png")?)?)
            } else {
                let name = path.strip_prefix("/downloads/")?;
                let (name, length) = DOWNLOADS.into_iter().find(|(known, _)| *known == name)?;
                Endpoint::Download(name, length)
            }
        }
    })
}

impl Endpoint {
    const fn allow(self) -> &'static str {
        if matches!(self, Self::Product(_)) { READ_AND_CHANGE } else { READ }
    }
}

impl Counters {
    fn all(&self) -> [(&'static str, &AtomicU64); 15] {
        [
            ("index", &self.index),
            ("products", &self.products),
            ("product", &self.product),
            ("product_change", &self.product_change),
            ("search", &self.search),
            ("image", &self.image),
            ("download", &self.download),
            ("account", &self.account),
            ("login", &self.login),
            ("flaky", &self.flaky),
            ("slow", &self.slow),
            ("events", &self.events),
            ("health", &self.health),
            ("stats", &self.stats),
            ("unknown", &self.unknown),
        ]
    }
}

fn is_change(method: &Method) -> bool {
    [Method::PUT, Method::PATCH, Method::POST].contains(method)
}

fn no_such_product(id: u32) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("no product {id}; ids run from 1 to {PRODUCTS}"))
}

/// The price of asking this service at all.
async fn pause(cost: Duration) {
    if !cost.is_zero() {
        sleep(cost).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_byte_for_byte() {
        for (path, expected) in [
            ("/", Some(Endpoint::Index)),
            ("/api/products/17", Some(Endpoint::Product(17))),
            ("/api/products/4294967296", None),
            ("/api/products/+1", None),
            ("/api/products/", None),
            ("/api/products/1/", None),
            ("//api/products/1", None),
            ("/images/3.png", Some(Endpoint::Image(3))),
            ("/images/3", None),
            ("/images/.png", None),
            ("/downloads/brochure.bin", Some(Endpoint::Download("brochure.bin", 8 << 20))),
            ("/downloads/../etc/passwd", None),
            ("*", None),
        ] {
            assert_eq!(endpoint(path), expected, "{path}");
        }
    }
}

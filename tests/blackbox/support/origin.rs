//! The scripted origin: raw sockets, a thread per connection, every request kept byte for byte.
//!
//! A script is a closure per path. It may hold, stall, send half an answer or nonsense, reset, or read
//! the request's content as slowly as it likes. A script that panics fails the test that owns the origin.

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::PATIENCE;
use super::message::{End, Framing, Head, Wire, reset};
use super::reply::Reply;

type Script = Arc<dyn Fn(&mut Exchange) + Send + Sync>;

/// One request as it arrived. While it is still arriving, `end` is `None` and `body` grows.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) head: Head,
    /// Content without its framing.
    pub(crate) body: Vec<u8>,
    /// Content with its framing, byte for byte.
    pub(crate) raw_body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) end: Option<End>,
    /// Which connection it came on, counted from 0.
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// A listening origin. Dropping it closes every connection and passes on a script's panic.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    scripts: Mutex<HashMap<String, Script>>,
    state: Mutex<State>,
    changed: Condvar,
    closing: AtomicBool,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    /// How often each path was asked for.
    counts: HashMap<String, usize>,
    /// A second descriptor of each connection, with which the test closes it; `None` once it was reset.
    streams: Vec<Option<TcpStream>>,
    /// Heads that could not be read as HTTP: always the proxy's fault.
    unreadable: Vec<String>,
    panic: Option<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }
}

impl Origin {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { continue };
                if accepting.closing.load(Ordering::Acquire) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                shared.change(|state| state.streams.push(stream.try_clone().ok()));
                std::thread::spawn(move || serve(&shared, stream, connection));
            }
        });
        Self { address, shared }
    }

    /// What requests for this path get; `/beginning/*` stands for every path that begins so.
    /// The longest name that matches decides; what nobody scripted is a 404 with `no-store`.
    pub(crate) fn on(&self, path: &str, script: impl Fn(&mut Exchange) + Send + Sync + 'static) {
        self.shared.scripts.lock().unwrap().insert(path.to_owned(), Arc::new(script));
    }

    /// The same answer to every request for this path.
    pub(crate) fn reply(&self, path: &str, reply: Reply) {
        self.on(path, move |exchange| exchange.reply(&reply));
    }

    /// The same bytes to every request for this path, and then the connection is closed.
    pub(crate) fn bytes(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref().to_vec();
        self.on(path, move |exchange| {
            exchange.body();
            exchange.send(&bytes);
            exchange.close();
        });
    }

    /// `v1`, `v2`, … with these directives: which fetch an answer came from is seen in its content.
    pub(crate) fn versions(&self, path: &str, cache_control: &'static str) {
        self.on(path, move |exchange| {
            let reply = Reply::ok(format!("v{}", exchange.nth())).cache(cache_control);
            exchange.reply(&reply);
        });
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// Every request for this path so far.
    pub(crate) fn seen_at(&self, path: &str) -> Vec<Seen> {
        self.shared.state().seen.iter().filter(|seen| seen.path() == path).cloned().collect()
    }

    /// How often this path was asked for.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.shared.state().counts.get(path).copied().unwrap_or_default()
    }

    /// The last request for this path.
    #[track_caller]
    pub(crate) fn last(&self, path: &str) -> Seen {
        self.seen_at(path).pop().unwrap_or_else(|| panic!("the origin was not asked for {path}"))
    }

    /// Waits until what was seen satisfies `enough`, and gives it.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let state = self.shared.state();
        let (state, timeout) = self
            .shared
            .changed
            .wait_timeout_while(state, PATIENCE, |state| !enough(&state.seen))
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let seen = state.seen.clone();
        drop(state);
        assert!(!timeout.timed_out(), "the origin never saw: {what}; it saw {seen:#?}");
        seen
    }

    /// Waits until this path was asked for `count` times.
    #[track_caller]
    pub(crate) fn wait_count(&self, path: &str, count: usize) {
        self.wait(&format!("{count} requests for {path}"), |seen| {
            seen.iter().filter(|seen| seen.path() == path).count() >= count
        });
    }

    /// How many connections were ever opened.
    pub(crate) fn connections(&self) -> usize {
        self.shared.state().streams.len()
    }

    /// Closes every connection open now, as an origin does that has waited long enough.
    pub(crate) fn close_connections(&self) {
        for stream in self.shared.state().streams.iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        self.close_connections();
        if std::thread::panicking() {
            return;
        }
        let state = self.shared.state();
        let (panic, unreadable) = (state.panic.clone(), state.unreadable.clone());
        drop(state);
        assert_eq!(panic, None, "a script of the origin panicked");
        assert!(unreadable.is_empty(), "the proxy sent the origin what is not HTTP: {unreadable:?}");
    }
}

/// One request being answered, in the hands of a script.
pub(crate) struct Exchange {
    wire: Wire,
    shared: Arc<Shared>,
    index: usize,
    nth: usize,
    framing: Framing,
    head: Head,
    ended: bool,
    after: After,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    KeepAlive,
    Close,
    Reset,
}

impl Exchange {
    /// The request's fields and start line.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    pub(crate) fn method(&self) -> &str {
        self.head.start.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &str {
        self.head.start.split(' ').nth(1).unwrap_or_default()
    }

    /// 1 for the first request for this path, 2 for the second, …
    pub(crate) const fn nth(&self) -> usize {
        self.nth
    }

    /// Reads the request's content to its end, once.
    pub(crate) fn body(&mut self) -> Vec<u8> {
        if !self.ended {
            let (shared, index) = (&self.shared, self.index);
            let mut trailers = Vec::new();
            let end = self.wire.content(self.framing, &mut trailers, |piece, raw| {
                shared.change(|state| {
                    state.seen[index].body.extend_from_slice(piece);
                    state.seen[index].raw_body.extend_from_slice(raw);
                });
            });
            shared.change(|state| {
                state.seen[index].trailers = trailers;
                state.seen[index].end = Some(end.clone());
            });
            if end != End::Complete {
                self.after = After::Close;
            }
            self.ended = true;
        }
        self.shared.state().seen[self.index].body.clone()
    }

    /// Sends these bytes; `false` when the proxy does not take them any more.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.write(bytes.as_ref()).is_ok()
    }

    /// Reads the request to its end and answers it properly: no content after HEAD.
    pub(crate) fn reply(&mut self, reply: &Reply) {
        self.body();
        let mut bytes = reply.head();
        if self.method() != "HEAD" {
            bytes.extend(reply.content());
        }
        self.send(bytes);
        if reply.closes() {
            self.close();
        }
    }

    /// Whatever the proxy sends beyond the request (a tunnel's bytes): at least one byte, or why not.
    pub(crate) fn some(&mut self) -> Result<Vec<u8>, End> {
        self.wire.some()
    }

    /// Waits until the proxy closes or resets this connection, and says which.
    pub(crate) fn hang_up(&mut self) -> End {
        self.after = After::Close;
        self.wire.rest().1
    }

    /// The connection ends after this answer.
    pub(crate) const fn close(&mut self) {
        self.after = After::Close;
    }

    /// The connection is reset after what was sent.
    pub(crate) const fn reset(&mut self) {
        self.after = After::Reset;
    }
}

fn serve(shared: &Arc<Shared>, stream: TcpStream, connection: usize) {
    let mut wire = Wire::new(stream);
    loop {
        let head = match wire.head() {
            Ok(head) => head,
            Err(End::Malformed(why)) => {
                return shared.change(|state| state.unreadable.push(why));
            }
            Err(_) => return,
        };
        let framing = match head.framing(Framing::None) {
            Ok(framing) => framing,
            Err(why) => return shared.change(|state| state.unreadable.push(why)),
        };
        let Some(next) = answer(shared, wire, head, framing, connection) else { return };
        wire = next;
    }
}

/// Runs the script for one request; gives the connection back when it may be used again.
fn answer(shared: &Arc<Shared>, wire: Wire, head: Head, framing: Framing, connection: usize) -> Option<Wire> {
    let mut words = head.start.split(' ');
    let (method, target) =
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let seen = Seen {
        method,
        target,
        head: head.clone(),
        body: Vec::new(),
        raw_body: Vec::new(),
        trailers: Vec::new(),
        end: (framing == Framing::None).then_some(End::Complete),
        connection,
    };
    let path = seen.path().to_owned();
    let (index, nth) = shared.change(|state| {
        state.seen.push(seen);
        let count = state.counts.entry(path.clone()).or_default();
        *count += 1;
        (state.seen.len() - 1, *count)
    });
    let ended = framing == Framing::None;
    let mut exchange = Exchange {
        wire,
        shared: Arc::clone(shared),
        index,
        nth,
        framing,
        head,
        ended,
        after: After::KeepAlive,
    };
    let script = script_for(shared, &path);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        match script {
            Some(script) => script(&mut exchange),
            None => exchange.reply(&Reply::new(404).cache("no-store").body("not scripted")),
        }
        exchange.body();
    }));
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        shared.change(|state| state.panic = Some(text.unwrap_or_default()));
        exchange.after = After::Close;
    }
    match exchange.after {
        After::KeepAlive => return Some(exchange.wire),
        After::Close => {
            let _ = exchange.wire.stream.shutdown(Shutdown::Both);
        }
        After::Reset => {
            // The reset goes out with the last descriptor: the one kept to end the test goes first.
            shared.change(|state| state.streams[connection] = None);
            reset(&exchange.wire.stream);
        }
    }
    None
}

fn script_for(shared: &Shared, path: &str) -> Option<Script> {
    let scripts = shared.scripts.lock().unwrap();
    if let Some(script) = scripts.get(path) {
        return Some(Arc::clone(script));
    }
    let beginnings = scripts
        .iter()
        .filter(|(name, _)| name.strip_suffix('*').is_some_and(|beginning| path.starts_with(beginning)));
    beginnings.max_by_key(|(name, _)| name.len()).map(|(_, script)| Arc::clone(script))
}

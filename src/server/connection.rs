//! One connection: request after request, each answered by the service behind it (RFC 9112 9.3).
//!
//! Decides: how an answer is framed for this client (RFC 9112 6), and which answers end their connection. Never
//! touches: what is asked and answered.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body::Body;
use tokio::net::TcpStream;

use super::client::{Client, Gone, Next};
use super::room::{Open, Pressure, Room};
use super::{App, Settings};
use crate::boxed::in_place;
use crate::clock;
use crate::semantics::{fields as tokens, http_date};
use crate::wire::answer::{AnswerFraming, Hop, Keep};
use crate::wire::{Connection, Content, Refusal, fields};

/// Serves one connection until it ends, or becomes a tunnel.
pub(super) async fn serve<A: App>(
    socket: TcpStream,
    connection: Connection,
    worker: usize,
    settings: Arc<Settings>,
    open: Open,
    app: A,
) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let room = Arc::clone(open.room());
    let mut client = Client::new(socket, connection.clone(), settings, open);
    loop {
        let (asked, head, content, refused) = match next(&mut client, &room, worker).await {
            Next::Request(head, content) => (Asked::of(&head), head, content, None),
            Next::Refused(refusal) => (Asked::REFUSED, stand_in(), Content::NONE, Some(refusal)),
            Next::End => return client.close().await,
        };
        // What is under way has a box of its own: an idle connection does not keep the room for it.
        let exchange =
            in_place(|| exchange(&mut client, &app, &connection, &room, asked, (head, content, refused)));
        match exchange.await {
            Ok(After::Next) => {}
            Ok(After::Close) => return client.close().await,
            Ok(After::Tunnel) => {
                if let Some(handover) = connection.take_handover() {
                    // Nobody may want it any more: then it is closed.
                    let _ = handover.send(Box::new(client.into_tunnel()));
                }
                return;
            }
            // Dropped in the middle of an answer, it is reset.
            Err(Gone) => return,
        }
    }
}

/// What comes next on a connection that nothing is under way on.
async fn next(client: &mut Client, room: &Room, worker: usize) -> Next {
    loop {
        // Rung since before the client looks at the room: nothing is missed in between.
        let mut bell = pin!(room.bell(worker));
        let next = std::future::poll_fn(|cx| {
            if let Poll::Ready(next) = client.poll_request(cx) {
                return Poll::Ready(Some(next));
            }
            match bell.as_mut().as_pin_mut() {
                // It looks again whether it is to leave.
                Some(bell) => bell.poll(cx).map(|()| None),
                None => Poll::Pending,
            }
        })
        .await;
        if let Some(next) = next {
            return next;
        }
    }
}

/// What is to be known of a request when it is answered.
#[derive(Clone, Copy, Debug)]
struct Asked {
    version: Version,
    is_head: bool,
    /// What the client wants to become of the connection.
    keep: Keep,
}

impl Asked {
    /// Nothing is known of it but that nothing follows.
    const REFUSED: Self = Self { version: Version::HTTP_11, is_head: false, keep: Keep::Close };

    /// RFC 9112 9.3: `close`, then the version, then `keep-alive`.
    fn of(head: &Parts) -> Self {
        let version = head.version;
        let says = |option| tokens::has_token(&head.headers, &CONNECTION, option);
        let keep = match version {
            _ if !head.headers.contains_key(CONNECTION) => Keep::usual(version),
            _ if says("close") => Keep::Close,
            Version::HTTP_10 if says("keep-alive") => Keep::SaidAlive,
            _ => Keep::usual(version),
        };
        Self { version, is_head: head.method == Method::HEAD, keep }
    }
}

/// What stands for the head of a request that was refused.
fn stand_in() -> Box<Parts> {
    Box::new(Request::new(()).into_parts().0)
}

/// What becomes of a connection after an answer.
enum After {
    Next,
    Close,
    Tunnel,
}

/// One request, answered.
#[expect(clippy::manual_async_fn, reason = "a function keeps its arguments twice, a block does not")]
fn exchange<A: App>(
    client: &mut Client,
    app: &A,
    connection: &Connection,
    room: &Room,
    asked: Asked,
    (head, content, refused): (Box<Parts>, Content, Option<Refusal>),
) -> impl Future<Output = Result<After, Gone>> {
    async move {
        let (head, body) = {
            // The service knows of a client that has left already all the same.
            let mut answering = pin!(app.answer(head, content, connection.clone(), refused));
            let answered = std::future::poll_fn(|cx| match answering.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Ok(answer)),
                Poll::Pending => client.poll_meanwhile(cx).map(Err),
            });
            // What made the answer goes, and leaves its room to who gives it.
            answered.await?
        };
        // What came before it goes out before it.
        if let Some(interim) = connection.last_interim() {
            client.outbox().put_text(&interim);
        }
        let status = head.status();
        let framing = framing(status, asked, body.size_hint().exact());
        let may_go_on = std::future::poll_fn(|cx| Poll::Ready(client.may_go_on(cx))).await;
        let leaves = !may_go_on || room.pressure() != Pressure::None || connection.refusal().is_some();
        let keep = if leaves || framing == AnswerFraming::UntilClose { Keep::Close } else { asked.keep };
        let head = head.end(&Hop { version: asked.version, framing, connection: keep }, || {
            http_date::format(clock::wall())
        });
        client.outbox().put_head(head.text);
        let mut body = pin!(body);
        let mut giving =
            Giving { framing, trailers: head.trailers, has_more: framing != AnswerFraming::None };
        std::future::poll_fn(|cx| giving.poll(cx, client, body.as_mut())).await?;
        let has_ended = client.answered();
        Ok(match status {
            StatusCode::SWITCHING_PROTOCOLS => After::Tunnel,
            _ if has_ended && keep != Keep::Close => After::Next,
            _ => After::Close,
        })
    }
}

/// RFC 9112 6.3, from the side of who sends: `length` is that of the content, if it is known.
fn framing(status: StatusCode, asked: Asked, length: Option<u64>) -> AnswerFraming {
    let has_none = asked.is_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match length {
        _ if has_none => AnswerFraming::None,
        Some(length) => AnswerFraming::Length(length),
        None if asked.version == Version::HTTP_10 => AnswerFraming::UntilClose,
        None => AnswerFraming::Chunked,
    }
}

/// An answer that is being given.
struct Giving {
    /// What is left, where the length is stated.
    framing: AnswerFraming,
    trailers: Vec<http::HeaderName>,
    /// Content may come that was not put into the outbox.
    has_more: bool,
}

impl Giving {
    /// Ready when all of it is out. An error where it cannot be given whole, so that the connection is reset.
    fn poll<B: Body<Data = Bytes>>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        mut body: Pin<&mut B>,
    ) -> Poll<Result<(), Gone>> {
        loop {
            let mut waits = false;
            if self.has_more && !client.outbox().has_content() {
                match self.poll_content(cx, client, body.as_mut()) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(gone)) => return Poll::Ready(Err(gone)),
                    Poll::Pending => waits = true,
                }
            }
            match client.poll_answer(cx, !self.has_more) {
                Poll::Ready(Ok(())) if !self.has_more => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if waits => {}
                Poll::Ready(Ok(())) => continue,
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "an answer could not be written");
                    return Poll::Ready(Err(Gone));
                }
                // Every other task comes first, and then this.
                Poll::Pending if client.waits_its_turn() => return Poll::Pending,
                Poll::Pending => {}
            }
            return client.poll_meanwhile(cx).map(Err);
        }
    }

    /// Puts the next piece of content into the outbox. What breaks off, or is not as long as it was said to be,
    /// is never ended properly.
    fn poll_content<B: Body<Data = Bytes>>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        mut body: Pin<&mut B>,
    ) -> Poll<Result<(), Gone>> {
        let frame = match ready!(body.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Poll::Ready(Err(Gone)),
            None => return Poll::Ready(self.end(client, None)),
        };
        match frame.into_data() {
            Ok(data) => {
                if !data.is_empty() {
                    self.put(client, data)?;
                }
                // The last piece goes out with the end of the message, without being asked for once more.
                if body.is_end_stream() { Poll::Ready(self.end(client, None)) } else { Poll::Ready(Ok(())) }
            }
            Err(frame) => Poll::Ready(self.end(client, frame.trailers_ref())),
        }
    }

    fn put(&mut self, client: &mut Client, data: Bytes) -> Result<(), Gone> {
        let outbox = client.outbox();
        match &mut self.framing {
            AnswerFraming::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Gone)?;
                outbox.put_content(data);
            }
            AnswerFraming::Chunked => {
                fields::put_chunk_size(outbox.open_end(), data.len());
                outbox.put_content(data);
                outbox.put_text(b"\r\n");
            }
            AnswerFraming::UntilClose => outbox.put_content(data),
            AnswerFraming::None => {}
        }
        Ok(())
    }

    fn end(&mut self, client: &mut Client, trailers: Option<&HeaderMap>) -> Result<(), Gone> {
        self.has_more = false;
        match self.framing {
            AnswerFraming::Chunked => {
                fields::put_last_chunk(client.outbox().open_end(), trailers, &self.trailers);
                Ok(())
            }
            AnswerFraming::Length(1..) => Err(Gone),
            AnswerFraming::Length(0) | AnswerFraming::UntilClose | AnswerFraming::None => Ok(()),
        }
    }
}

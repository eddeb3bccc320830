//! One connection: the HTTP engine on a gate, and the service behind it.
//!
//! Decides: which answers end their connection, and what of the engine's settings holds. Never touches:
//! what is asked and answered.
//!
//! The engine's own read time-out stays off: it runs from the end of the answer before, and would cut
//! off a head that has begun to arrive. The gate tells idle from slow.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::net::TcpStream;

use super::gate::Gate;
use super::room::{Open, Pressure, Room};
use super::{App, Settings};
use crate::boxed::in_place;
use crate::wire::Connection;

/// The engine's buffers per connection and direction grow to this at most, or to what a head needs.
const BUFFER: usize = 64 * 1024;

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
    let gate = Gate::new(socket, connection.clone(), &settings, open);
    let service = service_fn(|request| {
        let refused = connection.begin();
        let (room, connection) = (&*room, connection.clone());
        let ending = Ending(connection.clone());
        // Not in a block: a client that left already is known to the service all the same, and an open
        // connection does not keep the room for an answer twice.
        let answer = app.answer(request, connection, refused);
        // Nor does an idle one keep room for the next: what is under way has a box of its own.
        in_place(|| Answering { answer, head: None, ending: Some(ending), room })
    });
    let mut served = pin!(
        http1::Builder::new()
            .header_read_timeout(None)
            .half_close(false)
            .pipeline_flush(false)
            // A head arrives whole, and must fit whatever else is in the buffer.
            .max_buf_size(BUFFER.max(settings.limits.max_head.saturating_mul(2)))
            .serve_connection(TokioIo::new(gate), service)
            .with_upgrades()
    );
    let served = loop {
        // Rung since before the gate looks: nothing is missed in between.
        let mut bell = pin!(room.bell(worker));
        let rung = async {
            match bell.as_mut().as_pin_mut() {
                Some(bell) => bell.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            served = served.as_mut() => break served,
            // The gate looks again whether the connection is to leave.
            () = rung => {}
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

pin_project! {
    /// An answer, until its head may go out.
    struct Answering<'r, F, B> {
        #[pin]
        answer: F,
        head: Option<Response<B>>,
        ending: Option<Ending>,
        room: &'r Room,
    }
}

impl<F: Future<Output = Response<B>>, B> Future for Answering<'_, F, B> {
    type Output = Result<Response<Answer<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.head.is_none() {
            *this.head = Some(ready!(this.answer.poll(cx)));
        }
        let (Some(mut head), Some(ending)) = (this.head.take(), this.ending.take()) else {
            // It has given its answer, and nobody asks again.
            return Poll::Pending;
        };
        // What came before it goes out before it.
        if ending.0.poll_interim_ended(cx).is_pending() {
            (*this.head, *this.ending) = (Some(head), Some(ending));
            return Poll::Pending;
        }
        if ending.is_last(this.room, head.status()) {
            head.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(head.map(|body| Answer { body, ending })))
    }
}

pin_project! {
    /// The content of an answer. Where it breaks off, the client is to see that.
    struct Answer<B> {
        #[pin]
        body: B,
        ending: Ending,
    }
}

impl<B: Body<Data = Bytes>> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        if let Poll::Ready(Some(Err(_))) = &frame {
            this.ending.broke_off();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer that is being given; lives as long as its body.
#[derive(Debug)]
struct Ending(Connection);

impl Ending {
    /// Whether no further request is to come after this answer. A tunnel has none anyway.
    fn is_last(&self, room: &Room, status: StatusCode) -> bool {
        let leaves = room.pressure() != Pressure::None || self.0.refusal().is_some();
        leaves && status != StatusCode::SWITCHING_PROTOCOLS
    }

    fn broke_off(&self) {
        self.0.abort();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

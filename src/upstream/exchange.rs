//! One request and its answer, over a connection that is theirs alone meanwhile.
//!
//! Decides: in what order they are written and read, when a connection has been given nothing to answer,
//! and whether it is clean when both have ended. Never touches: which request is sent where, or whether
//! it is sent again. Driven by whoever waits for the answer, first for its head, then for its content; the
//! socket wakes that task and no other.
//!
//! Both directions go on at once: an answer may begin, and end, before its request has ended.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Version;

use super::UpstreamError;
use super::connect::Said;
use super::pool::Lease;
use super::receive::{Received, Receiver};
use super::response::Head;
use super::tunnel::Tunnel;
use super::upload::Upload;
use crate::clock;
use crate::semantics::fields;
use crate::wire::Awaited;

/// Bytes of the largest answer head with all interim ones before it: room for the thousands of tags that
/// some applications send, which are read here and go no further.
pub(super) const MAX_HEAD: usize = 128 << 10;

const STRAY: &str = "bytes that answer no request";

/// A request and its answer under way. Dropped, it cuts the connection off.
#[derive(Debug)]
pub(super) struct Exchange {
    lease: Lease,
    upload: Upload,
    receiver: Receiver,
    progress: Progress,
    after: After,
}

/// How far the exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing of the request was written.
    Begun(Awaited),
    /// The request is on its way: what is read is its answer.
    Asked,
    /// A byte of the answer was read.
    Heard,
}

/// What becomes of the connection after a clean end (RFC 9112 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Keep,
    Close,
}

impl Exchange {
    pub(super) fn new(lease: Lease, upload: Upload, awaited: Awaited) -> Self {
        let receiver = Receiver::new(MAX_HEAD);
        Self { lease, upload, receiver, progress: Progress::Begun(awaited), after: After::Keep }
    }

    /// Whether the request may have been written, and not one byte of an answer came.
    pub(super) fn is_unheard(&self) -> bool {
        self.progress != Progress::Heard
    }

    /// Waits for the answer's head, and what comes with it. `interim` is told each 1xx head but 101.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        interim: impl Fn(&Head),
    ) -> Poll<Result<Received, UpstreamError>> {
        if let Progress::Begun(awaited) = self.progress {
            // A connection that was used before was asked when it was taken.
            if !self.lease.is_reused() {
                self.listen(cx)?;
            }
            self.receiver.begin(awaited);
            self.progress = Progress::Asked;
        }
        loop {
            let received = ready!(self.poll_received(cx, &interim))?;
            if let Some(head) = &received.head {
                let mut options = head.fields.values(b"connection").flat_map(fields::split_list);
                if head.version == Version::HTTP_10
                    || options.any(|option| option.eq_ignore_ascii_case(b"close"))
                {
                    self.after = After::Close;
                }
                drop(options);
                return Poll::Ready(Ok(received));
            }
        }
    }

    /// Waits for content, trailers or the end; what comes may be nothing of them.
    pub(super) fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, UpstreamError>> {
        clock::pass();
        self.poll_received(cx, &|_: &Head| {})
    }

    /// Ready once the origin alone has been waited for, for `limit`, since `since` at the earliest.
    pub(super) fn poll_exhausted(
        &mut self,
        cx: &mut Context<'_>,
        limit: Duration,
        since: Instant,
    ) -> Poll<()> {
        let Self { lease, upload, .. } = self;
        lease.patience().poll_exhausted(cx, limit, || Some(upload.waiting_for_origin_since()?.max(since)))
    }

    /// The answer has ended. The connection is used again if the request has ended as well and nothing
    /// else was said on it; else it is cut off.
    ///
    /// An answer that ends before its request cuts the upload off: the origin has said what it had to
    /// say, and no answer could tell what became of the rest.
    pub(super) fn finish(self) {
        let clean = self.upload.is_whole() && !self.receiver.is_poisoned();
        if clean && self.after == After::Keep {
            self.lease.finish();
        }
    }

    /// The way out of HTTP, with bytes that came behind the 101; `None` where the request has not ended:
    /// bytes of its body would belong to no protocol at all.
    pub(super) fn into_tunnel(self, early: Bytes) -> Option<Tunnel> {
        self.upload.is_whole().then(|| Tunnel::new(self.lease, early))
    }

    /// Before a request is written nothing may be there to be read: it would answer nothing.
    fn listen(&mut self, cx: &mut Context<'_>) -> Result<(), UpstreamError> {
        match self.lease.transport().poll_said(cx) {
            // The event loop may not have heard yet. A connection that was used before was asked itself.
            Poll::Pending if !self.lease.is_reused() && !self.lease.transport().is_silent() => {
                Err(UpstreamError::protocol(STRAY))
            }
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(Said::Bytes)) => Err(UpstreamError::protocol(STRAY)),
            Poll::Ready(Ok(Said::End)) => Err(closed()),
            Poll::Ready(Err(error)) => Err(UpstreamError::from_io(error)),
        }
    }

    /// Writes on, and reads once.
    fn poll_received(
        &mut self,
        cx: &mut Context<'_>,
        interim: &impl Fn(&Head),
    ) -> Poll<Result<Received, UpstreamError>> {
        if let Poll::Ready(uploaded) = self.upload.poll(cx, self.lease.transport()) {
            uploaded?;
        }
        let mut buffer = self.receiver.buffer();
        let before = buffer.len();
        let Poll::Ready(read) = self.lease.transport().poll_append(cx, &mut buffer) else {
            self.receiver.unread(buffer);
            return Poll::Pending;
        };
        match read {
            Ok(()) if buffer.len() > before => {
                self.progress = Progress::Heard;
                Poll::Ready(self.receiver.read(buffer, interim))
            }
            Ok(()) if self.receiver.ends_with_connection() => {
                self.after = After::Close;
                Poll::Ready(Ok(Received { ended: true, ..Received::default() }))
            }
            // What the connection said when it was written to is the earlier word.
            Ok(()) => Poll::Ready(Err(self.upload.take_cut().map_or_else(closed, UpstreamError::from_io))),
            Err(error) => Poll::Ready(Err(UpstreamError::from_io(error))),
        }
    }
}

fn closed() -> UpstreamError {
    UpstreamError::Reset(Arc::new(io::Error::from(io::ErrorKind::UnexpectedEof)))
}

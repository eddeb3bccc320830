//! Answers as they arrive: in pieces, cut anywhere, early, beside their request; and what is sent meanwhile.

use super::*;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
     2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nx-sum: 7\r\n\r\n";
const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\nserver: a\r\n\r\nhello";

/// Serves `bytes` to one request and closes.
async fn serve_and_close(origin: &Origin, bytes: &[u8]) {
    let mut peer = origin.accept().await;
    peer.head().await;
    peer.say(bytes).await;
}

#[tokio::test]
async fn an_answer_cut_at_any_byte_is_an_error_or_whole() {
    let origin = Origin::start().await;
    for (answer, framed) in [(OK_HELLO, true), (CHUNKED, true), (UNTIL_CLOSE, false)] {
        let head = memchr::memmem::find(answer.as_bytes(), b"\r\n\r\n").expect("a head") + 4;
        for cut in 0..=answer.len() {
            // A connection of its own for each.
            let upstream = origin.upstream();
            let bytes = &answer.as_bytes()[..cut];
            let ((), outcome) = tokio::join!(serve_and_close(&origin, bytes), fetch(&upstream, get()));
            match outcome {
                Ok((status, body)) if framed => {
                    assert_eq!((cut, status, body), (answer.len(), 200, hello().1), "{answer:?}");
                }
                // What ends with the connection is whole wherever it ends.
                Ok((_, body)) => assert_eq!(body, &bytes[head..], "{cut} of {answer:?}"),
                Err(error) => {
                    assert!(matches!(error, UpstreamError::Reset(_)), "{cut} of {answer:?}: {error:?}");
                    assert!(cut < if framed { answer.len() } else { head }, "{cut} of {answer:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_answer_may_arrive_byte_by_byte() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    for answer in [OK_HELLO, CHUNKED] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let script = async {
            let mut peer = origin.accept().await;
            peer.head().await;
            peer.stream.set_nodelay(true).expect("an option");
            for byte in format!("{hints}{answer}").as_bytes() {
                peer.say([*byte]).await;
                tokio::task::yield_now().await;
            }
            peer.serve(OK_HELLO).await;
        };
        let hinted = Arc::new(AtomicUsize::new(0));
        let count_hints = {
            let hinted = Arc::clone(&hinted);
            move |head: &Head| {
                hinted.fetch_add(head.fields.iter().count(), Relaxed);
            }
        };
        let options = SendOptions { informational: Some(Arc::new(count_hints)) };
        let client = async {
            let answer = send_with(&upstream, get(), &options).await.expect("head");
            let body = answer.body.collect().await.expect("body");
            assert_eq!(body.trailers().is_some(), answer.head.fields.values(b"trailer").next().is_some());
            assert_eq!(body.to_bytes(), "hello");
            assert_eq!(fetch(&upstream, get()).await.expect("answer"), hello());
        };
        tokio::join!(script, client);
        assert_eq!(hinted.load(Relaxed), 1);
        assert_eq!(count(&upstream.shared().gauges().connects), 1);
    }
}

#[tokio::test]
async fn what_comes_at_once_is_there_at_once() {
    for (answer, frames, length) in [(OK_HELLO, 1, Some(5)), (CHUNKED, 2, None)] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let script = async {
            let mut peer = origin.accept().await;
            peer.serve(answer).await;
            peer
        };
        let (_peer, answer) = tokio::join!(script, send(&upstream, get()));
        let mut body = answer.expect("head").body;
        assert_eq!(idle(&upstream), 1, "the connection is free before the content is looked at");
        assert_eq!(body.size_hint().exact(), length);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for left in (0..frames).rev() {
            let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) else {
                panic!("nothing to wait for")
            };
            assert_eq!(frame.data_ref().map(|data| &data[..]), (left + 1 == frames).then_some(&b"hello"[..]));
            assert_eq!(body.is_end_stream(), left == 0);
        }
    }
}

#[tokio::test]
async fn an_answer_after_its_failure_is_a_failure_still() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let cut = &OK_HELLO.as_bytes()[..OK_HELLO.len() - 1];
    let ((), answer) = tokio::join!(serve_and_close(&origin, cut), send(&upstream, get()));
    let mut body = answer.expect("head").body;
    assert_eq!(body.size_hint().exact(), Some(5));
    assert!(body.frame().await.expect("a frame").is_ok());
    for _ in 0..3 {
        assert!(matches!(body.frame().await, Some(Err(UpstreamError::Reset(_)))));
        assert!(!body.is_end_stream());
    }
}

#[tokio::test]
async fn what_came_before_a_failure_may_go_out_before_it() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let cut = &OK_HELLO.as_bytes()[..OK_HELLO.len() - 1];
    let ((), answer) = tokio::join!(serve_and_close(&origin, cut), send(&upstream, get()));
    let mut body = answer.expect("head").body;
    let mut told = Vec::new();
    poll_fn(|cx| {
        loop {
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => told.push("part"),
                Poll::Ready(Some(Err(_))) => {
                    told.push("failure");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => panic!("not whole"),
                Poll::Pending => {
                    told.push("wait");
                    return Poll::Pending;
                }
            }
        }
    })
    .await;
    told.dedup();
    assert_eq!(told, ["part", "wait", "failure"]);
}

#[tokio::test]
async fn small_content_keeps_no_large_buffer_and_large_content_is_not_cut_small() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let script = async {
        let mut peer = origin.accept().await;
        peer.serve(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 4 << 20)).await;
        peer.say(vec![b'x'; 4 << 20]).await;
        peer.serve(OK_HELLO).await;
    };
    let client = async {
        let mut body = send(&upstream, get()).await.expect("head").body;
        let (mut bytes, mut largest) = (0, 0);
        while let Some(frame) = body.frame().await {
            let data = frame.expect("data").into_data().expect("data");
            bytes += data.len();
            largest = largest.max(data.len());
        }
        assert_eq!(bytes, 4 << 20);
        assert!((16 << 10..=64 << 10).contains(&largest), "{largest}");
        let body = send(&upstream, get()).await.expect("head").body.frame().await;
        let data = body.expect("a frame").expect("data").into_data().expect("data");
        // Nobody else has it, and it is as large as it says.
        let data = data.try_into_mut().expect("its own");
        assert_eq!((data.len(), data.capacity()), (5, 5));
    };
    tokio::join!(script, client);
}

// === Beside the upload ===

#[tokio::test]
async fn an_early_answer_is_heard_while_the_origin_takes_no_more() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 5\r\n\r\nhello";
    let script = async {
        let mut peer = origin.accept().await;
        // Of the content nothing is read: the answer comes while the upload is stuck.
        peer.head().await;
        peer.say(refusal).await;
        peer
    };
    let body = RequestBody::boxed(Full::new(Bytes::from(vec![b'x'; 64 << 20])));
    let (_peer, outcome) = tokio::join!(script, fetch(&upstream, request("POST", body)));
    assert_eq!(outcome.expect("answer"), (413, hello().1));
    assert_eq!(idle(&upstream), 0, "cut off: the request had not ended");
    assert_eq!(upstream.shared().gauges().busy.load(Relaxed), 0);
}

#[tokio::test]
async fn an_upload_goes_on_while_its_answer_comes() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let (mut upload, body) = Channel::<Bytes, Infallible>::new(1);
    let script = async {
        let mut peer = origin.accept().await;
        peer.head().await;
        peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        // An echo, piece by piece.
        for _ in 0..3 {
            let chunk = peer.body(6).await;
            assert_eq!(chunk, b"1\r\na\r\n");
            peer.say(chunk).await;
        }
        assert_eq!(peer.body(5).await, b"0\r\n\r\n");
        peer.say("0\r\n\r\n").await;
        peer
    };
    let client = async {
        let mut answer = send(&upstream, request("POST", RequestBody::boxed(body))).await.expect("head");
        for _ in 0..3 {
            upload.send_data(Bytes::from_static(b"a")).await.expect("room");
            let frame = answer.body.frame().await.expect("a frame").expect("data");
            assert_eq!(frame.into_data().expect("data"), "a");
        }
        drop(upload);
        assert!(answer.body.frame().await.is_none());
    };
    let (_peer, ()) = tokio::join!(script, client);
    assert_eq!(idle(&upstream), 1, "both have ended");
}

#[tokio::test]
async fn large_content_arrives_as_it_was() {
    const PART: usize = 100_000;
    for stated in [true, false] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let (mut upload, body) = Channel::<Bytes, BoxError>::new(1);
        let body = match stated {
            true => RequestBody::boxed(Sized { body, length: 8 * PART as u64 }),
            false => RequestBody::boxed(body),
        };
        let parts: Vec<Bytes> = (0..8_u8).map(|part| Bytes::from(vec![b'a' + part; PART])).collect();
        let expected: Vec<u8> = if stated {
            parts.concat()
        } else {
            let chunk = |part: &Bytes| [b"186A0\r\n", &part[..], b"\r\n"].concat();
            [parts.iter().map(chunk).collect::<Vec<_>>().concat(), b"0\r\n\r\n".to_vec()].concat()
        };
        let script = async {
            let mut peer = origin.accept().await;
            peer.head().await;
            let got = peer.body(expected.len()).await;
            assert!(got == expected, "stated: {stated}");
            peer.say(OK_HELLO).await;
            peer
        };
        let feed = async {
            for part in &parts {
                upload.send_data(part.clone()).await.expect("room");
            }
            drop(upload);
        };
        let (_peer, (), answer) = tokio::join!(script, feed, fetch(&upstream, request("PUT", body)));
        assert_eq!(answer.expect("answer"), hello());
        assert_eq!(idle(&upstream), 1);
    }
}

#[tokio::test]
async fn trailers_that_were_announced_go_out() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let (mut upload, body) = Channel::<Bytes, Infallible>::new(2);
    upload.try_send(Frame::data(Bytes::from_static(b"abc"))).expect("room");
    let mut trailers = HeaderMap::new();
    for name in ["x-sum", "x-other", "content-length"] {
        trailers.insert(name, HeaderValue::from_static("7"));
    }
    upload.try_send(Frame::trailers(trailers)).expect("room");
    let mut request = request("POST", RequestBody::boxed(body));
    request.headers_mut().insert("trailer", HeaderValue::from_static("x-sum, content-length"));
    let expected = "3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n";
    let script = async {
        let mut peer = origin.accept().await;
        peer.head().await;
        assert_eq!(peer.body(expected.len()).await, expected.as_bytes());
        peer.say(OK_HELLO).await;
        peer
    };
    let (_peer, answer) = tokio::join!(script, fetch(&upstream, request));
    assert_eq!(answer.expect("answer"), hello());
}

#[tokio::test]
async fn content_of_another_length_than_stated_breaks_the_message_off() {
    for (title, length, sent) in [("too short", 9, ""), ("too long", 5, "abc")] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let (mut upload, body) = Channel::<Bytes, BoxError>::new(2);
        upload.try_send(Frame::data(Bytes::from_static(b"abc"))).expect("room");
        let script = async {
            let mut peer = origin.accept().await;
            peer.head().await;
            assert_eq!(peer.body(3).await, b"abc");
            if !sent.is_empty() {
                upload.send_data(Bytes::from_static(sent.as_bytes())).await.expect("room");
            }
            drop(upload);
            peer.rest().await
        };
        let body = RequestBody::boxed(Sized { body, length });
        let (rest, outcome) = tokio::join!(script, fetch(&upstream, request("POST", body)));
        assert_eq!(rest, b"", "{title}: nothing that completes it, and nothing beyond it");
        assert!(matches!(outcome, Err(UpstreamError::ClientBody(_))), "{title}: {outcome:?}");
    }
}

// === Idle connections ===

#[tokio::test]
async fn an_idle_connection_that_its_origin_closes_is_closed_at_once() {
    for last_word in ["", "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n"] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let script = async {
            let (mut one, mut other) = (origin.accept().await, origin.accept().await);
            one.serve(OK_HELLO).await;
            other.serve(OK_HELLO).await;
            (one, other)
        };
        let (answers, (one, other)) =
            tokio::join!(async { tokio::join!(fetch(&upstream, get()), fetch(&upstream, get())) }, script);
        assert_eq!((answers.0.expect("answer"), answers.1.expect("answer")), (hello(), hello()));
        let gauges = upstream.shared().gauges();
        for (mut peer, left) in [(one, 1), (other, 0)] {
            assert_eq!((idle(&upstream), gauges.idle.load(Relaxed)), (left + 1, left as i64 + 1));
            peer.say(last_word).await;
            if last_word.is_empty() {
                drop(peer);
            }
            in_time(async {
                while idle(&upstream) > left {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        assert_eq!(gauges.idle.load(Relaxed), 0);
    }
}

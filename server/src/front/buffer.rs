//! Bodies that are looked at before they are passed on, up to a limit.

use bytes::Bytes;
use futures_util::stream;
use luge_io::http::{Body, BodyError, Incoming};

/// What came of reading ahead.
pub(super) enum Read {
    /// All of it.
    Whole(Bytes),
    /// More than the limit: what was read and what is still to come, as one body.
    Longer(Body),
    /// It broke off.
    Broken(BodyError),
}

/// Reads a body of at most `max` bytes; a longer one is not lost.
pub(super) async fn read_up_to(mut body: Incoming, max: usize) -> Read {
    let mut chunks: Vec<Bytes> = Vec::new();
    let mut size = 0;
    while let Some(chunk) = body.chunk().await {
        match chunk {
            Ok(chunk) => {
                size += chunk.len();
                chunks.push(chunk);
            }
            Err(error) => return Read::Broken(error),
        }
        if max < size {
            return Read::Longer(continued(chunks, body));
        }
    }
    Read::Whole(joined(chunks))
}

/// A body that is sent in chunks, although all of it is here.
pub(super) fn chunked(bytes: Bytes) -> Body {
    Body::stream(stream::iter([Ok(bytes)]))
}

fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() < 2 { chunks.pop().unwrap_or_default() } else { chunks.concat().into() }
}

fn continued(read: Vec<Bytes>, rest: Incoming) -> Body {
    let state = (read.into_iter(), Some(rest));
    Body::stream(stream::unfold(state, |(mut read, rest)| async move {
        if let Some(chunk) = read.next() {
            return Some((Ok(chunk), (read, rest)));
        }
        let mut rest = rest?;
        match rest.chunk().await? {
            Ok(chunk) => Some((Ok(chunk), (read, Some(rest)))),
            Err(error) => Some((Err(error), (read, None))),
        }
    }))
}

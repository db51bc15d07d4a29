//! Making a connection to an upstream server, and what is sent on it.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::{
    dns::Names,
    http::{
        body::{Body, BodyError},
        client::ClientError,
        pool::Target,
    },
    stream::Stream,
    time::{sleep_until, timeout},
    tls::{ClientTls, server_name},
};

/// An address that is not the last gets so long, then the next one is tried.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);

/// A request's body, which tells when it last made progress: patience with the response's head
/// begins anew with each chunk that is sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) body: Body,
    pub(crate) progress: Rc<Cell<Instant>>,
}

impl hyper::body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.progress.set(Instant::now());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends once nothing has made progress for `patience`.
pub(crate) async fn stalled(progress: &Cell<Instant>, patience: Duration) {
    loop {
        let end = progress.get() + patience;
        if end <= Instant::now() {
            return;
        }
        sleep_until(end).await;
    }
}

/// Connects within `patience`: name, TCP to each address in turn, TLS.
pub(crate) async fn connect(
    target: &Target,
    names: &Names,
    tls: &ClientTls,
    patience: Duration,
) -> Result<Stream, ClientError> {
    let failed = |source| ClientError::Connect { host: target.host.clone(), source };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection in the time allowed");
    let deadline = Instant::now() + patience;
    let plain = match timeout(patience, open(target, names)).await {
        Ok(Ok(stream)) => stream,
        outcome => {
            names.forget(&target.host, target.port);
            return Err(failed(outcome.unwrap_or_else(|_| Err(late())).err().unwrap_or_else(late)));
        }
    };
    if !target.secure {
        return Ok(plain);
    }
    let failed = |source| ClientError::Tls { host: target.host.clone(), source };
    let name = server_name(&target.host).map_err(failed)?;
    let left = deadline.saturating_duration_since(Instant::now());
    match timeout(left, plain.secure_as_client(tls.0.clone(), name)).await {
        Ok(secure) => secure.map_err(failed),
        Err(_) => Err(failed(late())),
    }
}

async fn open(target: &Target, names: &Names) -> io::Result<Stream> {
    let addresses = names.find(&target.host, target.port).await?;
    let (last, others) = addresses
        .split_last()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
    for address in others {
        match timeout(ATTEMPT_MAX, Stream::connect(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => tracing::debug!(%address, %error, "the next address is tried"),
            Err(_) => tracing::debug!(%address, "no answer, the next address is tried"),
        }
    }
    Stream::connect(*last).await
}

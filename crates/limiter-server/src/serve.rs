//! Connections: accepted within bounds, each in a task of its own, and ended in good order.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use crate::bounds::{Bounds, MAX_HEADER_BYTES, MAX_HEADERS};
use crate::metrics;

/// Serves until `stop` is ready; then accepts nothing more, and gives what is under way the time that the bounds have for
/// it. Answers whether everything had ended by then.
///
/// It speaks HTTP/1.1, as proxies do to what is behind them.
pub async fn serve(
    listener: TcpListener,
    service: Router,
    bounds: &Bounds,
    stop: impl Future<Output = ()>,
) -> bool {
    let http = http(bounds);
    let places = Arc::new(Semaphore::new(bounds.max_connections));
    let graceful = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut stop => break,
        };
        let Some((stream, place)) = accepted else { continue };
        let service = service.clone();
        let handler = service_fn(move |request: hyper::Request<Incoming>| {
            let service = service.clone();
            async move {
                let request: Request = request.map(Body::new);
                Ok::<_, Infallible>(
                    service.oneshot(request).await.unwrap_or_else(|never| match never {}),
                )
            }
        });
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(bounds.read_timeout * WRITE_PATIENCE));
        let stream = TokioIo::new(Box::pin(stream));
        let connection = graceful.watch(http.serve_connection(stream, handler));
        tokio::spawn(async move {
            metrics::connection_opened();
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            metrics::connection_closed();
            drop(place);
        });
    }
    drop(listener);
    tokio::time::timeout(bounds.shutdown_timeout, graceful.shutdown()).await.is_ok()
}

fn http(bounds: &Bounds) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.read_timeout)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS);
    http
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small and whole: waiting for more of them only costs time.
            let _ = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(error) => {
            // The process or the system has no more file descriptors; some will be closed.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// So that a lack of file descriptors is not waited for with a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Who reads may be slower than who writes: a model's answer is long, and so are some ways.
const WRITE_PATIENCE: u32 = 3;

//! Connections: accepted within bounds, each in a task of its own, and ended in good order.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CONNECTION, EXPECT};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::unconstrained;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use crate::bounds::{Bounds, MAX_HEADER_BYTES, MAX_HEADERS};
use crate::linger::{InputIsDue, Lingering};
use crate::{metrics, unread};

/// Serves until `stop` is ready; then accepts nothing more, and lets calls under way finish within the bounds' time.
/// Returns whether all of them finished.
///
/// It speaks HTTP/1.1, which proxies use towards their backends. A connection is reused after every answer without
/// `Connection: close`, whether or not the service has read the request's body.
pub async fn serve(
    listener: TcpListener,
    service: Router,
    bounds: &Bounds,
    stop: impl Future<Output = ()>,
) -> bool {
    let http = http(bounds);
    let places = Arc::new(Semaphore::new(bounds.max_connections.min(Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut stop => break,
        };
        let Some((stream, place)) = accepted else { continue };
        let service = service.clone();
        let input_is_due = InputIsDue::default();
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(Duration::from_secs(bounds.read_timeout_s) * WRITE_PATIENCE));
        let stream = TokioIo::new(Lingering::new(Box::pin(stream), input_is_due.clone()));
        let handler = service_fn(move |request| {
            let (service, input_is_due) = (service.clone(), input_is_due.clone());
            async move { Ok::<_, Infallible>(answer(service, request, &input_is_due).await) }
        });
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
    tokio::time::timeout(Duration::from_secs(bounds.shutdown_timeout_s), graceful.shutdown())
        .await
        .is_ok()
}

/// Returns the service's answer once the request was read to its end, or else with `Connection: close`.
async fn answer(
    service: Router,
    request: hyper::Request<Incoming>,
    input_is_due: &InputIsDue,
) -> Response {
    let (head, body) = request.into_parts();
    let (body, remainder) = unread::watch(body, head.headers.contains_key(EXPECT));
    let answer = service.oneshot(Request::from_parts(head, body)).await;
    let mut answer = answer.unwrap_or_else(|never| match never {});
    if !remainder.drain().await {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        input_is_due.set();
    }
    answer
}

fn http(bounds: &Bounds) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(bounds.read_timeout_s))
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
    // Accept all waiting connections first, or the last ones of a burst wait for the requests of the others.
    match unconstrained(listener.accept()).await {
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
/// How much longer than its request a client may take to read a piece of the answer: a model's answer is long.
const WRITE_PATIENCE: u32 = 3;

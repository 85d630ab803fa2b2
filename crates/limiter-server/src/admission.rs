//! Admission of a request before its handler runs: the caller is known, the body is complete, and a place is free.
//!
//! The order matters. The server reads no body of an unknown caller, a slow body takes no place, and a place is held only for
//! work that can be done at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::App;
use crate::auth;
use crate::body::{self, Whole};
use crate::bounds::{Bounds, MAX_DECISIONS};
use crate::lag::Lag;
use crate::queue::{Entry, Queue};
use crate::refusal::Refusal;
use crate::workers::Workers;

/// The places of a server.
#[derive(Debug)]
pub(crate) struct Admission {
    requests: Arc<Semaphore>,
    decisions: Arc<Queue>,
    bytes: Arc<Semaphore>,
    /// Of the threads that read and write, where decisions have their own.
    lag: Option<Lag>,
    max_requests: usize,
}

impl Admission {
    pub(crate) fn new(bounds: &Bounds, workers: Option<&Workers>) -> Self {
        let semaphore =
            |places: usize| Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self {
            requests: semaphore(bounds.max_requests),
            decisions: Queue::new(MAX_DECISIONS.min(bounds.max_requests)),
            bytes: semaphore(bounds.max_buffered_bytes),
            lag: workers.map(|workers| Lag::of(Handle::current(), workers)),
            max_requests: bounds.max_requests.min(Semaphore::MAX_PERMITS),
        }
    }

    /// Room for these bytes of a body, until they are dropped.
    pub(crate) fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let room = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok());
        room.ok_or_else(|| {
            Refusal::busy("the server is at its bound on the bytes of request bodies")
        })
    }

    /// Refuses a request that would be answered late, before any work on it. A few requests are admitted at any time, so that
    /// a lone client of a slow machine is served.
    fn in_time(&self) -> Result<(), Refusal> {
        let is_late = self.lag.as_ref().is_some_and(|lag| lag.now() > LATE);
        if is_late && self.under_way() >= FEW { Err(too_much()) } else { Ok(()) }
    }

    /// Returns how many requests are running or queued.
    pub(crate) fn under_way(&self) -> usize {
        self.max_requests.saturating_sub(self.requests.available_permits())
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let place = Arc::clone(&self.requests).try_acquire_owned();
        place.map_err(|_| Refusal::busy("the server is at its bound on requests"))
    }
}

/// A place for work that is done at once, such as a decision. A handler that waits for another service [ends](Self::end) its
/// turn first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Turn {
    async fn of(entry: Entry) -> Result<Self, Refusal> {
        let place = entry.place().await.ok_or_else(too_much)?;
        Ok(Self(Arc::new(Mutex::new(Some(place)))))
    }

    pub(crate) fn end(&self) {
        self.0.lock().take();
    }
}

impl<S: Sync> FromRequestParts<S> for Turn {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// Admits the requests of every route that needs an access key.
pub(crate) async fn admit(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (mut head, body) = request.into_parts();
    auth::identify(&mut head, &app).await?;
    admitted(app, head, body, next).await
}

/// Runs the request of a caller that is known, once its body is complete and a place is free.
pub(crate) async fn admitted(
    app: Arc<App>,
    mut head: Parts,
    body: Body,
    next: Next,
) -> Result<Response, Refusal> {
    app.admission.in_time()?;
    let (body, room) = if reads_body(&head.method) {
        let (whole, room) = body::read(body, &app).await?;
        head.extensions.insert(Whole(whole));
        (Body::empty(), Some(room))
    } else {
        (body, None)
    };
    let place = app.admission.place()?;
    let entry = app.admission.decisions.join().ok_or_else(too_much)?;
    let handling = async move {
        let turn = Turn::of(entry).await?;
        head.extensions.insert(turn.clone());
        let response = next.run(Request::from_parts(head, body)).await;
        turn.end();
        drop((place, room));
        Ok(response)
    };
    Workers::run_on(app.backing.workers.as_deref(), handling).await
}

fn too_much() -> Refusal {
    Refusal::busy("the server is overloaded")
}

/// True for methods whose body matters. The SDK sends `{}` with every GET and DELETE; the server does not wait for that.
fn reads_body(method: &Method) -> bool {
    [Method::POST, Method::PUT].contains(method)
}

/// A request waits twice for the threads of the connections: to be read, and for its answer to be written.
const LATE: Duration = Duration::from_millis(20);
/// Requests that are admitted however late the threads are.
const FEW: usize = 64;

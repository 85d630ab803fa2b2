//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use limiter::{Limiter, RedisStore};
use limiter_tower::Dialect;

use crate::admission::Admission;
use crate::auth::Authenticator;
use crate::bounds::Bounds;
use crate::client::Client;
use crate::models::Models;
use crate::workers::Workers;

/// The service's state: the engine, the models that can be run, the bounds, and the headers of the engine's API.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) limiter: Limiter,
    pub(crate) authenticator: Authenticator,
    pub(crate) models: Models,
    pub(crate) client: Arc<Client>,
    pub(crate) bounds: Bounds,
    pub(crate) admission: Admission,
    /// Where requests run that were admitted, if not where they were read.
    pub(crate) workers: Option<Arc<Workers>>,
    pub(crate) dialects: Vec<Dialect>,
    redis: Option<RedisStore>,
    stopping: AtomicBool,
}

impl App {
    pub(crate) fn new(
        limiter: Limiter,
        redis: Option<RedisStore>,
        workers: Option<Workers>,
        models: Models,
        bounds: Bounds,
        dialects: Vec<Dialect>,
    ) -> Self {
        let workers = workers.map(Arc::new);
        Self {
            authenticator: Authenticator::new(limiter.clone(), workers.clone()),
            limiter,
            models,
            client: Arc::new(Client::new()),
            admission: Admission::new(&bounds, workers.as_deref()),
            bounds,
            dialects,
            workers,
            redis,
            stopping: AtomicBool::new(false),
        }
    }

    /// Whether new requests are welcome: the store answers, and nobody has told the server to stop.
    pub(crate) async fn is_ready(&self) -> bool {
        let answers = match &self.redis {
            Some(store) => store.health().await.is_ok(),
            None => true,
        };
        answers && !self.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

//! The state that all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use limiter::__private::with_causes;
use limiter::stream::Api;
use limiter::{Limiter, Thresholds};
use limiter_tower::{Dialect, ErrorFormat};

use crate::admission::Admission;
use crate::auth::Authenticator;
use crate::bounds::Bounds;
use crate::client::Client;
use crate::console::Sessions;
use crate::denials::Denials;
use crate::engine::Backing;
use crate::models::Models;

/// The service's state: the engine, the models that can be run, the bounds, and the headers of the engine's API.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) limiter: Limiter,
    pub(crate) authenticator: Authenticator,
    pub(crate) models: Models,
    pub(crate) client: Arc<Client>,
    pub(crate) bounds: Bounds,
    pub(crate) admission: Admission,
    pub(crate) dialects: Vec<Dialect>,
    pub(crate) backing: Backing,
    /// The thresholds of keys that have none of their own.
    pub(crate) thresholds: Thresholds,
    pub(crate) sessions: Sessions,
    pub(crate) denials: Denials,
    stopping: AtomicBool,
}

impl App {
    pub(crate) fn new(
        limiter: Limiter,
        backing: Backing,
        models: Models,
        bounds: Bounds,
        dialects: Vec<Dialect>,
        thresholds: Thresholds,
    ) -> Arc<Self> {
        let workers = backing.workers.as_ref();
        Arc::new(Self {
            authenticator: Authenticator::new(limiter.clone(), workers.cloned()),
            limiter,
            models,
            client: Arc::new(Client::new()),
            admission: Admission::new(&bounds, workers.map(|workers| &**workers)),
            sessions: Sessions::new(Duration::from_secs(bounds.console_session_s)),
            denials: Denials::default(),
            thresholds,
            bounds,
            dialects,
            backing,
            stopping: AtomicBool::new(false),
        })
    }

    /// Returns an error with the reason unless the server takes new requests.
    pub(crate) async fn readiness(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err("the server is stopping".to_owned());
        }
        if let Some(store) = &self.backing.redis {
            store.health().await.map_err(|error| with_causes(&error))?;
        }
        self.backing.state.as_ref().and_then(|(file, _)| file.trouble()).map_or(Ok(()), Err)
    }

    /// Returns the headers of a provider's API: the configured ones and the API's own, or none if none are configured.
    pub(crate) fn dialects_of(&self, api: Api) -> Vec<Dialect> {
        let own = match ErrorFormat::from(api) {
            ErrorFormat::Anthropic => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        };
        let mut dialects = self.dialects.clone();
        if !dialects.is_empty() && !dialects.contains(&own) {
            dialects.push(own);
        }
        dialects
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

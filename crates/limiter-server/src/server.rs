//! One server, from its settings to its last answer.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use limiter::__private::Throttle;
use limiter::memory::MemoryStore;
use limiter::{Limiter, Thresholds};
use limiter_tower::Dialect;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;
use crate::bounds::{BACKLOG, Bounds};
use crate::config::{Origin, Settings};
use crate::engine::{Backing, Engine, StartError};
use crate::metrics;
use crate::models::{Model, Models};
use crate::serve::serve;
use crate::state::StateFile;
use crate::webhook::Webhook;
use crate::{routes, welcome};

/// A server that listens, and serves once it [runs](Self::run).
#[derive(Debug)]
#[must_use = "a server serves nothing until it runs"]
pub struct Server {
    listener: TcpListener,
    app: Arc<App>,
    webhook: Option<Webhook>,
    cors_origins: Vec<Origin>,
    welcome: String,
}

impl Server {
    /// Prepares the store, the workspace with its admin key, and the address. If `stop` is ready during the wait for
    /// Redis, it returns at once.
    ///
    /// # Errors
    /// [`StartError`], each with a sentence of what to do.
    pub async fn start(
        settings: &Settings,
        stop: impl Future<Output = ()>,
    ) -> Result<Self, StartError> {
        metrics::install();
        let models = Models::new(settings.models.clone())?;
        let listener = listen(settings.listen)?;
        let Engine { limiter, backing, admin, webhook } = Engine::start(settings, stop).await?;
        let welcome = welcome::text(local_address(&listener, settings.listen)?, settings, &admin);
        let dialects = settings.dialects.clone();
        let app =
            App::new(limiter, backing, models, settings.bounds, dialects, settings.thresholds);
        Ok(Self { listener, app, webhook, cors_origins: settings.cors_origins.clone(), welcome })
    }

    /// A server on an engine that is there already: to put the service into a process of your own. The dialects are those of
    /// [`Settings::dialects`].
    ///
    /// Figures go to the recorder of the process, and are rendered at `/metrics` if there is none yet.
    ///
    /// # Errors
    /// [`StartError`] if the address cannot be listened on, or two models share a name.
    pub async fn embedded(
        limiter: Limiter,
        address: SocketAddr,
        models: Vec<Model>,
        bounds: Bounds,
        dialects: impl IntoIterator<Item = Dialect>,
    ) -> Result<Self, StartError> {
        metrics::install();
        let models = Models::new(models)?;
        let listener = listen(address)?;
        let dialects = dialects.into_iter().collect();
        let app =
            App::new(limiter, Backing::default(), models, bounds, dialects, Thresholds::DEFAULT);
        Ok(Self { listener, app, webhook: None, cors_origins: Vec::new(), welcome: String::new() })
    }

    /// Returns the text for the operator at the start, with the admin key if the start made it.
    #[must_use]
    pub fn welcome(&self) -> &str {
        &self.welcome
    }

    /// Returns the address that it listens on.
    ///
    /// # Errors
    /// [`StartError::Failed`] if the system does not know it.
    pub fn address(&self) -> Result<SocketAddr, StartError> {
        local_address(&self.listener, SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Serves until `stop` is ready, finishes what is under way, and saves the state.
    ///
    /// # Errors
    /// [`StartError::State`] if the state could not be saved at the end.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let Self { listener, app, webhook, cors_origins, .. } = self;
        let limiter = app.limiter.clone();
        let state = app.backing.state.clone();
        let (no_more_events, stopped) = oneshot::channel::<()>();
        let client = Arc::clone(&app.client);
        let telling = webhook.map(|webhook| {
            tokio::spawn(async move { webhook.run(&client, stopped.map(drop)).await })
        });
        let saving =
            state.clone().map(|(file, store)| tokio::spawn(save_now_and_then(file, store)));
        let upkeep = tokio::spawn(metrics::keep_up());
        let service = routes::service(Arc::clone(&app), &cors_origins);
        let bounds = app.bounds;
        let stopping = async {
            stop.await;
            app.stop();
            tracing::info!("stopping: what is under way is finished");
        };
        if !serve(listener, service, &bounds, stopping).await {
            tracing::warn!("not everything ended in time: what was cut off stands as estimated");
        }
        // What is leased and not used goes back.
        let unpaid = limiter.flush(Duration::from_secs(bounds.shutdown_timeout_s)).await;
        if !unpaid.is_nothing() {
            tracing::warn!(%unpaid, "charges that Redis has not taken are lost");
        }
        upkeep.abort();
        drop(no_more_events);
        if let Some(mut telling) = telling
            && tokio::time::timeout(Duration::from_secs(bounds.shutdown_timeout_s), &mut telling)
                .await
                .is_err()
        {
            telling.abort();
            tracing::warn!("the webhook has not taken all events: those that wait are lost");
        }
        if let Some(saving) = saving {
            saving.abort();
            // It may be in the middle of a save, which abort does not interrupt.
            let _cancelled = saving.await;
        }
        if let Some((file, store)) = state {
            file.save(&store)?;
        }
        tracing::info!("stopped");
        Ok(())
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    bind(address).map_err(StartError::failed(format!("the server cannot listen on {address}")))
}

/// Binds as `TcpListener::bind` does, with a longer queue.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restarted server gets the address at once, even while connections of the old process are closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn local_address(listener: &TcpListener, asked: SocketAddr) -> Result<SocketAddr, StartError> {
    let failed = StartError::failed(format!("the server cannot listen on {asked}"));
    listener.local_addr().map_err(failed)
}

static NOT_SAVED: Throttle = Throttle::of_warnings();

async fn save_now_and_then(file: StateFile, store: MemoryStore) {
    let mut ticks = interval(StateFile::PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await; // the first is now, and it was saved when it was opened
    loop {
        ticks.tick().await;
        let (file, store) = (file.clone(), store.clone());
        let saved = tokio::task::spawn_blocking(move || file.save(&store)).await;
        if let Ok(Err(error)) = saved {
            ticks.reset_after(StateFile::RETRY);
            if let Some(suppressed) = NOT_SAVED.admit(Instant::now()) {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    suppressed,
                    "the state was not saved; it is tried every second"
                );
            }
        }
    }
}

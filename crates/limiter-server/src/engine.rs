//! The engine that a server stands on: its store, its workspace, its admin key.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use limiter::lease::LeasedStore;
use limiter::memory::MemoryStore;
use limiter::redis::RedisStore;
use limiter::{AccessKey, KeyConfig, KeysError, Limiter, NewKey, WorkspaceId};
use thiserror::Error as ThisError;

use crate::config::{ConfigError, Settings};
use crate::state::{StateError, StateFile};
use crate::webhook::{self, Webhook};
use crate::workers::Workers;

/// An engine that is ready.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) limiter: Limiter,
    pub(crate) backing: Backing,
    pub(crate) admin: Admin,
    pub(crate) webhook: Option<Webhook>,
}

/// The store of an engine, and the means to keep it.
#[derive(Debug, Default)]
pub(crate) struct Backing {
    pub(crate) redis: Option<RedisStore>,
    /// Threads that run admitted requests, unless the thread that read them does.
    pub(crate) workers: Option<Arc<Workers>>,
    pub(crate) state: Option<(StateFile, MemoryStore)>,
    pub(crate) leases: Option<LeasedStore>,
}

/// The admin key of the workspace, as the start found it.
#[derive(Debug)]
pub(crate) enum Admin {
    /// The start made it.
    Made(AccessKey),
    /// The settings have it, and it works.
    Brought,
    /// The workspace has keys already, and the settings have none.
    NotShown,
}

/// An error that keeps a server from starting, or ends it.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state file cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The workspace has another admin key.
    #[error(
        "LIMITER_ADMIN_KEY is not the access key of a living admin key of the workspace {0:?}, which has keys already: set \
         it to the one that the first start has shown, or leave it out"
    )]
    OtherAdmin(WorkspaceId),
    /// The server was stopped before it had started.
    #[error("the server was stopped while it connected to Redis")]
    Stopped,
    /// The address, Redis, the workspace or the system cannot be used.
    #[error("{failure}")]
    Failed {
        /// The failure in a sentence.
        failure: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl StartError {
    /// Returns the error of a failure, from its cause.
    pub fn failed<E: Into<Box<dyn Error + Send + Sync>>>(
        failure: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        |cause| Self::Failed { failure: failure.into(), source: cause.into() }
    }
}

impl Engine {
    pub(crate) async fn start(
        settings: &Settings,
        stop: impl Future<Output = ()>,
    ) -> Result<Self, StartError> {
        let mut backing = Backing::default();
        let (sink, webhook) = webhook::open(settings).unzip();
        let days = settings.bounds.history_days;
        let memory = MemoryStore::builder().ledger_bounds(settings.bounds.ledger());
        let memory = memory.history_days(days);
        let limiter = match (&settings.redis, &settings.state) {
            (Some(url), _) => {
                let builder = RedisStore::builder(url)
                    .key_prefix(&settings.redis_prefix)
                    .ledger_bounds(settings.bounds.ledger())
                    .history_days(days);
                // Stop aborts only the connection. Creating a workspace must finish, or its admin key is never shown.
                let threads = Workers::start()
                    .map_err(StartError::failed("no threads can be started for calls to Redis"))?;
                let store = tokio::select! {
                    connected = threads.run(builder.connect()) => connected.map_err(StartError::failed("the Redis of --redis cannot be used"))?,
                    () = stop => return Err(StartError::Stopped),
                };
                backing.workers = Some(Arc::new(threads));
                backing.redis = Some(store.clone());
                match settings.leases {
                    true => {
                        let leases = LeasedStore::new(store);
                        backing.leases = Some(leases.clone());
                        Limiter::builder(leases)
                    }
                    false => Limiter::builder(store),
                }
            }
            (None, Some(path)) => {
                let (file, store) = StateFile::open(path, memory)?;
                backing.state = Some((file, store.clone()));
                Limiter::builder(store)
            }
            (None, None) => Limiter::builder(memory.build()),
        };
        let limiter = limiter.thresholds(settings.thresholds).shadow(settings.shadow);
        let limiter = limiter.on_threshold(move |event| {
            let crossing = &event.crossing;
            let group = crossing.group.as_ref().map(tracing::field::display);
            tracing::info!(key = %event.key, group, percent = crossing.percent, "{event}");
            if let Some(sink) = &sink {
                sink.push(event);
            }
        });
        let limiter = limiter.build();
        let admin = admin(&limiter, settings).await?;
        Ok(Self { limiter, backing, admin, webhook })
    }
}

/// Makes the workspace if it is new, and else looks at the key that was brought.
async fn admin(limiter: &Limiter, settings: &Settings) -> Result<Admin, StartError> {
    let workspace = &settings.workspace;
    let failed = |error: KeysError| {
        StartError::failed(format!("the workspace {workspace:?} cannot be set up"))(error)
    };
    let config = KeyConfig::named("admin").map_err(|error| failed(error.into()))?;
    let new = NewKey::admin(config);
    let new = match &settings.admin_key {
        Some(access_key) => new.with_access_key(access_key.clone()),
        None => new,
    };
    match (limiter.bootstrap(workspace.clone(), new).await, &settings.admin_key) {
        (Ok(admin), Some(_)) if !admin.record.is_expired() => Ok(Admin::Brought),
        (Ok(_) | Err(KeysError::AlreadyBootstrapped), Some(_)) => {
            Err(StartError::OtherAdmin(workspace.clone()))
        }
        (Ok(created), None) => Ok(created.access_key.map_or(Admin::NotShown, Admin::Made)),
        (Err(KeysError::AlreadyBootstrapped), None) => Ok(Admin::NotShown),
        (Err(error), _) => Err(failed(error)),
    }
}

//! The service of tests, without connections.

use std::sync::Arc;

use limiter::{AccessKey, KeyConfig, Limiter, NewKey, Thresholds};

use crate::app::App;
use crate::bounds::Bounds;
use crate::engine::Backing;
use crate::models::Models;

/// The access key of the admin `m`.
pub(crate) const ADMIN: &str = "admin-key-of-a-test-7Qm2vXc94bLr";

/// Returns an app on this engine, with the built-in models.
pub(crate) fn app(limiter: Limiter, backing: Backing, bounds: Bounds) -> Arc<App> {
    App::new(
        limiter,
        backing,
        Models::new(Models::built_in()).unwrap(),
        bounds,
        Vec::new(),
        Thresholds::DEFAULT,
    )
}

/// Returns an engine in memory with a workspace that has the admin `m`.
pub(crate) async fn engine() -> (Limiter, AccessKey) {
    let (limiter, admin) = (Limiter::in_memory(), AccessKey::new(ADMIN).unwrap());
    let first = NewKey::admin(KeyConfig::named("m").unwrap())
        .with_access_key(admin.clone())
        .with_id("m".parse().unwrap());
    limiter.bootstrap("home".parse().unwrap(), first).await.unwrap();
    (limiter, admin)
}

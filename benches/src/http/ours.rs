//! Our layer over limits in memory: it finds the access key, decides, and adds the headers of the limit.

use axum::Router;
use limiter::memory::MemoryStore;
use limiter::store::LedgerBounds;
use limiter::{AccessKey, KeyConfig, Limiter, NewKey};
use limiter_tower::{Dialect, RateLimitLayer, RateLimitLayerBuilder};
use tokio::runtime::Builder;

use crate::ASSET;
use crate::ours::limits;

/// Adds one limit of requests per minute over all calls.
pub(super) fn one_limit(router: Router, headers: bool) -> Router {
    let limits = limiter::Limits::builder().requests_per_minute(1 << 50).build();
    let config = named("ci").with_global(limits.expect("valid limits"));
    router.layer(layer(config, headers).build())
}

/// Adds all eight rules: requests and tokens, by minute and day, for the key and for the key with one asset.
pub(super) fn eight_rules(router: Router, headers: bool) -> Router {
    let asset: limiter::AssetId = ASSET.parse().expect("an asset's id");
    let config = named("ci").with_global(limits()).with_asset(asset.clone(), limits());
    let charge = crate::ours::charge();
    let layer =
        layer(config, headers).asset(move |_| Ok(Some(asset.clone()))).charge(move |_| Ok(charge));
    router.layer(layer.build())
}

/// Adds the preset for gateways, with limits of requests and tokens, and the headers of the preset.
pub(super) fn gateway(router: Router) -> Router {
    let model = MODEL.parse().expect("an asset's id");
    let config = named("ci").with_global(limits()).with_asset(model, limits());
    router.layer(RateLimitLayer::for_openai(limiter(config)).build())
}

fn layer(config: KeyConfig, headers: bool) -> RateLimitLayerBuilder {
    // The dialect with the same content as tower_governor's: a limit, its remainder, and its reset.
    let dialects = headers.then_some(Dialect::Legacy);
    RateLimitLayer::builder(limiter(config)).dialects(dialects)
}

/// Creates a limiter with one member key.
fn limiter(config: KeyConfig) -> Limiter {
    // Each call of a gateway makes a reservation, remembered for two minutes from its end: more than the default of a key.
    let store = MemoryStore::builder().ledger_bounds(LedgerBounds::of_each(MOST_CALLS)).build();
    let limiter = Limiter::from(store);
    let runtime = Builder::new_current_thread().build().expect("a runtime starts");
    runtime.block_on(async {
        let admin = NewKey::admin(named("ops")).without_access_key();
        let admin = limiter.bootstrap("acme".parse().expect("an id"), admin).await;
        let admin = admin.expect("the workspace is new").record.id;
        let access_key = AccessKey::new(ACCESS_KEY).expect("visible ASCII");
        let member = NewKey::member(config).with_access_key(access_key);
        limiter.keys_as(&admin).create(member).await.expect("the key is new");
    });
    limiter
}

fn named(name: &str) -> KeyConfig {
    KeyConfig::named(name).expect("a name")
}

/// More than the calls of all rounds.
const MOST_CALLS: usize = 50_000_000;

/// The model of the chat completion.
pub(super) const MODEL: &str = "gpt-5";

/// As long as generated ones: 36 letters and digits.
pub(super) const ACCESS_KEY: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

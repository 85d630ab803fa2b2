//! Memory: the bytes that a server takes for a key.

use limiter_test_servers::RedisServer;
use redis::Value;

use super::keys::{Keys, counts_of, limits_of, record_of};
use crate::figures::Figures;

/// Adds the bytes of a called key with one asset and with ten, and of its management record.
///
/// # Panics
/// If the server does not report its memory.
pub async fn measure(server: &RedisServer, figures: &mut Figures) {
    let keys = Keys::connect(&server.url()).await;
    for (key, assets, name) in [(0, 1, "bytes_1_asset"), (1, 10, "bytes_10_assets")] {
        keys.create(key, assets).await;
        for asset in 0..assets {
            keys.allow(key, asset).await;
        }
        figures.add(name, bytes(server, &counts_of(key)) + bytes(server, &limits_of(key)));
    }
    figures.add("bytes_management", bytes(server, &record_of(0)));
    server.command(&["FLUSHALL"]);
}

fn bytes(server: &RedisServer, key: &str) -> f64 {
    match server.command(&["MEMORY", "USAGE", key]) {
        Value::Int(bytes) => bytes as f64,
        other => panic!("{key}: {other:?}"),
    }
}

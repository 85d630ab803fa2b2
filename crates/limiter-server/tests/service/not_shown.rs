//! Stored settings that the SDK's wire cannot express: they are shown in the nearest form, hide no other key, and
//! survive a PUT.

use limiter::memory::{MemoryStore, Snapshot};
use limiter::redis::RedisStore;
use limiter::{AssetId, Credits, KeyConfig, KeyId, Limiter, Limits, NewKey, Thresholds};
use limiter_server::{Bounds, Server};
use limiter_test_servers::{fresh_name, shared};
use serde_json::{Value, json};

use crate::support::{ADMIN, Answer, MODEL, call_at};

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_zero_hides_no_other_key_and_is_kept() {
    for limiter in on_each_store().await {
        let zeros = Limits::builder().requests_per_day(0).tokens_per_minute(0).build().unwrap();
        let of_asset =
            Limits::builder().requests_per_day(0).requests_per_minute(7).build().unwrap();
        let odd = KeyConfig::named("b").unwrap().with_global(zeros).with_shadow(true);
        let odd = odd.with_thresholds(Thresholds::new([33]).unwrap());
        let odd = odd.with_asset("our own".parse().unwrap(), of_asset);
        let odd = odd.with_budget(Credits::from_millionths(8_589_934_592_000_001).unwrap());
        let (id, url) = three_keys(&limiter, odd.clone()).await;

        let record = middle_of_three(&url, &id);
        assert_eq!(record["globalLimits"]["rpd"], json!(0));
        assert_eq!(record["assetsLimits"][0]["rpm"], json!(7));
        assert_eq!(record["assetsLimits"][0]["assetId"], json!("our own"));
        let told = record["notShown"].to_string();
        for words in
            ["rpd of globalLimits", "tpm of globalLimits", "rpd of the limits of", "rounded"]
        {
            assert!(told.contains(words), "{words}: {told}");
        }
        let rows = get(&url, &format!("/{id}/usage-limits"));
        assert_eq!(rows.status, 200, "{rows:?}");
        assert_eq!(rows.body[0]["requestCountLimit"], json!(0), "null would be no limit");

        // Sent back as shown, the record changes nothing.
        let put = |body: &Value| {
            let path = format!("/sdk/api-keys/{id}");
            call_at(&url, "PUT", ADMIN, &path, &body.to_string())
        };
        let saved = put(&record);
        assert_eq!((saved.status, &saved.body), (200, &record), "{saved:?}");
        assert_eq!(config(&limiter, &id).await, odd);

        // Settings that the wire can express are replaced; others are kept.
        assert_eq!(put(&json!({"name": "b", "budget": 5})).status, 200);
        let kept = config(&limiter, &id).await;
        assert_eq!(kept.budget(), "5".parse().ok());
        assert_eq!((kept.shadow, kept.thresholds), (true, odd.thresholds));
        let zeros = odd.global.to_builder().credits_ever(kept.budget()).build().unwrap();
        assert_eq!(kept.global, zeros);
        let asset: AssetId = "our own".parse().unwrap();
        let zero = Limits::builder().requests_per_day(0).build().unwrap();
        assert_eq!(kept.assets.get(&asset), Some(&zero), "the 7 was left out");

        let said = json!({"name": "b", "globalLimits": {"rpd": 1, "tpm": 2}, "assetsLimits": [
            {"rpd": 4, "assetId": "our own"}, {"rpd": 5, "assetId": MODEL},
        ]});
        let saved = put(&said);
        assert_eq!(saved.body["notShown"], Value::Null, "{saved:?}");
        assert_eq!(saved.body["assetsLimits"].as_array().map(Vec::len), Some(2));
    }
}

/// Such a date is refused today, but the state of an older server may contain one.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_date_that_cannot_be_shown_hides_no_other_key() {
    for (at, shown) in [
        (316_516_118_400_000_i64, "9999-12-31T23:59:59.999000Z"),
        (-62_198_755_200_000, "1970-01-01T00:00:00.000000Z"),
        ((1 << 53) - 1, "9999-12-31T23:59:59.999000Z"),
    ] {
        let store = MemoryStore::builder().build();
        let limiter = Limiter::from(store.clone());
        bootstrap(&limiter).await;
        let odd = KeyConfig::named("b").unwrap().with_expiry(limiter::Timestamp::END_OF_9999);
        let id = create_three(&limiter, odd).await;
        let saved = serde_json::to_string(&store.snapshot()).unwrap();
        let last = limiter::Timestamp::END_OF_9999.to_string();
        assert!(saved.contains(&last));
        let saved = saved.replace(&last, &limiter::Timestamp::from_unix_ms(at).to_string());
        let snapshot: Snapshot = serde_json::from_str(&saved).unwrap();
        let limiter = Limiter::from(MemoryStore::restore(snapshot).unwrap());
        let url = serve(limiter).await;

        let mut record = middle_of_three(&url, &id);
        assert_eq!(record["expiresAt"], json!(shown));
        assert!(record["notShown"][0].as_str().unwrap().contains("expiresAt"), "{record}");
        // Sent back as shown, it becomes an ordinary date.
        let path = format!("/sdk/api-keys/{id}");
        let saved = call_at(&url, "PUT", ADMIN, &path, &record.to_string());
        record.as_object_mut().unwrap().remove("notShown");
        assert_eq!((saved.status, &saved.body), (200, &record), "{saved:?}");
    }
}

/// Returns the second of three keys' records, and asserts that listing and reading it agree.
fn middle_of_three(url: &str, id: &KeyId) -> Value {
    let list = get(url, "");
    assert_eq!(list.status, 200, "{list:?}");
    let names: Vec<&str> =
        list.body.as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c", "admin"]);
    let record = get(url, &format!("/{id}"));
    assert_eq!((record.status, &record.body), (200, &list.body[1]), "{record:?}");
    record.body
}

fn get(url: &str, path: &str) -> Answer {
    tokio::task::block_in_place(|| call_at(url, "GET", ADMIN, &format!("/sdk/api-keys{path}"), ""))
}

/// Connects a limiter in memory and one on Redis, each with a workspace.
async fn on_each_store() -> [Limiter; 2] {
    let builder = RedisStore::builder(shared().url()).key_prefix(fresh_name("odd"));
    let limiters = [Limiter::in_memory(), Limiter::from(builder.connect().await.unwrap())];
    for limiter in &limiters {
        bootstrap(limiter).await;
    }
    limiters
}

async fn bootstrap(limiter: &Limiter) {
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = admin.with_access_key(ADMIN.parse().unwrap());
    limiter.bootstrap("team".parse().unwrap(), admin).await.unwrap();
}

/// Returns the id of the second of three keys, and the URL of a server that has them.
async fn three_keys(limiter: &Limiter, odd: KeyConfig) -> (KeyId, String) {
    (create_three(limiter, odd).await, serve(limiter.clone()).await)
}

async fn create_three(limiter: &Limiter, odd: KeyConfig) -> KeyId {
    let admin = ADMIN.parse().unwrap();
    let keys = limiter.keys(&admin);
    for name in ["a", "c"] {
        keys.create(NewKey::member(KeyConfig::named(name).unwrap())).await.unwrap();
    }
    keys.create(NewKey::member(odd)).await.unwrap().record.id
}

async fn config(limiter: &Limiter, id: &KeyId) -> KeyConfig {
    limiter.keys(&ADMIN.parse().unwrap()).get(id).await.unwrap().config
}

/// Serves this limiter, with the default models, and returns the URL.
async fn serve(limiter: Limiter) -> String {
    let address = "127.0.0.1:0".parse().unwrap();
    let models = limiter_server::Settings::default().models;
    let server = Server::embedded(limiter, address, models, Bounds::default(), []);
    let server = server.await.unwrap();
    let url = format!("http://{}", server.address().unwrap());
    tokio::spawn(server.run(std::future::pending()));
    url
}

//! The service of the example `embed_in_axum`, called over TCP.

#[path = "../embed_in_axum.rs"]
#[expect(dead_code, reason = "its `main` serves until it is stopped, on a limiter of its own")]
mod embed_in_axum;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use limiter::memory::MemoryStore;
use limiter::{
    AccessKey, Credits, KeyConfig, KeyId, Limiter, Limits, ManualClock, NewKey, Timestamp,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_key_within_its_limits_is_served() {
    let service = Service::start().await;
    let key = service.member(named("ci").with_global(requests_per_minute(1))).await;
    let answer = service.call(Some(&key)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "Here gpt-5 would answer 11 bytes.\n"));
}

#[tokio::test]
async fn who_comes_without_a_key_that_lives_is_asked_for_one() {
    let service = Service::start().await;
    let stranger = AccessKey::new("a-key-that-nobody-has").unwrap();
    let expired = service.member(named("old").with_expiry(service.clock.now())).await;
    for key in [None, Some(&stranger), Some(&expired)] {
        let answer = service.call(key).await;
        assert_eq!(answer.status, 401, "{key:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{key:?}");
    }
}

#[tokio::test]
async fn an_admin_key_makes_no_calls() {
    let service = Service::start().await;
    let admin = service.create(NewKey::admin(named("second admin"))).await;
    let answer = service.call(Some(&admin)).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (403, &json!("admin_key")));
}

#[tokio::test]
async fn a_key_without_credits_is_asked_to_pay() {
    let service = Service::start().await;
    let one_call = Credits::from_millionths(4).unwrap();
    let key = service.member(named("ci").with_budget(one_call)).await;
    assert_eq!(service.call(Some(&key)).await.status, 200);
    let answer = service.call(Some(&key)).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (402, &json!("budget_exhausted")));
}

#[tokio::test]
async fn a_limited_key_gets_the_reason_and_a_retry_time() {
    let service = Service::start().await;
    let key = service.member(named("ci").with_global(requests_per_minute(1))).await;
    assert_eq!(service.call(Some(&key)).await.status, 200);

    let answer = service.call(Some(&key)).await;
    assert_eq!(answer.status, 429);
    let decision = answer.json();
    assert_eq!(decision["outcome"], "denied");
    assert_eq!(decision["reason"], "rate_limited");
    assert_eq!(decision["binding"], "global/minute/requests");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");

    let retry_at = decision["retry_at"].as_str().unwrap();
    service.clock.set(retry_at.parse().unwrap());
    assert_eq!(service.call(Some(&key)).await.status, 200);
}

#[tokio::test]
async fn a_call_that_never_fits_gets_no_retry_time() {
    let service = Service::start().await;
    let one_word = Limits::builder().tokens_per_minute(1).build().unwrap();
    let key = service.member(named("ci").with_asset("gpt-5".parse().unwrap(), one_word)).await;
    let answer = service.call(Some(&key)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, None));
}

#[test]
fn a_wait_is_rounded_up_to_whole_seconds() {
    for (wait_ms, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (59_999, 60)] {
        assert_eq!(embed_in_axum::whole_seconds(Duration::from_millis(wait_ms)), seconds);
    }
}

/// The service on a port of its own. Its limiter's clock stands, so that no minute ends during a test.
struct Service {
    limiter: Limiter,
    clock: ManualClock,
    admin: KeyId,
    address: std::net::SocketAddr,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Service {
    async fn start() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let clock = ManualClock::at(Timestamp::from_unix_ms(0).after(now));
        let limiter = Limiter::from(MemoryStore::builder().clock(clock.clone()).build());
        let admin = NewKey::admin(named("ops")).without_access_key();
        let admin = limiter.bootstrap("acme".parse().unwrap(), admin).await.unwrap().record.id;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = embed_in_axum::router(limiter.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { limiter, clock, admin, address }
    }

    async fn member(&self, config: KeyConfig) -> AccessKey {
        self.create(NewKey::member(config)).await
    }

    async fn create(&self, key: NewKey) -> AccessKey {
        self.limiter.keys_as(&self.admin).create(key).await.unwrap().access_key.unwrap()
    }

    /// Sends two words to gpt-5.
    async fn call(&self, key: Option<&AccessKey>) -> Answer {
        let authorization = key
            .map(|key| format!("Authorization: Bearer {}\r\n", key.expose()))
            .unwrap_or_default();
        let request = format!(
            "POST /v1/chat/gpt-5 HTTP/1.1\r\nHost: localhost\r\n{authorization}\
             Content-Length: 11\r\nConnection: close\r\n\r\nHello there"
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();

        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers
            .into_iter()
            .find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn named(name: &str) -> KeyConfig {
    KeyConfig::named(name).unwrap()
}

fn requests_per_minute(limit: u64) -> Limits {
    Limits::builder().requests_per_minute(limit).build().unwrap()
}

//! A limiter whose clock stands, a service behind the layer on a free port, and a client.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use limiter::redis::RedisStore;
use limiter::{AccessKey, KeyConfig, KeyId, Limiter, ManualClock, NewKey, Timestamp, Unit, Usage};
pub(crate) use limiter_conformance::fixtures::{
    asset, named, requests_per_day, requests_per_minute, tokens, tokens_per_minute,
};
use limiter_test_servers::{fresh_name, shared};
use limiter_tower::{RateLimitLayer, RateLimitLayerBuilder};
use serde_json::Value;
use sfv::{BareItem, List, ListEntry, Parser};
use tokio::net::TcpListener;

/// 31 seconds before a minute ends, and twelve hours before a day does.
pub(crate) const NOW: &str = "2026-01-01T11:59:29Z";

/// A limiter and its admin.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) limiter: Limiter,
    pub(crate) clock: ManualClock,
    pub(crate) admin: KeyId,
}

/// A member key.
pub(crate) struct Member {
    pub(crate) id: KeyId,
    pub(crate) access_key: AccessKey,
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = ManualClock::at(NOW.parse().unwrap());
        Self::on(Limiter::in_memory_on(&clock), clock).await
    }

    /// On the Redis at this URL, under a prefix of its own.
    pub(crate) async fn on_redis(url: &str) -> Self {
        let clock = ManualClock::at(at(NOW));
        let store = RedisStore::builder(url)
            .key_prefix(fresh_name("tower"))
            .command_deadline(PATIENCE)
            .clock(clock.clone());
        Self::on(Limiter::from(store.connect().await.unwrap()), clock).await
    }

    /// One in memory and one on Redis: what holds for one holds for the other.
    pub(crate) async fn on_each_store() -> [Self; 2] {
        [Self::new().await, Self::on_redis(shared().url()).await]
    }

    pub(crate) async fn on(limiter: Limiter, clock: ManualClock) -> Self {
        let admin = NewKey::admin(named("ops"));
        let admin = limiter.bootstrap("acme".parse().unwrap(), admin).await.unwrap().record.id;
        Self { limiter, clock, admin }
    }

    pub(crate) fn layer(&self) -> RateLimitLayerBuilder {
        RateLimitLayer::builder(self.limiter.clone())
    }

    pub(crate) async fn member(&self, config: KeyConfig) -> Member {
        self.create(NewKey::member(config)).await
    }

    pub(crate) async fn create(&self, key: NewKey) -> Member {
        let created = self.limiter.keys_as(&self.admin).create(key).await.unwrap();
        Member { id: created.record.id, access_key: created.access_key.unwrap() }
    }

    pub(crate) async fn usage(&self, member: &Member) -> Usage {
        self.limiter.usage(&member.id).await.unwrap().unwrap()
    }

    /// Tokens used today over all calls.
    pub(crate) async fn tokens_used(&self, member: &Member) -> u64 {
        self.usage(member).await.scopes[0].account.amount(Unit::Tokens)
    }

    /// Requests used today over all calls.
    pub(crate) async fn requests_used(&self, member: &Member) -> u64 {
        self.usage(member).await.scopes[0].account.requests()
    }
}

/// A service that says hello at any path, behind this layer, on a port of its own.
pub(crate) async fn hello(layer: RateLimitLayer) -> Service {
    serve(Router::new().fallback(any(|| async { "hello" })).layer(layer)).await
}

/// A router on a port of its own.
pub(crate) async fn serve(router: Router) -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    Service::at(address)
}

/// A running service, and a client of it.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Service {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Calls `/` with the access key of this member as a bearer token.
    pub(crate) async fn call(&self, member: &Member) -> Answer {
        self.send("/", &[("authorization", &bearer(&member.access_key))]).await
    }

    pub(crate) async fn send(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.request(Method::GET, path, headers).await
    }

    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let uri = format!("http://{}{path}", self.address);
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::default()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The problem details, which are consistent with the status.
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert!(problem["detail"].as_str().unwrap().len() > 10, "{problem}");
        problem
    }
}

/// The names and integer parameters of a structured field that is a list of strings.
pub(crate) fn items(headers: &HeaderMap, name: &str) -> Vec<(String, Vec<(String, String)>)> {
    let field = headers[name].as_bytes();
    let list: List = Parser::new(field).parse().unwrap_or_else(|error| panic!("{name}: {error}"));
    let text = |item: &BareItem| match item {
        BareItem::String(text) => text.as_str().to_owned(),
        BareItem::Integer(number) => number.to_string(),
        other => panic!("{name}: {other:?}"),
    };
    let item = |entry: &ListEntry| match entry {
        ListEntry::Item(item) => {
            assert!(matches!(item.bare_item, BareItem::String(_)), "{name}: {item:?}");
            let parameters = item.params.iter().map(|(key, value)| (key.to_string(), text(value)));
            (text(&item.bare_item), parameters.collect())
        }
        ListEntry::InnerList(list) => panic!("{name}: {list:?}"),
    };
    list.iter().map(item).collect()
}

pub(crate) fn bearer(access_key: &AccessKey) -> String {
    format!("Bearer {}", access_key.expose())
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(10);

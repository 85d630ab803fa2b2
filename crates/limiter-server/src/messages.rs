//! The messages of this server, as `docs/messages.txt` lists them.

#[path = "../../../tests/messages.rs"]
mod listed;

use std::io;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use bytes::Bytes;
use futures_util::stream;
use limiter::{AccessKey, KeyConfig, NewKey, Plan, PlanName, PlanUpdate};
use serde_json::Value;
use tower::ServiceExt;

use self::listed::{Message, variants};
use crate::app::App;
use crate::apply::ApplyError;
use crate::bounds::Bounds;
use crate::config::ConfigError;
use crate::engine::{Backing, StartError};
use crate::fixtures::{ADMIN, app, engine};
use crate::models::Models;
use crate::routes;
use crate::state::StateError;

#[tokio::test]
async fn messages_are_as_listed() {
    let all = [crate::config::tests::mistakes(), errors(), refusals().await, bounds().await];
    listed::check(env!("CARGO_PKG_NAME"), all.into_iter().flatten());
}

fn errors() -> Vec<Message> {
    let cause = || io::Error::other("the cause is not part of the message");
    let file = || "state.json".into();
    let config = variants!(ConfigError {
        Unreadable { path: "limiter-server.toml".into(), source: cause() },
        Wrong { path: "limiter-server.toml".into(), message: "the mistake and its line".into() },
        Setting("the setting".into()),
        AdminKey(AccessKey::new("short").unwrap_err()),
    });
    let state = variants!(StateError {
        InUse(file()),
        Damaged { path: file(), line: 2, source: cause().into() },
        Failed { path: file(), action: "read", source: cause().into() },
    });
    let start = variants!(StartError {
        Config(ConfigError::Setting("the setting".into())),
        State(StateError::InUse(file())),
        OtherAdmin("default".parse().unwrap()),
        Stopped,
        Failed { failure: "the failure".into(), source: cause().into() },
    });
    let apply = variants!(ApplyError {
        NoStore,
        Nothing,
        InUse(file()),
        State(StateError::InUse(file())),
        Redis(cause().into()),
        Contradictions(vec!["acme: \"ci\" is a group: choose another name".into()]),
        Failed { what: "creating key \"ci\"".into(), source: cause().into() },
        Output(cause()),
    });
    [config, state, start, apply].concat()
}

/// The messages of refused requests.
async fn refusals() -> Vec<Message> {
    let app = service(Bounds::default()).await;
    let requests = [
        ("GET /sdk/api-keys/none", "m", ""),
        ("DELETE /sdk/api-keys", "m", ""),
        ("GET /elsewhere", "m", ""),
        ("POST /sdk/api-keys", "m", "not JSON"),
        ("POST /sdk/api-keys", "m", r#"{"nam":"a"}"#),
        ("POST /sdk/api-keys", "m", r#"{"name":"ci"}"#),
        ("POST /sdk/api-keys", "m", r#"{"name":"a","budget":"5"}"#),
        ("POST /sdk/api-keys", "m", r#"{"name":"a","expiresAt":"tomorrow"}"#),
        ("POST /sdk/api-keys", "m", r#"{"name":"a","globalLimits":{"rpm":1.5}}"#),
        ("POST /sdk/api-keys", "m", r#"{"name":"a","globalLimits":{"assetId":"gpt"}}"#),
        ("POST /sdk/api-keys", "m", r#"{"name":"a","assetsLimits":[{"rpm":1}]}"#),
        ("POST /sdk/api-keys", "m", r#"{"name":"a","assetsLimits":[{"assetId":"gpt"}]}"#),
        ("PUT /sdk/api-keys/ci", "m", r#"{"name":"ci","isAdmin":true}"#),
        ("GET /v2/models/gpt", "m", ""),
        ("POST /api/v2/execute/gpt", "ci", "{}"),
        ("POST /api/v2/execute/669a63646eb56306647e1091", "ci", "{}"),
        ("POST /api/v2/execute/away", "ci", r#"{"text":"Hello"}"#),
        ("GET /v1/keys?page_size=none", "m", ""),
        ("GET /v1/keys", "nobody", ""),
        (
            "POST /v1/keys",
            "m",
            r#"{"keys":[{"config":{"name":"a"},"access_key":"0123456789abcdef","without_access_key":true}]}"#,
        ),
        ("PUT /v1/keys", "m", r#"{"id":"acme/a","beneath":"acme","config":{"name":"a"}}"#),
        ("PUT /v1/keys", "m", r#"{"kind":"group","config":{"name":"a"}}"#),
        ("PUT /v1/keys", "m", r#"{"beneath":"nobody","config":{"name":"a"}}"#),
        ("DELETE /v1/keys/acme", "m", ""),
        ("PUT /v1/keys/none", "m", r#"{"version":1,"config":{"name":"a"},"effective":"soon"}"#),
        ("PUT /v1/keys/ci", "m", r#"{"version":9,"config":{"name":"ci"}}"#),
        ("PUT /v1/keys", "m", r#"{"config":{"name":"a","plan":"nobody"}}"#),
        ("GET /v1/plans/nobody", "m", ""),
        ("PUT /v1/plans/free", "m", r#"{"version":9}"#),
        ("PUT /v1/plans/nobody", "m", r#"{"global":{"requests":1}}"#),
        ("DELETE /v1/plans/free", "m", ""),
        ("GET /v1/history?days=0", "ci", ""),
        ("POST /v1/check", "m", "{}"),
        ("POST /v1/reserve", "ci", r#"{"ttl_seconds":0}"#),
        ("POST /v1/reservations/r/settle", "ci", "{}"),
        ("POST /v1/chat/completions", "ci", r#"{"messages":[]}"#),
        ("POST /v1/chat/completions", "ci", r#"{"model":"gpt"}"#),
        ("POST /v1/chat/completions", "ci", r#"{"model":"openai/gpt-5/openai"}"#),
        ("POST /v1/chat/completions", "ci", r#"{"model":"secret"}"#),
        ("POST /v1/messages", "ci", r#"{"model":"away","max_tokens":1}"#),
    ];
    let mut messages = Vec::new();
    for (line, caller, body) in requests {
        let message = ask(&app, line, caller, Body::from(body)).await;
        messages.push((format!("{line} {body}").trim_end().to_owned(), message));
    }
    messages
}

/// The messages of requests beyond a bound.
async fn bounds() -> Vec<Message> {
    let late = || Body::from_stream(stream::pending::<io::Result<Bytes>>());
    let broken = || Body::from_stream(stream::iter([Err::<Bytes, _>(io::Error::other("reset"))]));
    let bounds = Bounds::default();
    let mut messages = Vec::new();
    for (name, bounds, body) in [
        ("max_body_bytes", Bounds { max_body_bytes: 1, ..bounds }, Body::from("{}")),
        ("max_buffered_bytes", Bounds { max_buffered_bytes: 1, ..bounds }, Body::from("{}")),
        ("max_requests", Bounds { max_requests: 0, ..bounds }, Body::from("{}")),
        ("read_timeout", Bounds { read_timeout_s: 0, ..bounds }, late()),
        ("a body that breaks off", bounds, broken()),
    ] {
        let message = ask(&service(bounds).await, "POST /v1/check", "ci", body).await;
        messages.push((format!("POST /v1/check: {name}"), message));
    }
    messages
}

/// Returns a service with the admin `m`, the member `ci` and the group `acme` with a key of the plan `free`, and models without and with a provider.
async fn service(bounds: Bounds) -> Arc<App> {
    let (limiter, admin) = engine().await;
    let member = NewKey::member(KeyConfig::named("ci").unwrap()).with_id("ci".parse().unwrap());
    let member = member.with_access_key(AccessKey::new(key_of("ci")).unwrap());
    let acme = NewKey::group("acme".parse().unwrap(), KeyConfig::named("acme").unwrap());
    let free: PlanName = "free".parse().unwrap();
    let plan = PlanUpdate::new(free.clone(), Plan::default());
    limiter.keys(&admin).save_plan(plan).await.unwrap();
    let in_acme = NewKey::member(KeyConfig::named("in acme").unwrap().with_plan(free));
    let in_acme = in_acme.beneath("acme".parse().unwrap());
    for key in [member, acme, in_acme] {
        limiter.keys(&admin).create(key).await.unwrap();
    }
    let app = app(limiter, Backing::default(), bounds);
    let mut models = Models::built_in();
    for (id, more) in [("away", ""), ("secret", "upstream_authorization_env = 'LIMITER_NOT_SET'")] {
        let upstream = "http://127.0.0.1:1/v1/chat/completions";
        let model = format!("id = '{id}'\npath = '{id}'\nupstream = '{upstream}'\n{more}");
        models.push(toml::from_str(&model).unwrap());
    }
    let mut app = Arc::into_inner(app).unwrap();
    app.models = Models::new(models).unwrap();
    Arc::new(app)
}

fn key_of(caller: &str) -> String {
    if caller == "m" { ADMIN.to_owned() } else { format!("access-key-of-{caller}-7Qm2vXc94bLr") }
}

/// Returns the message of a refused request.
async fn ask(app: &Arc<App>, line: &str, caller: &str, body: Body) -> String {
    let (method, path) = line.split_once(' ').unwrap();
    let request = Request::builder().method(method).uri(path).header("x-api-key", key_of(caller));
    let service = routes::service(Arc::clone(app), &[]);
    let response = service.oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status();
    assert!(!status.is_success(), "{line}: {status}");
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    let messages = [&answer["message"], &answer["detail"], &answer["error"]["message"]];
    let message = messages.into_iter().find_map(Value::as_str);
    format!("{}: {}", status.as_u16(), message.unwrap_or_else(|| panic!("{answer}")))
}

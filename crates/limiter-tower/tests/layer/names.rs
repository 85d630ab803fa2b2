//! Other spellings of asset names: the layer and the service behind it read the same name, or the call is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::routing::get;
use http::{HeaderName, HeaderValue, Request};
use limiter_tower::RateLimitLayer;
use tower::ServiceExt;

use crate::world::{Member, World, asset, named, requests_per_day, serve};

/// Returns all spellings of a text: each character literal, or percent-encoded in capitals or small letters.
fn spellings(text: &str) -> BTreeSet<String> {
    text.bytes().fold(BTreeSet::from([String::new()]), |begun, byte| {
        let ways = [char::from(byte).to_string(), format!("%{byte:02X}"), format!("%{byte:02x}")];
        let spelled = |begun: &String| ways.clone().map(|way| format!("{begun}{way}"));
        begun.iter().flat_map(spelled).collect()
    })
}

/// README's layer and route. Runs are counted by the name that the handler gets.
async fn runs_of(world: &World, member: &Member, paths: &[String]) -> BTreeMap<String, usize> {
    let runs = Arc::new(Mutex::new(BTreeMap::new()));
    let counted = Arc::clone(&runs);
    let run = move |Path(model): Path<String>| async move {
        *counted.lock().unwrap().entry(model).or_default() += 1;
    };
    let layer = world.layer().asset_in_path(|path| path.strip_prefix("/v1/models/")).build();
    let service = serve(Router::new().route("/v1/models/{model}", get(run)).layer(layer)).await;
    for path in paths {
        service.send(path, &[("x-api-key", member.access_key.expose())]).await;
    }
    drop(service);
    runs.lock().unwrap().clone()
}

#[tokio::test]
async fn no_spelling_of_a_name_passes_its_limit() {
    for name in ["gpt-5", "jo-z"] {
        let world = World::new().await;
        let config = named("ci").with_asset(asset(name), requests_per_day(2));
        let ci = world.member(config).await;
        let spelled: Vec<String> = spellings(name).into_iter().collect();
        assert_eq!(spelled.len(), if name == "gpt-5" { 48 } else { 81 });
        let twice_encoded = |text: &String| text.replace('%', "%25");
        let paths: Vec<String> = (spelled.iter().cloned())
            .chain(spelled.iter().map(twice_encoded))
            .chain([
                name.to_uppercase(),
                format!("{name}/"),
                format!("/{name}"),
                format!("{name};v=1"),
            ])
            .chain([format!("./{name}"), format!("x/../{name}"), format!("x/%2e%2E/{name}")])
            .chain([
                format!("{name}%00"),
                format!("{name}%"),
                format!("{name}%zz"),
                format!("{name}%FF"),
            ])
            .chain([
                name.replace('-', "%C0%AD"),
                name.replace('-', "%E2%80%90"),
                format!("+{name}"),
            ])
            .map(|spelled| format!("/v1/models/{spelled}"))
            .chain([format!("/v1/model%73/{name}"), format!("//v1/models/{name}")])
            .collect();
        let runs = runs_of(&world, &ci, &paths).await;
        assert_eq!(runs.get(name), Some(&2), "{runs:?}");
        assert_eq!(world.usage(&ci).await.scopes[1].account.requests(), 2);
        // A name that is encoded twice is another name, also to the handler.
        assert!(runs.contains_key(&name.replace('-', "%2D")), "{runs:?}");
    }
}

/// For all paths of some pieces, two have the same name in the layer exactly if they have it in the router.
#[tokio::test]
async fn the_layer_and_the_router_read_the_same_names() {
    const PIECES: [&str; 12] =
        ["a", "%61", "/", "%2F", "%2f", "%25", "%252F", "%", ".", "%2e", "%C3%A9", "é"];
    let mut paths = BTreeSet::from([String::new()]);
    for _ in 0..3 {
        let longer = |begun: &String| PIECES.map(|piece| format!("{begun}{piece}"));
        paths.extend(paths.iter().flat_map(longer).collect::<Vec<_>>());
    }
    let by_segment: fn(&str) -> Option<&str> =
        |path| path.strip_prefix("/m/")?.strip_suffix("/run").filter(|name| !name.contains('/'));
    let by_tail: fn(&str) -> Option<&str> = |path| path.strip_prefix("/m/");
    for (route, suffix, find) in
        [("/m/{name}/run", "/run", by_segment), ("/m/{*name}", "", by_tail)]
    {
        let world = World::new().await;
        let router = Router::new().route(route, get(|Path(name): Path<String>| async { name }));
        let layered = router.clone().layer(world.layer().asset_in_path(find).build());
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for path in &paths {
            let path = format!("/m/{path}{suffix}");
            if let (200, name) = ask(&router, &path, "").await
                && !name.is_empty()
            {
                names.entry(name).or_default().push(path);
            }
        }
        assert!(names.len() > 200, "{}", names.len());
        for (number, (name, paths)) in names.iter().enumerate() {
            let limited = named(&format!("{number}")).with_asset(asset(name), requests_per_day(1));
            let key = world.member(limited).await;
            let mut admitted = 0;
            for path in paths {
                match ask(&layered, path, key.access_key.expose()).await {
                    (200, read) => {
                        assert_eq!(read, *name);
                        admitted += 1;
                    }
                    // Refused by the limit, or as ambiguous.
                    (status, _) => assert!(matches!(status, 400 | 429), "{path}: {status}"),
                }
            }
            let refused = |path: &String| path.contains('%') || path.contains("/.");
            assert!(
                admitted == 1 || admitted == 0 && paths.iter().all(refused),
                "{name}: {paths:?}"
            );
        }
    }
}

async fn ask(router: &Router, path: &str, access_key: &str) -> (u16, String) {
    let request = Request::get(path).header("x-api-key", access_key).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_path_without_one_meaning_is_a_bad_request_that_says_why_and_charges_nothing() {
    let world = World::new().await;
    let service = counting(world.layer().asset_in_path(|path| path.strip_prefix("/")).build());
    let service = serve(service.0).await;
    let ci = world.member(named("ci").with_global(requests_per_day(5))).await;
    for (path, why) in [
        ("/gpt%2", "two hexadecimal digits"),
        ("/gpt%FF", "UTF-8"),
        ("/x/%2E./gpt-5", "`.` or `..`"),
    ] {
        let answer = service.send(path, &[("x-api-key", ci.access_key.expose())]).await;
        let problem = answer.problem();
        assert_eq!((answer.status.as_u16(), &problem["reason"]), (400, &"invalid".into()));
        assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
    }
    assert_eq!(world.requests_used(&ci).await, 0);
}

#[tokio::test]
async fn a_header_that_can_be_read_in_two_ways_is_a_bad_request() {
    let world = World::new().await;
    let name = HeaderName::from_static("x-model");
    let (router, runs) = counting(world.layer().asset_in_header(name).build());
    let limited = |key: &str, name: &str| named(key).with_asset(asset(name), requests_per_day(1));
    let ci = world.member(limited("ci", "gpt-5")).await;
    let french = world.member(limited("french", "modèle")).await;
    let send = async |member: &Member, values: &[&[u8]]| {
        let mut request = Request::get("/").header("x-api-key", member.access_key.expose());
        for value in values {
            request = request.header("x-model", HeaderValue::from_bytes(value).unwrap());
        }
        router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
    };
    assert_eq!(send(&ci, &[b"gpt-5"]).await, 200);
    assert_eq!(send(&ci, &[b" gpt-5\t"]).await, 429);
    assert_eq!(send(&ci, &[b"other", b"gpt-5"]).await, 400);
    assert_eq!(send(&ci, &[b"gpt-5", b"gpt-5"]).await, 400);
    assert_eq!(send(&ci, &[b"gpt-5\xff"]).await, 400);
    assert_eq!(send(&ci, &[b""]).await, 400);
    assert_eq!(send(&french, &["modèle".as_bytes()]).await, 200);
    assert_eq!(send(&french, &["modèle".as_bytes()]).await, 429);
    assert_eq!(runs.load(Ordering::Relaxed), 2);
}

fn counting(layer: RateLimitLayer) -> (Router, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let run = move || async move {
        counted.fetch_add(1, Ordering::Relaxed);
    };
    (Router::new().fallback(run).layer(layer), runs)
}

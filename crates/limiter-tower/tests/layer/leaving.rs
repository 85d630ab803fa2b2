//! Clients who leave while the layer waits for its store: their charge is taken back.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use limiter_test_servers::{Proxy, shared, until_async};
use limiter_tower::{Caller, Settlement};
use tower::{Layer, ServiceExt, service_fn};

use crate::world::{Member, World, named, tokens, tokens_per_minute};

/// Polls the call until its first request to the store is cut off.
async fn poll_until_cut_off<T>(
    proxy: &Proxy,
    mut call: Pin<&mut impl Future<Output = Result<T, io::Error>>>,
) {
    until_async("the first try is cut off", async || {
        proxy.requests_cut() == 1
            || match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => false,
                Poll::Ready(answer) => panic!("{:?}", answer.map(drop)),
            }
    })
    .await;
}

/// Cuts off the next request. The second try is not answered before the proxy releases it: on a busy machine it could end
/// before the test sees that the first was cut off.
fn cut_off_and_answer_no_other(proxy: &Proxy) {
    proxy.cut_before_request();
    proxy.hold_replies();
}

/// A world whose server is behind a proxy.
async fn behind_proxy() -> (World, Proxy, Member) {
    let url = shared().url();
    let address = url.strip_prefix("redis://").unwrap();
    let proxy = Proxy::to(address.split('/').next().unwrap());
    let world = World::on_redis(&proxy.url()).await;
    let member = world.member(named("ci").with_global(tokens_per_minute(1_000))).await;
    // The scripts are loaded before any fault.
    let mut call = world.limiter.reserve(&member.id, None, &tokens(1, 1)).await.unwrap().allowed();
    call.take().unwrap().cancel().await.unwrap();
    (world, proxy, member)
}

fn request(member: &Member) -> Request<Empty<Bytes>> {
    let request = Request::builder().header("x-api-key", member.access_key.expose());
    request.body(Empty::new()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_its_estimate_is_charged_pays_nothing() {
    let (world, proxy, ci) = behind_proxy().await;
    // The reservation is then the only step that the call waits for.
    let caller = Caller::from(ci.id.clone());
    let layer = world.layer().caller(move |_| Some(caller.clone()));
    let layer = layer.reserve(|_| Ok(tokens(5, 100)), |_| Settlement::Keep).build();
    let served = Arc::new(AtomicBool::new(false));
    let serving = Arc::clone(&served);
    let service = layer.layer(service_fn(move |_: Request<Empty<Bytes>>| {
        serving.store(true, Ordering::Relaxed);
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    }));
    let executed = proxy.executed();
    proxy.hold_replies();
    {
        let mut call = pin!(service.oneshot(request(&ci)));
        until_async("the estimate is charged", async || {
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            proxy.executed() == executed + 1
        })
        .await;
    }
    proxy.forward();
    until_async("it is taken back", async || world.tokens_used(&ci).await == 0).await;
    assert_eq!(world.requests_used(&ci).await, 0);
    assert!(!served.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_a_failed_call_is_cancelled_pays_nothing() {
    let (world, proxy, ci) = behind_proxy().await;
    let layer = world.layer().reserve(|_| Ok(tokens(5, 100)), |_| Settlement::Keep);
    let layer = layer.on_service_error(Settlement::Cancel).build();
    let service = layer.layer(service_fn(|_: Request<Empty<Bytes>>| {
        cut_off_and_answer_no_other(&proxy);
        std::future::ready(Err::<Response<Full<Bytes>>, _>(io::Error::other("refused")))
    }));
    {
        let mut call = pin!(service.oneshot(request(&ci)));
        poll_until_cut_off(&proxy, call.as_mut()).await;
    }
    proxy.release();
    until_async("it is taken back", async || world.tokens_used(&ci).await == 0).await;
    assert_eq!(world.requests_used(&ci).await, 0);
}

/// The settlement has begun on the runtime, and ends there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_where_no_runtime_is_pays_nothing() {
    let (world, proxy, ci) = behind_proxy().await;
    let proxy = Arc::new(proxy);
    let caller = Caller::from(ci.id.clone());
    let layer = world.layer().caller(move |_| Some(caller.clone()));
    let layer = layer.reserve(|_| Ok(tokens(5, 100)), |_| Settlement::Keep);
    let layer = layer.on_service_error(Settlement::Cancel).build();
    let fails = Arc::clone(&proxy);
    let service = layer.layer(service_fn(move |_: Request<Empty<Bytes>>| {
        cut_off_and_answer_no_other(&fails);
        std::future::ready(Err::<Response<Full<Bytes>>, _>(io::Error::other("refused")))
    }));
    let mut call = Box::pin(service.oneshot(request(&ci)));
    poll_until_cut_off(&proxy, call.as_mut()).await;
    std::thread::spawn(move || drop(call)).join().unwrap();
    proxy.release();
    until_async("it is taken back", async || world.tokens_used(&ci).await == 0).await;
}

/// The settlement could only begin there: the estimate stands, and the thread does not panic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_dropped_where_no_runtime_is_leaves_its_estimate() {
    let world = World::on_redis(shared().url()).await;
    let ci = world.member(named("ci").with_global(tokens_per_minute(1_000))).await;
    let layer = world.layer().reserve(|_| Ok(tokens(5, 100)), |_| Settlement::Cancel).build();
    let service = layer.layer(service_fn(|_: Request<Empty<Bytes>>| {
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("hello")))))
    }));
    let answer = service.oneshot(request(&ci)).await.unwrap();
    std::thread::spawn(move || drop(answer)).join().unwrap();
    assert_eq!(world.tokens_used(&ci).await, 105);
}

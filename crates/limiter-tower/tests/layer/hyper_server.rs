//! The layer under hyper alone, without a framework.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{Layer, service_fn};

use crate::world::{Service, World, named, requests_per_minute};

#[tokio::test]
async fn a_hyper_service_is_limited() {
    let world = World::new().await;
    let hello = service_fn(|_: Request<Incoming>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
    });
    let service = world.layer().build().layer(hello);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });

    let service = Service::at(address);
    let ci = world.member(named("ci").with_global(requests_per_minute(1))).await;
    let answer = service.call(&ci).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"hello"[..]));
    assert_eq!(answer.header("ratelimit"), Some(r#""permin";r=0;t=31"#));
    let answer = service.call(&ci).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("31")));
    assert_eq!(answer.problem()["binding"], "global/minute/requests");
}

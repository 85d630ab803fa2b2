//! The client by which this server calls others.

use std::sync::LazyLock;
use std::time::Duration;

use axum::http::Request;
use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as HttpClient, ResponseFuture};
use hyper_util::rt::TokioExecutor;

/// Calls the providers of models and the webhook, by TLS if their URL is https. A client's access key is never passed on.
///
/// It is made when it is first used: a server that makes no calls need not read the system's certificates.
#[derive(Debug)]
pub(crate) struct Client(LazyLock<HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>>);

impl Client {
    pub(crate) const fn new() -> Self {
        Self(LazyLock::new(connect))
    }

    pub(crate) fn request(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        self.0.request(request)
    }
}

fn connect() -> HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let cryptography = rustls::crypto::ring::default_provider();
    let builder = HttpsConnectorBuilder::new().with_provider_and_native_roots(cryptography);
    let builder = builder.unwrap_or_else(|error| {
        // There is still plain HTTP, and HTTPS fails with a reason when it is tried.
        tracing::warn!(%error, "the system has no certificates: what is behind HTTPS cannot be reached");
        let without_roots = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        HttpsConnectorBuilder::new().with_tls_config(without_roots)
    });
    let connector = builder.https_or_http().enable_http1().wrap_connector(connector);
    HttpClient::builder(TokioExecutor::new()).build(connector)
}

/// A provider that takes longer to accept a connection is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

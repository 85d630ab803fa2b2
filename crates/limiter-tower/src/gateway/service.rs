//! The service of a gateway: a decision, the service behind it, and its answer.

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use limiter::store::BoxError;
use tower_service::Service;

use super::answer::answer;
use super::body::GatewayBody;
use super::call::{Call, Target, admit};
use super::config::GatewayConfig;
use crate::settlement::Settling;
use crate::standing::Standing;

/// A service whose calls are limited by their tokens, made by [`GatewayLayer`](super::GatewayLayer).
///
/// It is ready when the service behind it is. A refused call does not reach that service, and gives back its readiness.
#[derive(Clone, Debug)]
pub struct Gateway<S> {
    service: S,
    config: Arc<GatewayConfig>,
}

impl<S> Gateway<S> {
    pub(super) const fn new(service: S, config: Arc<GatewayConfig>) -> Self {
        Self { service, config }
    }
}

impl<S, B, R> Service<Request<B>> for Gateway<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body<Data = Bytes> + From<Bytes> + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<GatewayBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone may not be ready, so the service that was polled ready is called.
        let clone = self.service.clone();
        let service = mem::replace(&mut self.service, clone);
        Box::pin(serve(self.config.clone(), service, request))
    }
}

async fn serve<S, B, R>(
    config: Arc<GatewayConfig>,
    mut service: S,
    request: Request<B>,
) -> Result<Response<GatewayBody<R>>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Body<Data = Bytes> + From<Bytes>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    if !config.shared.limits(request.method()) {
        return Ok(service.call(request).await?.map(GatewayBody::plain));
    }
    let (mut parts, body) = request.into_parts();
    let target = Target::of(&parts);
    let call = match admit(&config, &target, &mut parts, body).await {
        Ok(call) => call,
        Err(refusal) => {
            refusal.log(&config.shared.warnings);
            return Ok(config.respond(target.api, &refusal).map(GatewayBody::refusal));
        }
    };
    match call {
        Call::Plain { body, allowed } => {
            let mut response = service.call(Request::from_parts(parts, body)).await?;
            if let Some(allowed) = allowed {
                config.shared.write_headers(Standing::from(&*allowed), response.headers_mut());
            }
            Ok(response.map(GatewayBody::plain))
        }
        Call::Metered { body, metered } => {
            match service.call(Request::from_parts(parts, body.into())).await {
                Ok(response) => Ok(answer(&config, metered, response).await),
                Err(error) => {
                    let settlement = config.shared.on_service_error;
                    let mut settling = Settling::start(metered.reservation, settlement);
                    poll_fn(|cx| settling.poll(cx)).await;
                    Err(error)
                }
            }
        }
    }
}

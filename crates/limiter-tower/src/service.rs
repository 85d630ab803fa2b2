//! The service: a decision, then the service behind it.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::body::ResponseBody;
use crate::config::Config;
use crate::decide::{decide, decide_at_once};
use crate::future::ResponseFuture;

/// A service whose calls are limited, made by [`RateLimitLayer`](crate::RateLimitLayer).
///
/// It is ready when the service behind it is. A refused call does not reach that service, and gives back its readiness,
/// for example a permit: a clone replaces the service.
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    service: S,
    config: Arc<Config>,
}

impl<S> RateLimit<S> {
    pub(crate) const fn new(service: S, config: Arc<Config>) -> Self {
        Self { service, config }
    }
}

impl<S, B, R> Service<Request<B>> for RateLimit<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    R: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        match decide_at_once(&self.config, &mut parts) {
            // The service need not be cloned to be called later.
            Some(Ok(admission)) => {
                let serving = self.service.call(Request::from_parts(parts, body));
                ResponseFuture::serving(serving, admission, self.config.clone())
            }
            Some(Err(refusal)) => {
                // The service was ready for a call that it does not get. A clone is not ready, and so holds no permit
                // that other calls wait for.
                self.service = self.service.clone();
                ResponseFuture::refused(&parts, &refusal, &self.config)
            }
            None => {
                // The clone may not be ready; the service that was polled until it was is the one to call.
                let clone = self.service.clone();
                let service = mem::replace(&mut self.service, clone);
                let decision = Box::pin(decide(self.config.clone(), parts));
                ResponseFuture::deciding(decision, service, body, self.config.clone())
            }
        }
    }
}

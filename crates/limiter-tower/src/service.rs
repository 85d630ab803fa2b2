//! The service: a decision, then the service behind it.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::body::ResponseBody;
use crate::config::Config;
use crate::decide::decide;
use crate::future::ResponseFuture;

/// A service whose calls are limited, made by [`RateLimitLayer`](crate::RateLimitLayer).
///
/// It is ready when the service behind it is. A refused call does not reach that.
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
        let (parts, body) = request.into_parts();
        let mut decision = Box::pin(decide(self.config.clone(), parts));
        // In memory a decision is there at once, and the service need not be cloned to be called later. A decision that is
        // not is polled again by the future, whose waker then takes the place of this one.
        match decision.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready((parts, Ok(admission))) => {
                let serving = self.service.call(Request::from_parts(parts, body));
                ResponseFuture::serving(serving, admission, self.config.clone())
            }
            Poll::Ready((parts, Err(refusal))) => {
                ResponseFuture::refused(&parts, &refusal, &self.config)
            }
            Poll::Pending => {
                // The clone may not be ready; the service that was polled until it was is the one to call.
                let clone = self.service.clone();
                let service = mem::replace(&mut self.service, clone);
                ResponseFuture::deciding(decision, service, body, self.config.clone())
            }
        }
    }
}

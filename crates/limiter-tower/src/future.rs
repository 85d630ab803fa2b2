//! The response to come.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use limiter::__private::UserCode;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::body::ResponseBody;
use crate::config::{Config, Cost};
use crate::decide::Admission;
use crate::grpc::is_grpc;
use crate::refusal::Refusal;
use crate::settlement::{Settlement, Settling};
use crate::standing::Standing;
use crate::status::StatusMap;

pin_project! {
    /// The response of [`RateLimit`](crate::RateLimit).
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B>,
        config: Arc<Config>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B>
    where
        S: Service<Request<B>>,
    {
        Deciding { decision: Decision, call: Option<(S, B)> },
        Serving { #[pin] serving: S::Future, admission: Option<Admission> },
        Failing { settling: Settling, error: Option<S::Error> },
        Refused { response: Option<Response<Bytes>> },
    }
}

type Decision = Pin<Box<dyn Future<Output = (Parts, Result<Admission, Box<Refusal>>)> + Send>>;

impl<S: Service<Request<B>>, B> ResponseFuture<S, B> {
    pub(crate) fn deciding(decision: Decision, service: S, body: B, config: Arc<Config>) -> Self {
        Self { state: State::Deciding { decision, call: Some((service, body)) }, config }
    }

    pub(crate) const fn serving(
        serving: S::Future,
        admission: Admission,
        config: Arc<Config>,
    ) -> Self {
        Self { state: State::Serving { serving, admission: Some(admission) }, config }
    }

    pub(crate) fn refused(parts: &Parts, refusal: &Refusal, config: &Arc<Config>) -> Self {
        let response = Some(respond(parts, refusal, config));
        Self { state: State::Refused { response }, config: config.clone() }
    }
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProjection::Deciding { decision, call } => {
                    let (parts, admission) = ready!(decision.as_mut().poll(cx));
                    let (mut service, body) = call.take().expect(POLLED_AGAIN);
                    match admission {
                        Ok(admission) => State::Serving {
                            serving: service.call(Request::from_parts(parts, body)),
                            admission: Some(admission),
                        },
                        Err(refusal) => State::Refused {
                            response: Some(respond(&parts, &refusal, this.config)),
                        },
                    }
                }
                StateProjection::Serving { serving, admission } => {
                    let outcome = ready!(serving.poll(cx));
                    let admission = admission.take().expect(POLLED_AGAIN);
                    let error = match outcome {
                        Ok(response) => {
                            return Poll::Ready(Ok(finish(response, admission, this.config)));
                        }
                        Err(error) => error,
                    };
                    match admission {
                        Admission::Final(_) => return Poll::Ready(Err(error)),
                        Admission::Reserved(reservation) => State::Failing {
                            settling: Settling::start(*reservation, this.config.on_service_error),
                            error: Some(error),
                        },
                    }
                }
                StateProjection::Failing { settling, error } => {
                    ready!(settling.poll(cx));
                    return Poll::Ready(Err(error.take().expect(POLLED_AGAIN)));
                }
                StateProjection::Refused { response } => {
                    let response = response.take().expect(POLLED_AGAIN);
                    return Poll::Ready(Ok(response.map(ResponseBody::refusal)));
                }
            };
            this.state.set(next);
        }
    }
}

/// Adds the headers to a response of the service, and watches its body if the call is to be settled.
fn finish<R: Body<Data = Bytes>>(
    mut response: Response<R>,
    admission: Admission,
    config: &Config,
) -> Response<ResponseBody<R>> {
    let reservation = match admission {
        Admission::Final(allowed) => {
            if let Some(allowed) = allowed {
                config.write_headers(Standing::from(&*allowed), response.headers_mut());
            }
            return response.map(ResponseBody::plain);
        }
        Admission::Reserved(reservation) => reservation,
    };
    let (mut parts, body) = response.into_parts();
    // Before the headers are added, which are not the service's.
    let cost = match &config.cost {
        Cost::Estimate(_, cost_of) => COST.run(|| cost_of(&parts)),
        Cost::Request | Cost::Charge(_) => Some(Box::new(Settlement::Keep) as _),
    };
    config.write_headers(reservation.decision().into(), &mut parts.headers);
    let body = match cost {
        Some(cost) => ResponseBody::settled(body, *reservation, cost),
        // The reservation is dropped here, which keeps the estimate and warns.
        None => ResponseBody::plain(body),
    };
    Response::from_parts(parts, body)
}

fn respond(parts: &Parts, refusal: &Refusal, config: &Config) -> Response<Bytes> {
    if is_grpc(&parts.headers) {
        refusal.to_grpc_response(&config.dialects, config.retry_bound)
    } else {
        let statuses = config.statuses_or(StatusMap::new());
        refusal.to_response(&statuses, &config.dialects, config.retry_bound)
    }
}

impl<S: Service<Request<B>>, B> std::fmt::Debug for ResponseFuture<S, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// A future that has ended is not polled again, as all of its kind demand.
const POLLED_AGAIN: &str = "a response is polled after it was ready";

static COST: UserCode = UserCode::new("reserve");

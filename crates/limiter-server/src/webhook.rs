//! Threshold events, posted to a webhook: signed, in order, and repeated until they are accepted.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, StatusCode, Uri};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::Full;
use limiter::__private::{Throttle, with_causes};
use limiter::events::ThresholdEvent;
use limiter::store::BoxError;
use serde::Serialize;
use sha2::Sha256;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::client::Client;
use crate::config::{Settings, http_url};
use crate::{ids, metrics};

/// The sender of events, which never waits. Clones share the queue.
#[derive(Clone, Debug)]
pub(crate) struct Sink(mpsc::Sender<Delivery>);

/// The events that are still to be posted.
pub(crate) struct Webhook {
    url: Uri,
    secret: Zeroizing<String>,
    queue: mpsc::Receiver<Delivery>,
}

/// One event, as it is posted each time.
#[derive(Debug)]
struct Delivery {
    id: String,
    body: Bytes,
}

/// The posted JSON.
#[derive(Serialize)]
struct Body<'a> {
    /// The same for each repetition, so that the listener recognises it.
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    event: &'a ThresholdEvent,
    message: String,
}

/// Opens the queue of the webhook, if there is one, and returns the worker that empties it.
pub(crate) fn open(settings: &Settings) -> Option<(Sink, Webhook)> {
    let url = http_url(settings.webhook.as_deref()?)?;
    let (sender, queue) = mpsc::channel(settings.bounds.max_events.clamp(1, MOST_QUEUED));
    Some((Sink(sender), Webhook { url, secret: settings.webhook_secret.clone(), queue }))
}

impl Sink {
    pub(crate) fn push(&self, event: &ThresholdEvent) {
        let queued = Delivery::of(event).is_some_and(|delivery| self.0.try_send(delivery).is_ok());
        if queued {
            return;
        }
        metrics::webhook_event("lost");
        if let Some(suppressed) = LOST.admit(Instant::now()) {
            let lost = suppressed.saturating_add(1);
            tracing::error!(%event, lost, "the webhook's queue is full: events are lost, this one the last");
        }
    }
}

impl Webhook {
    /// Posts one event after the other. Once `stop` is ready it accepts no more, and ends when the queue is empty.
    pub(crate) async fn run(mut self, client: &Client, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut stopping = false;
        loop {
            let next = tokio::select! {
                biased;
                () = &mut stop, if !stopping => {
                    stopping = true;
                    self.queue.close();
                    continue;
                }
                next = self.queue.recv() => next,
            };
            let Some(delivery) = next else { return };
            self.deliver(client, &delivery).await;
        }
    }

    /// Repeats until the event is accepted, or refused for good.
    async fn deliver(&self, client: &Client, delivery: &Delivery) {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.post(client, delivery).await {
                Ok(status) if status.is_success() => return metrics::webhook_event("delivered"),
                Ok(status) if is_final(status) => {
                    metrics::webhook_event("refused");
                    if let Some(suppressed) = REFUSED.admit(Instant::now()) {
                        let (id, refused) = (&delivery.id, suppressed.saturating_add(1));
                        tracing::error!(id, refused, %status, "the webhook refuses events: they are not tried again");
                    }
                    return;
                }
                Ok(status) => format!("it answered {status}"),
                Err(error) => with_causes(&*error),
            };
            metrics::webhook_event("failed");
            tracing::warn!(id = delivery.id, error, again_in = ?pause, "the webhook did not take an event");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Returns the status of the answer, whose body is not read.
    async fn post(&self, client: &Client, delivery: &Delivery) -> Result<StatusCode, BoxError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let signature = signature(&self.secret, now, &delivery.body);
        let request = Request::post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(SIGNATURE, signature)
            .body(Full::new(delivery.body.clone()))?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.request(request)).await;
        Ok(answer.map_err(|_| "it gave no answer in time")??.status())
    }
}

impl Delivery {
    fn of(event: &ThresholdEvent) -> Option<Self> {
        let id = ids::draw().ok()?;
        let (kind, message) = ("threshold", event.to_string());
        let body = serde_json::to_vec(&Body { id: &id, kind, event, message }).ok()?;
        Some(Self { id, body: body.into() })
    }
}

/// Returns whether a repetition cannot help. It may help after a 408, 425 or 429, and after a failure of the server.
fn is_final(status: StatusCode) -> bool {
    let passes =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_client_error() && !passes.contains(&status)
}

/// `t=1760011200,v1=…`: the time in unix seconds, and HMAC-SHA-256 (RFC 2104) of that time, a point and the body, in hex.
fn signature(secret: &str, unix_seconds: u64, body: &[u8]) -> String {
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{unix_seconds}.").as_bytes());
    mac.update(body);
    let code = Bytes::copy_from_slice(&mac.finalize().into_bytes());
    format!("t={unix_seconds},v1={code:x}")
}

/// Without the secret; and a URL may have a password in it.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("host", &self.url.host()).finish_non_exhaustive()
    }
}

/// Limits warnings: a listener that is down for a minute may lose a hundred thousand events.
static LOST: Throttle = Throttle::of_warnings();
static REFUSED: Throttle = Throttle::of_warnings();

/// The header with the signature.
const SIGNATURE: &str = "limiter-signature";
/// A listener only has to store the event.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A restarted listener is back within a second or two.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A listener that was away for long gets events within half a minute of its return.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// About a gigabyte of events.
const MOST_QUEUED: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf '1760011200.{}' | openssl dgst -sha256 -hmac secret`
    #[test]
    fn the_signature_is_what_openssl_makes_of_time_and_body() {
        let expected =
            "t=1760011200,v1=80ab5cc7d3cecacbfe5bcc89ed7aefb2c66e2027faeb82d13bfec2bec852bcdb";
        assert_eq!(signature("secret", 1_760_011_200, b"{}"), expected);
    }

    #[test]
    fn only_a_status_that_a_repetition_cannot_change_is_final() {
        for (status, is) in [
            (408, false),
            (425, false),
            (429, false),
            (500, false),
            (503, false),
            (301, false),
            (410, true),
        ] {
            assert_eq!(is_final(StatusCode::from_u16(status).unwrap()), is, "{status}");
        }
    }
}

//! An answer that comes piece by piece: passed on as it comes, and settled when it has ended.

use std::time::Duration;

use axum::BoxError;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use limiter::{Credits, Reservation, Totals};
use tokio_util::task::TaskTracker;

use super::usage::{EventScanner, Tokens};
use crate::models::Price;

/// Passes a stream on in a task of its own, which outlives the client if that goes away.
///
/// It is settled before its end is passed on, so that who has read the whole answer also sees its usage. Where no usage
/// was told, because the stream broke off or the client went away, the estimate stands. Then the provider is hung up
/// on, so that it need not go on.
pub(crate) fn start(
    tasks: &TaskTracker,
    price: Price,
    reservation: Reservation,
    upstream: Incoming,
) -> Channel<Bytes, BoxError> {
    let (sender, body) = Channel::new(PIECES_AHEAD);
    tasks.spawn(async move {
        // One that lasts too long is cut off by dropping it, and then the estimate stands.
        if tokio::time::timeout(STREAM_TIMEOUT, pass_on(sender, price, reservation, upstream))
            .await
            .is_err()
        {
            tracing::warn!("a stream lasted too long and was cut off");
        }
    });
    body
}

/// Settles by the usage, or by the estimate if none was told, and answers the credits in the first case.
///
/// An answer is on its way by then: where the store cannot settle, the estimate stands, and the log says so.
pub(crate) async fn settle(
    reservation: &mut Reservation,
    price: Price,
    tokens: Option<Tokens>,
) -> Option<Credits> {
    let totals = tokens.and_then(|tokens| tokens.totals(price).ok());
    let settled = reservation.settle(&totals.unwrap_or_else(Totals::unchanged)).await;
    if let Err(error) = settled {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a run could not be settled: its estimate stands"
        );
        return None;
    }
    totals.and_then(|totals| totals.credits())
}

async fn pass_on(
    mut sender: Sender<Bytes, BoxError>,
    price: Price,
    mut reservation: Reservation,
    mut upstream: Incoming,
) {
    let mut scanner = EventScanner::default();
    let broken = loop {
        let piece = match tokio::time::timeout(IDLE_TIMEOUT, upstream.frame()).await {
            Ok(None) => break None,
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(Some(Err(error))) => break Some(BoxError::from(error)),
            Err(_) => break Some(BoxError::from("the model's provider fell silent")),
        };
        scanner.feed(&piece);
        if sender.send_data(piece).await.is_err() {
            tracing::debug!("a client went away in the middle of a stream");
            break None;
        }
    };
    drop(upstream);
    settle(&mut reservation, price, scanner.tokens()).await;
    if let Some(error) = broken {
        sender.abort(error);
    }
}

/// How far the provider may be ahead of a slow client.
const PIECES_AHEAD: usize = 16;
/// The longest silence between two pieces.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest stream; a reservation can be settled for longer than that.
const STREAM_TIMEOUT: Duration = Duration::from_secs(600);

//! Operations on reservations, and checks with a request id: on the store, and on the core's own ledger beside it.

use std::fmt::Display;
use std::time::Duration;

use limiter_core::{
    AssetId, Charge, Credits, Decision, KeyId, KeyState, Ledger, LedgerBounds, MAX_COUNT, RecordId,
    RequestId, Reservation, ReservationError, ReservationStore, Timestamp, Totals, reservation,
};
use limiter_redis::RedisStore;
use redis::Commands;

use crate::clock::{DAY_MS, MINUTE_MS};
use crate::history::{asset, charge, extreme};
use crate::random::Random;

/// One operation on an id of a key.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub(crate) key: usize,
    pub(crate) id: &'static str,
    pub(crate) operation: Operation,
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    CheckOnce(Option<&'static str>, Charge),
    Record(Option<&'static str>, Charge, Duration, Option<&'static str>),
    Reserve(Option<&'static str>, Charge, Duration),
    Extend(Totals),
    Settle(Totals),
    Cancel,
}

impl Remembered {
    pub(crate) fn random(random: &mut Random, key: usize) -> Self {
        let id = random.one_of(&IDS);
        let operation = match random.below(100) {
            0..=11 => Operation::CheckOnce(asset(random), charge(random)),
            12..=17 => {
                let confirms = random.percent(50).then(|| random.one_of(&IDS));
                Operation::Record(asset(random), charge(random), ttl(random), confirms)
            }
            18..=54 => Operation::Reserve(asset(random), estimate(random), ttl(random)),
            55..=71 => Operation::Extend(totals(random)),
            72..=91 => Operation::Settle(totals(random)),
            _ => Operation::Cancel,
        };
        Self { key, id, operation }
    }

    /// Does it on the store, and answers how that ended, in words.
    pub(crate) async fn on_store(&self, store: &RedisStore, key: &KeyId) -> String {
        let id = self.request_id();
        match &self.operation {
            Operation::CheckOnce(asset, charge) => {
                told(store.check_once(key, asset_id(*asset).as_ref(), charge, &id).await)
            }
            Operation::Record(asset, charge, remembered_for, confirms) => {
                let confirms = confirms.map(request_id);
                let id = record_id(&id, *remembered_for, confirms.as_ref());
                told(store.record(key, asset_id(*asset).as_ref(), charge, &id).await)
            }
            Operation::Reserve(asset, estimate, ttl) => {
                told(store.reserve(key, asset_id(*asset).as_ref(), estimate, &id, *ttl).await)
            }
            Operation::Extend(to) => told(store.extend(key, &id, to).await),
            Operation::Settle(actual) => told(store.settle(key, &id, actual).await),
            Operation::Cancel => told(store.cancel(key, &id).await),
        }
    }

    /// The same on a key as the core has it, or on none.
    pub(crate) fn on_core(
        &self,
        key: Option<(&mut KeyState, &mut Ledger)>,
        now: Timestamp,
    ) -> String {
        let id = self.request_id();
        let Some((state, ledger)) = key else { return self.on_no_key() };
        match &self.operation {
            Operation::CheckOnce(asset, charge) => {
                let asset = asset_id(*asset);
                let asset = asset.as_ref();
                told(reservation::check_once(state, ledger, &BOUNDS, asset, charge, &id, now))
            }
            Operation::Record(asset, charge, remembered_for, confirms) => {
                let asset = asset_id(*asset);
                let asset = asset.as_ref();
                let confirms = confirms.map(request_id);
                let id = record_id(&id, *remembered_for, confirms.as_ref());
                told(reservation::record(state, ledger, &BOUNDS, asset, charge, &id, now))
            }
            Operation::Reserve(asset, estimate, ttl) => {
                let (asset, ttl) = (asset_id(*asset), *ttl);
                let asset = asset.as_ref();
                told(reservation::reserve(state, ledger, &BOUNDS, asset, estimate, &id, ttl, now))
            }
            Operation::Extend(to) => told(reservation::extend(state, ledger, &id, to, now)),
            Operation::Settle(actual) => told(reservation::settle(state, ledger, &id, actual, now)),
            Operation::Cancel => told(reservation::cancel(state, ledger, &id, now)),
        }
    }

    fn on_no_key(&self) -> String {
        let denied = |asset: Option<&'static str>| {
            told::<Decision>(Ok(Decision::key_unknown(asset_id(asset).as_ref())))
        };
        match &self.operation {
            Operation::CheckOnce(asset, _) | Operation::Reserve(asset, ..) => denied(*asset),
            Operation::Extend(_) => denied(None),
            Operation::Record(..) | Operation::Settle(_) | Operation::Cancel => {
                told::<()>(Err(ReservationError::KeyUnknown))
            }
        }
    }

    fn request_id(&self) -> RequestId {
        request_id(self.id)
    }
}

fn request_id(id: &str) -> RequestId {
    id.parse().expect("a short id")
}

fn record_id<'a>(
    id: &'a RequestId,
    remembered_for: Duration,
    confirms: Option<&'a RequestId>,
) -> RecordId<'a> {
    RecordId { confirms, ..RecordId::new(id, remembered_for) }
}

/// What is remembered at an instant, in words: of reservations all but their windows, which no answer tells.
pub(crate) fn remembered(ledger: &Ledger, now: Timestamp) -> Vec<String> {
    let reservations = ledger.reservations().filter(|(_, until, _)| *until > now);
    let reservations = reservations.map(|(id, until, reservation)| {
        let parts = (reservation.asset(), reservation.reserved(), reservation.estimate());
        format!("{id:?} until {until}: {parts:?}, {:?}", Reservation::end(reservation))
    });
    let checks = ledger.checks().filter(|(_, until)| *until > now);
    let checks = checks.map(|(id, until)| format!("check {id:?} until {until}"));
    let records = ledger.records().filter(|(_, until)| *until > now);
    let records = records.map(|(id, until)| format!("record {id:?} until {until}"));
    reservations.chain(checks).chain(records).collect()
}

/// Gives up what has passed, which a store may do at any time. What becomes of it when a clock steps back is not specified,
/// so that it must be gone before.
pub(crate) fn give_up(server: &mut redis::Connection, prefix: &str, key: &KeyId, now: Timestamp) {
    let name = |kind: char| format!("{prefix}:{kind}:{{{key}}}");
    let passed: Vec<String> =
        server.zrangebyscore(name('e'), "-inf", now.unix_ms()).expect("ZRANGEBYSCORE");
    for id in passed {
        let _: () = server.hdel(name('r'), &id).expect("HDEL");
        let _: () = server.zrem(name('e'), &id).expect("ZREM");
    }
    for ids in [name('c'), name('p')] {
        let _: () = server.zrembyscore(ids, "-inf", now.unix_ms()).expect("ZREMRANGEBYSCORE");
    }
}

/// Half of them are alike, so that a known id is often repeated with the same figures.
fn estimate(random: &mut Random) -> Charge {
    if random.percent(50) {
        return charge(random);
    }
    let estimate = Charge::request().with_tokens(1, 2).expect("within bounds");
    estimate.with_credits(Credits::from_millionths(1).expect("within bounds"))
}

fn ttl(random: &mut Random) -> Duration {
    let ms = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    match random.below(20) {
        0..=5 => ms(DAY_MS),
        6..=11 => ms(30 * DAY_MS),
        12..=14 => ms(MINUTE_MS),
        15..=16 => Duration::from_millis(random.between(1, 1_000)),
        17 => Duration::ZERO,
        18 => Duration::MAX,
        _ => Duration::from_millis(extreme(random)),
    }
}

fn totals(random: &mut Random) -> Totals {
    let mut total = || match random.below(40) {
        0..=9 => None,
        10..=30 => Some(random.below(5)),
        31..=37 => Some(random.between(5, 40)),
        _ => Some(extreme(random)),
    };
    let (input, output, credits) = (total(), total(), total());
    let mut totals = Totals::unchanged();
    if let Some(input) = input {
        totals = totals.with_input_tokens(input).expect("within bounds");
    }
    if let Some(output) = output {
        totals = totals.with_output_tokens(output).expect("within bounds");
    }
    match credits {
        Some(credits) => {
            totals.with_credits(Credits::from_millionths(credits.min(MAX_COUNT)).expect("bounded"))
        }
        None => totals,
    }
}

/// An answer, or an error with all that is below it.
fn told<T: std::fmt::Debug>(answer: Result<T, ReservationError>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => {
            let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| {
                error.source()
            });
            causes.map(|cause| format!("{}: ", cause as &dyn Display)).collect()
        }
    }
}

fn asset_id(asset: Option<&str>) -> Option<AssetId> {
    asset.map(|asset| asset.parse().expect("a short id"))
}

/// Few, so that histories come to the end of them.
pub(crate) const BOUNDS: LedgerBounds = LedgerBounds { most: 4, dedupe: Duration::from_secs(120) };
const IDS: [&str; 6] = ["r1", "r1", "r1", "r2", "r3", "r4 with\nodd \u{e9}"];

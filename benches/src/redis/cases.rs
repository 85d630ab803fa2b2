//! The counted cases: each is a number of decisions of one kind, one after the other.

use std::time::Duration;

use limiter_core::{ManualClock, Timestamp};
use limiter_redis::RedisStore;
use redis::Value;
use tokio::task::JoinSet;

use super::keys::{Keys, asset_id, counts_of};
use super::minute;
use super::plain;
use super::remembered;

/// A kind of decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// No decision at all: `return 1`, with one key and two arguments as long as those of a decision.
    Trivial,
    /// Everything fits: eight rules, a budget and an expiry are checked, and the answer has the rest of each.
    Plain,
    /// As [`Plain`](Self::Plain), with a ninth limit: requests per month.
    Month,
    /// As [`Plain`](Self::Plain), of no asset: four rules and a budget, all in one record.
    Global,
    /// As [`Plain`](Self::Plain), by a client that does not know the limits of the key.
    LimitsMiss,
    /// The requests of the day are used up.
    Denied,
    /// As [`Plain`](Self::Plain), on the clock that [`Rollover`](Self::Rollover) needs.
    PlainManual,
    /// Each decision is a minute after the one before, and so the first in its window. The client sends its clock to
    /// the server, since a benchmark cannot wait a minute for each.
    Rollover,
    /// A key with limits for fifty assets.
    Assets50,
    /// A key with limits for a thousand assets.
    Assets1000,
    /// As [`Plain`](Self::Plain), of a key beneath a group, which has the same rules.
    Levels2,
    /// The same beneath three groups.
    Levels4,
    /// A registered key beneath a group, each with one limit.
    InGroup,
    /// The same of a key that nobody registered.
    Open,
    /// Each call is the first one of its key.
    OpenFirst,
    /// Thirty-two decisions of one key, in one batch.
    HotBatch,
    /// Thirty-two decisions of as many keys, in one batch.
    KeysBatch,
    /// Reservations, none of which is ever settled.
    Reserve,
    /// The same with a parallel limit of all calls.
    ReserveParallel,
    /// The same on a key that has a thousand of them.
    Reserve1000,
    /// Reservations, each of which is settled at once.
    Settle,
    /// The same on a key that has a thousand more.
    Settle1000,
    /// Checks with a request id, each with another one.
    CheckOnce,
    /// The same on a key of which a thousand are remembered.
    CheckOnce1000,
    /// One check, repeated.
    Replay,
}

impl Case {
    /// Every case, in the order of counting.
    pub const ALL: [Self; 25] = [
        Self::Trivial,
        Self::Plain,
        Self::Month,
        Self::Global,
        Self::LimitsMiss,
        Self::Denied,
        Self::PlainManual,
        Self::Rollover,
        Self::Assets50,
        Self::Assets1000,
        Self::Levels2,
        Self::Levels4,
        Self::InGroup,
        Self::Open,
        Self::OpenFirst,
        Self::HotBatch,
        Self::KeysBatch,
        Self::Reserve,
        Self::ReserveParallel,
        Self::Reserve1000,
        Self::Settle,
        Self::Settle1000,
        Self::CheckOnce,
        Self::CheckOnce1000,
        Self::Replay,
    ];

    /// Returns the name of its figure.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trivial => "instructions_trivial",
            Self::Plain => "instructions_plain",
            Self::Month => "instructions_month",
            Self::Global => "instructions_global",
            Self::LimitsMiss => "instructions_limits_miss",
            Self::Denied => "instructions_denied",
            Self::PlainManual => "instructions_plain_manual",
            Self::Rollover => "instructions_rollover_manual",
            Self::Assets50 => "instructions_assets_50",
            Self::Assets1000 => "instructions_assets_1000",
            Self::Levels2 => "instructions_levels_2",
            Self::Levels4 => "instructions_levels_4",
            Self::InGroup => "instructions_in_group",
            Self::Open => "instructions_open",
            Self::OpenFirst => "instructions_open_first",
            Self::HotBatch => "instructions_hot_batch_32",
            Self::KeysBatch => "instructions_batch_32_keys",
            Self::Reserve => "instructions_reserve",
            Self::ReserveParallel => "instructions_reserve_parallel",
            Self::Reserve1000 => "instructions_reserve_1000",
            Self::Settle => "instructions_reserve_and_settle",
            Self::Settle1000 => "instructions_reserve_and_settle_1000",
            Self::CheckOnce => "instructions_check_once",
            Self::CheckOnce1000 => "instructions_check_once_1000",
            Self::Replay => "instructions_replay",
        }
    }

    /// Prepares the server and makes this many decisions. It must run on a runtime of one thread.
    ///
    /// # Panics
    /// If a decision is not of this kind.
    pub async fn run(self, url: &str, decisions: usize) {
        minute::with_at_least(LONGEST).await;
        match self {
            Self::Trivial => trivial(url, decisions).await,
            Self::Plain => plain_decisions(&Keys::connect(url).await, 1, decisions).await,
            Self::Month => month_decisions(&Keys::connect(url).await, decisions).await,
            Self::Global => global_decisions(&Keys::connect(url).await, decisions).await,
            Self::LimitsMiss => limits_miss(url, decisions).await,
            Self::Denied => denied(url, decisions).await,
            Self::PlainManual => {
                let builder = RedisStore::builder(url).clock(ManualClock::at(START));
                plain_decisions(&Keys::connect_with(builder).await, 1, decisions).await;
            }
            Self::Rollover => rollover(url, decisions).await,
            Self::Assets50 => plain_decisions(&Keys::connect(url).await, 50, decisions).await,
            Self::Assets1000 => plain_decisions(&Keys::connect(url).await, 1_000, decisions).await,
            Self::Levels2 => of_levels(url, 2, decisions).await,
            Self::Levels4 => of_levels(url, 4, decisions).await,
            Self::InGroup => in_group(url, "registered", 1, decisions).await,
            Self::Open => in_group(url, "open", 1, decisions).await,
            Self::OpenFirst => in_group(url, "open", usize::MAX, decisions).await,
            Self::HotBatch => batches(url, 1, decisions).await,
            Self::KeysBatch => batches(url, BATCH, decisions).await,
            Self::Reserve => remembered::reservations(url, 0, None, decisions).await,
            Self::ReserveParallel => {
                remembered::reservations(url, 0, Some(NEVER_FULL), decisions).await;
            }
            Self::Reserve1000 => remembered::reservations(url, MANY, None, decisions).await,
            Self::Settle => remembered::settlements(url, 0, decisions).await,
            Self::Settle1000 => remembered::settlements(url, MANY, decisions).await,
            Self::CheckOnce => remembered::checks(url, 0, decisions).await,
            Self::CheckOnce1000 => remembered::checks(url, MANY, decisions).await,
            Self::Replay => remembered::replays(url, decisions).await,
        }
    }
}

async fn trivial(url: &str, calls: usize) {
    let mut connection = plain::connect(url).await;
    let script = redis::Script::new("return 1");
    let loaded: String = script.prepare_invoke().load_async(&mut connection).await.expect("loads");
    let mut call = redis::cmd("EVALSHA");
    call.arg(loaded).arg(1).arg(counts_of(0));
    call.arg(format!("a{}", asset_id(0))).arg([0_u8; CALL_BYTES].as_slice());
    for _ in 0..calls {
        let answer: Value = call.query_async(&mut connection).await.expect("the script runs");
        assert_eq!(answer, Value::Int(1));
    }
}

/// Calls the last of the assets: a server that searches through all of them finds it last.
async fn plain_decisions(keys: &Keys, assets: usize, decisions: usize) {
    keys.create(0, assets).await;
    for _ in 0..=decisions {
        keys.allow(0, assets - 1).await;
    }
}

async fn month_decisions(keys: &Keys, decisions: usize) {
    keys.create_with_month(0).await;
    for _ in 0..=decisions {
        keys.allow(0, 0).await;
    }
}

async fn of_levels(url: &str, levels: usize, decisions: usize) {
    let keys = Keys::connect(url).await;
    let key = keys.create_beneath(levels - 1).await;
    for _ in 0..=decisions {
        let decision = keys.decide_at(&key).await;
        assert!(decision.is_allowed(), "{decision:?}");
    }
}

/// Calls this many keys in turns. The first call of all is not counted: it reads the plan.
async fn in_group(url: &str, kind: &str, different: usize, decisions: usize) {
    let keys = Keys::connect(url).await;
    keys.create_open().await;
    for call in 0..=decisions {
        let key = format!("ip/{kind}-{}", call % different).parse().expect("an id");
        let decision = keys.decide_request(&key).await;
        assert!(decision.is_allowed(), "{decision:?}");
    }
}

async fn global_decisions(keys: &Keys, decisions: usize) {
    keys.create(0, 1).await;
    for _ in 0..=decisions {
        let decision = keys.decide_global(0).await;
        assert!(decision.is_allowed(), "{decision:?}");
    }
}

/// Calls two keys in turns, of which the client can remember one.
async fn limits_miss(url: &str, decisions: usize) {
    let keys = Keys::connect_with(RedisStore::builder(url).max_remembered_limits(1)).await;
    for key in [0, 1] {
        keys.create(key, 1).await;
    }
    for decision in 0..decisions {
        keys.allow(decision % 2, 0).await;
    }
}

async fn denied(url: &str, decisions: usize) {
    let keys = Keys::connect(url).await;
    keys.create_exhausted(0).await;
    keys.allow(0, 0).await;
    for _ in 0..decisions {
        let decision = keys.decide(0, 0).await;
        assert!(!decision.is_allowed(), "{decision:?}");
    }
}

async fn rollover(url: &str, decisions: usize) {
    let clock = ManualClock::at(START);
    let keys = Keys::connect_with(RedisStore::builder(url).clock(clock.clone())).await;
    keys.create(0, 1).await;
    keys.allow(0, 0).await;
    for _ in 0..decisions {
        clock.advance(Duration::from_secs(60));
        keys.allow(0, 0).await;
    }
}

/// Decides in batches. Each key has been called before, so that its limits are known. Tasks that start together join
/// one batch: on one thread it is sent after each of them has had its turn.
async fn batches(url: &str, different_keys: usize, decisions: usize) {
    let keys = Keys::connect(url).await;
    for key in 0..different_keys {
        keys.create(key, 1).await;
        keys.allow(key, 0).await;
    }
    let scripts = plain::scripts_run(url).await;
    for _ in 0..decisions / BATCH {
        let mut batch = JoinSet::new();
        for call in 0..BATCH {
            let keys = keys.clone();
            batch.spawn(async move { keys.allow(call % different_keys, 0).await });
        }
        batch.join_all().await;
    }
    let scripts = plain::scripts_run(url).await - scripts;
    assert_eq!(scripts, decisions / BATCH, "each batch is one script");
}

/// Most cases take less, also under callgrind, so that a window ends only in the cases that need it.
const LONGEST: Duration = Duration::from_secs(20);

/// As many as a busy key may have of each.
const MANY: usize = 1_000;

/// A parallel limit that no case reaches.
const NEVER_FULL: u64 = 1 << 40;

/// The default bound of a batch of the store.
const BATCH: usize = 32;

/// The mode, the stamp and one call.
const CALL_BYTES: usize = 37;

/// In the year 2026, at the beginning of a day.
const START: Timestamp = Timestamp::from_unix_ms(1_767_225_600_000);

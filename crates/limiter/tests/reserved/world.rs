//! A key with limits, on a clock that stands, and streams for it.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use limiter::memory::MemoryStore;
use limiter::stream::StreamMeter;
use limiter::{
    AccessKey, Charge, Credits, KeyConfig, KeyId, Limiter, Limits, ManualClock, NewKey, Price,
    Reservation, Timestamp, Totals,
};

use super::faulty_store::{Faults, FaultyStore};
use crate::{today, total_tokens, used};

/// Half a minute past noon, so that a minute ends soon and the day does not.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_ms(1_760_011_230_000);
pub(crate) const A_MINUTE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) limiter: Limiter,
    pub(crate) store: FaultyStore,
    /// The store inside the one that the tests observe.
    pub(crate) memory: MemoryStore,
    pub(crate) clock: ManualClock,
    pub(crate) admin: KeyId,
    pub(crate) key: KeyId,
    pub(crate) access_key: AccessKey,
}

impl World {
    pub(crate) async fn new(config: KeyConfig) -> Self {
        let clock = ManualClock::at(NOW);
        let memory = MemoryStore::builder().clock(clock.clone()).build();
        let store = Faults::new(memory.clone());
        let limiter = Limiter::from(store.clone());
        let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
        let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
        let created = limiter.keys_as(&admin).create(NewKey::member(config)).await.unwrap();
        let (key, access_key) = (created.record.id, created.access_key.unwrap());
        Self { limiter, store, memory, clock, admin, key, access_key }
    }

    /// Creates a key with this many tokens a minute.
    pub(crate) async fn with_tokens_per_minute(tokens: u64) -> Self {
        let limits = Limits::builder().tokens_per_minute(tokens).build().unwrap();
        Self::new(KeyConfig::named("ci").unwrap().with_global(limits)).await
    }

    /// Creates a key with this many credits.
    pub(crate) async fn with_budget(budget: &str) -> Self {
        let limits = Limits::builder().tokens_per_day(1_000_000).build().unwrap();
        let config = KeyConfig::named("ci").unwrap().with_global(limits);
        Self::new(config.with_budget(credits(budget))).await
    }

    /// Reserves a call with these numbers of tokens for its prompt and for its answer.
    pub(crate) async fn reserve(&self, input: u64, output: u64) -> Reservation {
        self.reserve_charge(&charge(input, output)).await
    }

    pub(crate) async fn reserve_charge(&self, estimate: &Charge) -> Reservation {
        let reserved = self.limiter.reserve(&self.key, None, estimate).await.unwrap();
        reserved.allowed().expect("it fits")
    }

    pub(crate) async fn minute_tokens(&self) -> u64 {
        let usage = self.limiter.usage(&self.key).await.unwrap().unwrap();
        used(&usage, "global/minute/tokens")
    }

    pub(crate) async fn day_tokens(&self) -> u64 {
        let usage = self.limiter.usage(&self.key).await.unwrap().unwrap();
        total_tokens(&today(&usage))
    }

    pub(crate) async fn requests(&self) -> u64 {
        let usage = self.limiter.usage(&self.key).await.unwrap().unwrap();
        today(&usage).requests()
    }

    pub(crate) async fn spent(&self) -> Credits {
        self.limiter.usage(&self.key).await.unwrap().unwrap().credits.spent
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.clock.set(self.clock.now().after(time));
    }

    /// Lets tasks on this thread's runtime run until this many settlements have been made.
    pub(crate) async fn settlements(&self, count: u64) {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
            if self.store.calls("settle") == count {
                return;
            }
        }
        panic!("{} settlements, not {count}", self.store.calls("settle"));
    }
}

/// Chunks whose value is their number of tokens.
pub(crate) type Chunks = BoxStream<'static, Result<u64, Infallible>>;
pub(crate) type Metered = StreamMeter<Chunks, u64, fn(&u64) -> u64>;

pub(crate) fn chunks(tokens: impl IntoIterator<Item = u64>) -> Chunks {
    stream::iter(tokens.into_iter().collect::<Vec<_>>()).map(Ok).boxed()
}

/// Returns the tokens of a chunk of [`chunks`].
pub(crate) fn says(chunk: &u64) -> u64 {
    *chunk
}

/// Meters a stream of such chunks.
pub(crate) fn metered(tokens: impl IntoIterator<Item = u64>, call: Reservation) -> Metered {
    StreamMeter::stream(chunks(tokens), call, says)
}

pub(crate) fn charge(input: u64, output: u64) -> Charge {
    Charge::request().with_tokens(input, output).unwrap()
}

pub(crate) fn totals(input: u64, output: u64) -> Totals {
    Totals::unchanged().with_input_tokens(input).unwrap().with_output_tokens(output).unwrap()
}

pub(crate) fn output(tokens: u64) -> Totals {
    Totals::unchanged().with_output_tokens(tokens).unwrap()
}

pub(crate) fn credits(text: &str) -> Credits {
    text.parse().unwrap()
}

/// A credit for each token of the prompt, and two for each of the answer.
pub(crate) fn price() -> Price {
    Price::per_million_tokens(credits("1000000"), credits("2000000"))
}

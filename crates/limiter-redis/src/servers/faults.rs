//! Faults that tests of this crate wish for: a script that does not run, or whose answer gets lost, or that is late.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::Value;
use tokio::time::sleep;

use crate::error::{CommandError, RedisError};
use crate::random::draw;

/// Faults injected by tests at some [`Servers`](super::Servers). Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<Wishes>>);

#[derive(Debug, Default)]
struct Wishes {
    once: VecDeque<(&'static str, Fault)>,
    storm: Option<Storm>,
    slow: Option<(&'static str, Duration)>,
}

/// A fault of one run of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not run, and the caller gets an error that says so.
    NotRun,
    /// It runs, and its answer is lost.
    AnswerLost,
    /// It does not run, and the caller gets no answer.
    NeverArrived,
}

/// Faults at random, of any kind and in any script.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storm {
    /// How many of a thousand runs have a fault.
    pub(crate) faults: u64,
    /// How many of a thousand runs are late.
    pub(crate) delays: u64,
    /// How late at most.
    pub(crate) longest_delay: Duration,
}

impl Faults {
    /// The next run of the script of this name has this fault.
    pub(crate) fn once(&self, script: &'static str, fault: Fault) {
        self.0.lock().once.push_back((script, fault));
    }

    /// Whether all wishes for one run have come true.
    pub(crate) fn have_happened(&self) -> bool {
        self.0.lock().once.is_empty()
    }

    /// From now on, runs of this script are late by this long.
    pub(crate) fn slow(&self, script: &'static str, by: Duration) {
        self.0.lock().slow = Some((script, by));
    }

    /// From now on, until there is another storm or none.
    pub(crate) fn storm(&self, storm: Option<Storm>) {
        self.0.lock().storm = storm;
    }

    /// One run of a script, as the tests wish it.
    pub(super) async fn around(
        &self,
        script: &str,
        run: impl Future<Output = Result<Value, CommandError>>,
    ) -> Result<Value, CommandError> {
        let (fault, delay) = self.drawn(script);
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        match fault {
            None => run.await,
            Some(Fault::NotRun) => Err(CommandError::NotRun(lost())),
            Some(Fault::AnswerLost) => {
                run.await?;
                Err(CommandError::Unknown(lost()))
            }
            Some(Fault::NeverArrived) => Err(CommandError::Unknown(lost())),
        }
    }

    fn drawn(&self, script: &str) -> (Option<Fault>, Option<Duration>) {
        let mut wishes = self.0.lock();
        if let Some(place) = wishes.once.iter().position(|(name, _)| *name == script) {
            return (wishes.once.remove(place).map(|(_, fault)| fault), None);
        }
        let slow = wishes.slow.filter(|(name, _)| *name == script).map(|(_, by)| by);
        let Some(storm) = wishes.storm else { return (None, slow) };
        let fault = (chance(1_000) < storm.faults).then(|| ALL[chance(ALL.len() as u64) as usize]);
        let delay = (chance(1_000) < storm.delays)
            .then(|| Duration::from_millis(chance(storm.longest_delay.as_millis() as u64)));
        (fault, delay)
    }
}

/// A random number below this one.
pub(crate) fn chance(below: u64) -> u64 {
    draw() % below
}

fn lost() -> RedisError {
    RedisError::lost("of the tests", std::io::Error::other("a test wished for it"))
}

/// All kinds.
pub(crate) const ALL: [Fault; 3] = [Fault::NotRun, Fault::AnswerLost, Fault::NeverArrived];

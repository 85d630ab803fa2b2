//! The scripts on the slots of keys: `read`, `take` and `apply`, each for the clock and the kind of server of a store.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};

use limiter_core::{ManualClock, Timestamp};
use parking_lot::RwLock;

use crate::script::Script;
use crate::shape::Shape;

/// The scripts of one store: those of its clock, for its servers.
#[derive(Clone, Debug)]
pub(crate) struct Scripts {
    pub(crate) read: Script,
    pub(crate) apply: Script,
    /// `apply` for what only frees memory: it runs when memory has run out, too.
    pub(crate) free: Script,
    kind: Kind,
    clock: Option<ManualClock>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    manual: bool,
    shebang: bool,
}

impl Scripts {
    /// With the server's clock, or with a manual one, whose scripts are others. With `shebang`, which Redis
    /// knows since 7.0, a script is refused by a replica, and when memory has run out, also where it would only
    /// have read.
    pub(crate) fn new(clock: Option<ManualClock>, shebang: bool) -> Self {
        // Put together once in a process: their digests take longer than to connect.
        static MADE: [OnceLock<Scripts>; 4] = [const { OnceLock::new() }; 4];
        let kind = Kind { manual: clock.is_some(), shebang };
        let made = &MADE[usize::from(kind.manual) * 2 + usize::from(shebang)];
        Self { clock, ..made.get_or_init(|| Self::make(kind)).clone() }
    }

    fn make(kind: Kind) -> Self {
        Self {
            read: kind.script("read", " flags=allow-oom", include_str!("lua/read.lua")),
            apply: kind.script("apply", "", APPLY),
            free: kind.script("free", " flags=allow-oom", APPLY),
            kind,
            clock: None,
        }
    }

    /// The script that takes from records of this shape; `None` once there are too many of them.
    pub(crate) fn take(&self, shape: &Shape) -> Option<Arc<Script>> {
        type Made = HashMap<(Kind, Shape), Arc<Script>>;
        static MADE: LazyLock<RwLock<Made>> = LazyLock::new(RwLock::default);
        let key = (self.kind, shape.clone());
        if let Some(script) = MADE.read().get(&key) {
            return Some(Arc::clone(script));
        }
        let mut made = MADE.write();
        if made.len() >= MOST_SHAPES && !made.contains_key(&key) {
            return None;
        }
        let script = || Arc::new(self.of_shape(shape));
        Some(Arc::clone(made.entry(key).or_insert_with(script)))
    }

    pub(crate) fn of_shape(&self, shape: &Shape) -> Script {
        self.kind.script("take", "", &shape.script())
    }

    /// The arguments of a call, completed with the time by a manual clock.
    pub(crate) fn timed(&self, mut arguments: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        if let Some(clock) = &self.clock {
            arguments.extend(time_of(clock.now()));
        }
        arguments
    }

    /// The time by the manual clock, if there is one.
    pub(crate) fn manual_now(&self) -> Option<Timestamp> {
        self.clock.as_ref().map(ManualClock::now)
    }
}

/// An instant in the form of TIME.
pub(crate) fn time_of(now: Timestamp) -> [Vec<u8>; 2] {
    let unix_ms = now.unix_ms();
    let micros = unix_ms.rem_euclid(1_000) * 1_000;
    [unix_ms.div_euclid(1_000), micros].map(|number| number.to_string().into_bytes())
}

impl Kind {
    fn script(self, name: &'static str, flags: &str, text: &str) -> Script {
        let shebang = if self.shebang { format!("#!lua{flags}\n") } else { String::new() };
        let time = if self.manual { CLOCK_MANUAL } else { CLOCK_SERVER };
        let text = text.replace("--ledger\n", LEDGER);
        Script::new(name, format!("{shebang}{time}{text}"))
    }
}

const CLOCK_SERVER: &str = include_str!("lua/clock_server.lua");
const CLOCK_MANUAL: &str = include_str!("lua/clock_manual.lua");
const APPLY: &str = include_str!("lua/apply.lua");
const LEDGER: &str = include_str!("lua/ledger.lua");
/// Each takes memory of every server, for good. Calls of further shapes use `apply`, which takes any.
const MOST_SHAPES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_has_its_clock_and_its_ledger() {
        for clock in [None, Some(ManualClock::at(Timestamp::from_unix_ms(0)))] {
            let time = if clock.is_some() { CLOCK_MANUAL } else { CLOCK_SERVER };
            let scripts = Scripts::new(clock, true);
            for script in [&scripts.apply, &scripts.free] {
                let text = &script.text;
                assert!(text.starts_with("#!lua") && text.contains(time) && text.contains(LEDGER));
            }
        }
    }
}

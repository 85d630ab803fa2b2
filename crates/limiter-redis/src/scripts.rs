//! The scripts on the slots of keys, put together from the files in `lua/`.

use std::sync::OnceLock;

use limiter_core::ManualClock;

use crate::script::{Call, Script};

/// The scripts of one store: those of its clock, for its servers.
#[derive(Clone, Debug)]
pub(crate) struct Scripts {
    pub(crate) decide: Script,
    pub(crate) peek: Script,
    pub(crate) inspect: Script,
    pub(crate) create: Script,
    pub(crate) configure: Script,
    pub(crate) remove: Script,
    pub(crate) check_once: Script,
    pub(crate) record: Script,
    pub(crate) reserve: Script,
    pub(crate) extend: Script,
    pub(crate) settle: Script,
    pub(crate) ledger: Script,
    clock: Option<ManualClock>,
}

impl Scripts {
    /// With the server's clock, or with a manual one, whose scripts are others. With `shebang`, which Redis
    /// knows since 7.0, a script is refused by a replica, and when memory has run out, also where it would only
    /// have read.
    pub(crate) fn new(clock: Option<ManualClock>, shebang: bool) -> Self {
        // Put together once in a process: their digests take longer than to connect.
        static MADE: [OnceLock<Scripts>; 4] = [const { OnceLock::new() }; 4];
        let manual = clock.is_some();
        let made = &MADE[usize::from(manual) * 2 + usize::from(shebang)];
        Self { clock, ..made.get_or_init(|| Self::make(manual, shebang)).clone() }
    }

    fn make(manual: bool, shebang: bool) -> Self {
        let time = if manual { CLOCK_MANUAL } else { CLOCK_SERVER };
        let text = |flags: &str, file: &str| {
            let shebang = if shebang { format!("#!lua{flags}\n") } else { String::new() };
            let text = format!("{shebang}{time}{}", put_together(file));
            // Windows by one clock and the life of a Redis key by another would not fit together.
            text.replace("--expire\n", if manual { "" } else { EXPIRE })
        };
        let script = |name, file: &str| Script::new(name, text("", file));
        // What frees memory or only reads is wanted most when memory has run out.
        let frugal = |name, file: &str| Script::new(name, text(" flags=allow-oom", file));
        let remembering = |name, file: &str| script(name, &format!("{REMEMBERED}{file}"));
        Self {
            decide: script("decide", DECIDE),
            peek: frugal("peek", include_str!("lua/peek.lua")),
            inspect: frugal("inspect", include_str!("lua/inspect.lua")),
            create: script("create", include_str!("lua/create.lua")),
            configure: script("configure", include_str!("lua/configure.lua")),
            remove: frugal("remove", include_str!("lua/remove.lua")),
            check_once: remembering("check_once", include_str!("lua/check_once.lua")),
            record: remembering("record", include_str!("lua/record.lua")),
            reserve: remembering("reserve", include_str!("lua/reserve.lua")),
            extend: remembering("extend", include_str!("lua/extend.lua")),
            settle: remembering("settle", include_str!("lua/settle.lua")),
            ledger: frugal("ledger", include_str!("lua/ledger.lua")),
            clock: None,
        }
    }

    /// The arguments of a call, completed with the time if it is ours to tell.
    pub(crate) fn timed(&self, mut arguments: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        if let Some(clock) = &self.clock {
            let unix_ms = clock.now().unix_ms();
            let micros = unix_ms.rem_euclid(1_000) * 1_000;
            arguments.push(unix_ms.div_euclid(1_000).to_string().into_bytes());
            arguments.push(micros.to_string().into_bytes());
        }
        arguments
    }

    /// A call of one of these scripts.
    pub(crate) const fn call<'a>(
        script: &'a Script,
        keys: &'a [Vec<u8>],
        arguments: &'a [Vec<u8>],
    ) -> Call<'a> {
        Call { script, keys, arguments }
    }
}

/// The text of a script with all files that it includes: what two scripts do alike is written once, and what a call
/// needs rarely is made where it is needed, since making a function costs a server as much as thirty comparisons.
fn put_together(file: &str) -> String {
    let mut text = String::new();
    append(&mut text, file);
    text
}

fn append(text: &mut String, file: &str) {
    for line in file.split_inclusive('\n') {
        let named = line.strip_prefix("--include ").and_then(|name| name.strip_suffix(".lua\n"));
        match PARTS.iter().find(|(name, _)| Some(*name) == named) {
            Some((_, part)) => append(text, part),
            None => text.push_str(line),
        }
    }
}

const CLOCK_SERVER: &str = include_str!("lua/clock_server.lua");
const CLOCK_MANUAL: &str = include_str!("lua/clock_manual.lua");
const DECIDE: &str = include_str!("lua/decide.lua");
const REMEMBERED: &str = include_str!("lua/remembered.lua");
const EXPIRE: &str = include_str!("lua/expire.lua");
const PARTS: [(&str, &str); 12] = [
    ("decide", DECIDE),
    ("consider", include_str!("lua/consider.lua")),
    ("met", include_str!("lua/met.lua")),
    ("stage", include_str!("lua/stage.lua")),
    ("changed", include_str!("lua/changed.lua")),
    ("keep", include_str!("lua/keep.lua")),
    ("told", include_str!("lua/told.lua")),
    ("crossed", include_str!("lua/crossed.lua")),
    ("once", include_str!("lua/once.lua")),
    ("known", include_str!("lua/known.lua")),
    ("reservation", include_str!("lua/reservation.lua")),
    ("full", include_str!("lua/full.lua")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_put_in_where_it_is_named() {
        for clock in [None, Some(ManualClock::at(limiter_core::Timestamp::from_unix_ms(0)))] {
            let expires = clock.is_none();
            let scripts = Scripts::new(clock, true);
            for script in [
                &scripts.decide,
                &scripts.configure,
                &scripts.check_once,
                &scripts.record,
                &scripts.reserve,
                &scripts.extend,
                &scripts.settle,
            ] {
                let left = script.text.lines().find(|line| line.starts_with("--include"));
                assert_eq!((left, script.text.starts_with("#!lua\n")), (None, true), "{script:?}");
            }
            assert_eq!(scripts.reserve.text.contains("PEXPIRE"), expires);
        }
    }
}

//! The scripts on the slots of keys, put together from the files in `lua/`.

use limiter_core::ManualClock;

use crate::script::{Call, Script};

/// The scripts of one store: those of its clock, for its servers.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) decide: Script,
    pub(crate) peek: Script,
    pub(crate) inspect: Script,
    pub(crate) create: Script,
    pub(crate) configure: Script,
    pub(crate) remove: Script,
    clock: Option<ManualClock>,
}

impl Scripts {
    /// With the server's clock, or with a manual one, whose scripts are others. With `shebang`, which Redis
    /// knows since 7.0, a script is refused by a replica, and when memory has run out, also where it would only
    /// have read.
    pub(crate) fn new(clock: Option<ManualClock>, shebang: bool) -> Self {
        let time = if clock.is_some() { CLOCK_MANUAL } else { CLOCK_SERVER };
        let script = |name, parts: &[&str]| {
            let shebang = if shebang { "#!lua\n" } else { "" };
            Script::new(name, format!("{shebang}{time}{}", parts.concat()))
        };
        // What frees memory or only reads is wanted most when memory has run out.
        let frugal = |name, text: &str| {
            let shebang = if shebang { "#!lua flags=allow-oom\n" } else { "" };
            Script::new(name, format!("{shebang}{time}{text}"))
        };
        Self {
            decide: script("decide", &[&decide()]),
            peek: frugal("peek", include_str!("lua/peek.lua")),
            inspect: frugal("inspect", include_str!("lua/inspect.lua")),
            create: script("create", &[include_str!("lua/create.lua")]),
            configure: script("configure", &[STAGE, include_str!("lua/configure.lua")]),
            remove: frugal("remove", include_str!("lua/remove.lua")),
            clock,
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

/// Three files as one Lua function; see `decide.lua`.
fn decide() -> String {
    DECIDE.replace("--include consider.lua\n", CONSIDER).replace("--include stage.lua\n", STAGE)
}

const CLOCK_SERVER: &str = include_str!("lua/clock_server.lua");
const CLOCK_MANUAL: &str = include_str!("lua/clock_manual.lua");
const DECIDE: &str = include_str!("lua/decide.lua");
const STAGE: &str = include_str!("lua/stage.lua");
const CONSIDER: &str = include_str!("lua/consider.lua");

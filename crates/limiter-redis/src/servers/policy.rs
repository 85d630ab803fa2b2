//! The settings that every connection keeps to, checked once.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Settings;
use crate::error::RedisError;
use crate::script::Script;

/// The settings that apply to every connection.
#[derive(Debug)]
pub(super) struct Policy {
    settings: Settings,
    pub(super) scripts: Vec<String>,
    /// Until a server is seen that does not understand them.
    shebangs: AtomicBool,
}

impl Deref for Policy {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl Policy {
    pub(super) fn new(settings: Settings, scripts: &[&Script]) -> Result<Self, RedisError> {
        for (setting, deadline) in [
            ("connect_deadline", settings.connect_deadline),
            ("command_deadline", settings.command_deadline),
        ] {
            if deadline.is_zero() || deadline > MAX_DEADLINE {
                let reason = format!(
                    "it is {deadline:?}, but must be above zero and at most {MAX_DEADLINE:?}"
                );
                return Err(RedisError::setting(setting, reason));
            }
        }
        if !(1..=MAX_POOL_SIZE).contains(&settings.pool_size) {
            let reason = format!("it is {}, but must be 1 to {MAX_POOL_SIZE}", settings.pool_size);
            return Err(RedisError::setting("pool_size", reason));
        }
        let scripts = scripts.iter().map(|script| script.text.clone()).collect();
        Ok(Self { settings, scripts, shebangs: AtomicBool::new(true) })
    }

    pub(super) fn too_late(&self) -> RedisError {
        RedisError::Deadline { after: self.command_deadline }
    }

    pub(super) fn saw_no_shebangs(&self) {
        self.shebangs.store(false, Ordering::Relaxed);
    }

    /// False once a server was seen that does not understand them.
    pub(super) fn shebangs(&self) -> bool {
        self.shebangs.load(Ordering::Relaxed)
    }
}

/// No caller waits longer, and sums of deadlines stay far within the range of a clock.
const MAX_DEADLINE: Duration = Duration::from_secs(600);

/// A pool takes memory for all its connections at once, and a server has 10,000 for all its clients by default.
const MAX_POOL_SIZE: usize = 1024;

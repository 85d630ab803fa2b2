//! What the proxy is to do, and what it has counted.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use super::connection::Connection;

/// The one thing that the threads of a proxy share. All changes are made under its lock, one at a time, so of two
/// requests that arrive together only one is the next.
#[derive(Default)]
pub(super) struct Shared {
    plan: Mutex<Plan>,
    changed: Condvar,
    open: Mutex<Vec<Weak<Connection>>>,
}

#[derive(Default)]
pub(super) struct Plan {
    /// How many replies pass before one is lost.
    pub(super) lose_reply_after: Option<u64>,
    /// How many requests pass before one is cut off.
    pub(super) cut_request_after: Option<u64>,
    pub(super) holding: bool,
    pub(super) over: bool,
    /// Empty: all but what clients say of themselves.
    only: HashSet<String>,

    pub(super) connections: u64,
    pub(super) bytes_to_server: u64,
    pub(super) bytes_to_clients: u64,
    pub(super) requests: u64,
    pub(super) executed: u64,
    pub(super) replies_lost: u64,
    pub(super) requests_cut: u64,
}

/// What becomes of a request or a reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    Passes,
    IsLost,
}

impl Shared {
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Plan) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&Plan) -> T) -> T {
        look(&self.lock())
    }

    /// Waits while replies are held.
    pub(super) fn wait_for_release(&self) {
        let held = |plan: &mut Plan| plan.holding && !plan.over;
        drop(self.changed.wait_while(self.lock(), held).unwrap_or_else(PoisonError::into_inner));
    }

    /// Remembers a connection, to be closed with the proxy.
    pub(super) fn remember(&self, connection: &Arc<Connection>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| connection.strong_count() > 0);
        open.push(Arc::downgrade(connection));
    }

    /// Closes all connections that are open.
    pub(super) fn close_connections(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in open.iter().filter_map(Weak::upgrade) {
            connection.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    pub(super) fn forward(&mut self) {
        (self.lose_reply_after, self.cut_request_after, self.holding) = (None, None, false);
    }

    pub(super) fn count_only(&mut self, commands: HashSet<String>) {
        self.only = commands;
    }

    /// Whether requests of the command, in capitals, are counted.
    pub(super) fn counts(&self, command: &str) -> bool {
        if self.only.is_empty() {
            !INTRODUCTIONS.contains(&command)
        } else {
            self.only.contains(command)
        }
    }

    pub(super) fn request(&mut self, bytes: usize, counted: bool) -> Fate {
        if counted && falls_due(&mut self.cut_request_after) {
            self.requests_cut += 1;
            return Fate::IsLost;
        }
        self.requests += u64::from(counted);
        self.bytes_to_server += count(bytes);
        Fate::Passes
    }

    pub(super) fn reply(&mut self, counted: bool) -> Fate {
        self.executed += u64::from(counted);
        if counted && falls_due(&mut self.lose_reply_after) {
            self.replies_lost += 1;
            return Fate::IsLost;
        }
        Fate::Passes
    }

    pub(super) fn passed_to_client(&mut self, bytes: usize) {
        self.bytes_to_clients += count(bytes);
    }
}

/// Counts down; what falls due does so once.
fn falls_due(after: &mut Option<u64>) -> bool {
    match after {
        Some(0) => after.take().is_some(),
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

fn count(bytes: usize) -> u64 {
    bytes.try_into().expect("a usize has at most 64 bits")
}

/// What client libraries send of themselves when they connect.
const INTRODUCTIONS: [&str; 5] = ["AUTH", "CLIENT", "HELLO", "READONLY", "SELECT"];

//! Faults between a client and a server.

mod connection;
mod frame;

use std::collections::HashMap;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::until;

/// A proxy on a free port of 127.0.0.1 in front of one server. It forwards everything, unless a test asks for a fault.
///
/// It knows where requests and replies of the Redis protocol end, so it can lose exactly one reply, after the server
/// has executed the request. It counts requests of a client's user and their replies: those by which client libraries
/// introduce themselves (`HELLO`, `AUTH`, `CLIENT`, `SELECT`, `READONLY`) are forwarded and not counted.
///
/// It expects one reply to each request: it is not for subscriptions, `MONITOR` or `CLIENT REPLY`.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy to a server, such as `127.0.0.1:6379`. The server need not be there yet.
    pub fn to(server: &str) -> Self {
        let server = server.parse().expect("an address and a port");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let shared = Arc::<Shared>::default();
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let clients = listener.incoming().take_while(|_| !shared.look(|state| state.over));
                for client in clients.flatten() {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || connection::serve(client, server, &shared));
                }
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// `redis://127.0.0.1:12345`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Forgets the faults that have been asked for, and lets go of the replies that are held.
    pub fn forward(&self) {
        self.shared.change(|state| {
            (state.lose_reply_after, state.cut_request_after, state.holding) = (None, None, false);
        });
    }

    /// Counts only requests of these commands, and harms only them: `count_only(&["EVALSHA", "EVAL"])`.
    pub fn count_only(&self, commands: &[&str]) {
        let commands = commands.iter().map(|command| command.to_ascii_uppercase()).collect();
        self.shared.change(|state| state.only = commands);
    }

    /// Forwards the next request, waits for the server's reply, drops it, and closes the connection to the client.
    pub fn lose_next_reply(&self) {
        self.lose_reply_after(0);
    }

    /// Forwards this many replies, and loses the next as [`lose_next_reply`](Self::lose_next_reply) does.
    pub fn lose_reply_after(&self, replies: u64) {
        self.shared.change(|state| state.lose_reply_after = Some(replies));
    }

    /// Closes the connection instead of forwarding the next request: the server never sees it.
    pub fn cut_before_request(&self) {
        self.shared.change(|state| state.cut_request_after = Some(0));
    }

    /// Keeps replies back from now on. The server executes; the client gets no answer.
    pub fn hold_replies(&self) {
        self.shared.change(|state| state.holding = true);
    }

    /// Lets go of the replies that are held, in their order.
    pub fn release(&self) {
        self.shared.change(|state| state.holding = false);
    }

    /// Closes all connections, and accepts new ones.
    pub fn close_connections(&self) {
        self.shared.look(|state| {
            for client in state.open.values() {
                let _ = client.shutdown(Shutdown::Both);
            }
        });
    }

    /// The number of counted requests that went to the server.
    pub fn requests(&self) -> u64 {
        self.shared.look(|state| state.requests)
    }

    /// The number of counted requests that the server has executed: their replies came, even if they were lost then.
    pub fn executed(&self) -> u64 {
        self.shared.look(|state| state.executed)
    }

    /// The number of replies lost on purpose.
    pub fn replies_lost(&self) -> u64 {
        self.shared.look(|state| state.replies_lost)
    }

    /// The number of requests cut off.
    pub fn requests_cut(&self) -> u64 {
        self.shared.look(|state| state.requests_cut)
    }

    /// Waits until the server has executed this many counted requests since the proxy was made.
    pub fn wait_until_executed(&self, requests: u64) {
        until(format_args!("{requests} requests are executed"), || self.executed() >= requests);
    }
}

/// Closes all connections, and accepts no more.
impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| state.over = true);
        // It wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        self.close_connections();
    }
}

/// The state that the threads of a proxy share. All changes are made under its lock, so of two requests that arrive together
/// only one is the next.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The number of replies that pass before one is lost.
    lose_reply_after: Option<u64>,
    /// The number of requests that pass before one is cut off.
    cut_request_after: Option<u64>,
    holding: bool,
    over: bool,
    /// The commands that count; if it is empty, all but introductions.
    only: Vec<String>,
    /// The clients of open connections.
    open: HashMap<u64, TcpStream>,
    /// The number of the last connection.
    connections: u64,
    requests: u64,
    executed: u64,
    replies_lost: u64,
    requests_cut: u64,
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Waits while replies are held.
    fn wait_for_release(&self) {
        let held = |state: &mut State| state.holding && !state.over;
        drop(self.changed.wait_while(self.lock(), held).unwrap_or_else(PoisonError::into_inner));
    }

    /// Remembers a connection, to be closed with the proxy. Returns its number, or nothing if the proxy is over.
    fn open(&self, client: TcpStream) -> Option<u64> {
        self.change(|state| {
            if state.over {
                return None;
            }
            state.connections += 1;
            state.open.insert(state.connections, client);
            Some(state.connections)
        })
    }

    fn closed(&self, connection: u64) {
        self.change(|state| state.open.remove(&connection));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns whether a request of this command counts, or `None` if it is cut off.
    fn request(&mut self, command: &String) -> Option<bool> {
        let counts = if self.only.is_empty() {
            !INTRODUCTIONS.contains(&command.as_str())
        } else {
            self.only.contains(command)
        };
        if counts && falls_due(&mut self.cut_request_after) {
            self.requests_cut += 1;
            return None;
        }
        self.requests += u64::from(counts);
        Some(counts)
    }

    /// Counts a reply, and returns whether it is lost.
    fn loses_reply(&mut self, counts: bool) -> bool {
        self.executed += u64::from(counts);
        let lost = counts && falls_due(&mut self.lose_reply_after);
        self.replies_lost += u64::from(lost);
        lost
    }
}

/// Counts down, and returns true once, at the end.
fn falls_due(after: &mut Option<u64>) -> bool {
    let due = *after == Some(0);
    *after = after.and_then(|left| left.checked_sub(1));
    due
}

/// Commands that client libraries send when they connect.
const INTRODUCTIONS: [&str; 5] = ["AUTH", "CLIENT", "HELLO", "READONLY", "SELECT"];

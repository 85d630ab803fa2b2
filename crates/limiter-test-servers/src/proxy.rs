//! What can go wrong between a client and a server, at will.

mod connection;
mod frame;
mod plan;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use plan::Shared;

/// A proxy on a free port of 127.0.0.1 in front of one server. It forwards, until it is told otherwise.
///
/// It knows where requests and replies of the Redis protocol end, so it can lose exactly one reply, after the server
/// has executed the request. Counted are requests of a client's user and their replies: those by which client
/// libraries introduce themselves (`HELLO`, `AUTH`, `CLIENT`, `SELECT`, `READONLY`) are forwarded and not counted.
///
/// It expects one reply to each request: it is not for subscriptions, `MONITOR` or `CLIENT REPLY`.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy to a server, such as `127.0.0.1:6379`. The server need not be there yet.
    ///
    /// # Panics
    /// If the address cannot be understood, or no port is free.
    pub fn to(server: &str) -> Self {
        let server = server.parse().expect("an address and a port");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let shared = Arc::new(Shared::default());
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, server, &shared)
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `redis://127.0.0.1:12345`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Does no harm any more: what was asked for is forgotten, and replies that are held go on.
    pub fn forward(&self) {
        self.shared.change(|plan| plan.forward());
    }

    /// Counts only requests of these commands, and does harm only to them: `count_only(&["EVALSHA", "EVAL"])`.
    pub fn count_only(&self, commands: &[&str]) {
        let commands = commands.iter().map(|command| command.to_ascii_uppercase()).collect();
        self.shared.change(|plan| plan.count_only(commands));
    }

    /// Forwards the next request, waits for the server's reply, drops it, and closes the connection to the client.
    pub fn lose_next_reply(&self) {
        self.lose_reply_after(0);
    }

    /// Lets so many replies pass, and loses the next as [`lose_next_reply`](Self::lose_next_reply) does.
    pub fn lose_reply_after(&self, replies: u64) {
        self.shared.change(|plan| plan.lose_reply_after = Some(replies));
    }

    /// Closes the connection instead of forwarding the next request: the server never sees it.
    pub fn cut_before_request(&self) {
        self.cut_before_request_after(0);
    }

    /// Forwards so many requests, and cuts before the next.
    pub fn cut_before_request_after(&self, requests: u64) {
        self.shared.change(|plan| plan.cut_request_after = Some(requests));
    }

    /// Keeps replies back from now on. The server executes; the client hears nothing.
    pub fn hold_replies(&self) {
        self.shared.change(|plan| plan.holding = true);
    }

    /// Lets go of the replies that were held, in their order.
    pub fn release(&self) {
        self.shared.change(|plan| plan.holding = false);
    }

    /// Closes all connections. New ones are taken.
    pub fn close_connections(&self) {
        self.shared.close_connections();
    }

    /// How many connections clients have made.
    pub fn connections(&self) -> u64 {
        self.shared.look(|plan| plan.connections)
    }

    /// How many bytes went to the server.
    pub fn bytes_to_server(&self) -> u64 {
        self.shared.look(|plan| plan.bytes_to_server)
    }

    /// How many bytes went to clients.
    pub fn bytes_to_clients(&self) -> u64 {
        self.shared.look(|plan| plan.bytes_to_clients)
    }

    /// How many counted requests went to the server.
    pub fn requests(&self) -> u64 {
        self.shared.look(|plan| plan.requests)
    }

    /// How many counted requests the server has executed: their replies came, whatever became of them then.
    pub fn executed(&self) -> u64 {
        self.shared.look(|plan| plan.executed)
    }

    /// How many replies were lost on purpose.
    pub fn replies_lost(&self) -> u64 {
        self.shared.look(|plan| plan.replies_lost)
    }

    /// How many requests were cut off.
    pub fn requests_cut(&self) -> u64 {
        self.shared.look(|plan| plan.requests_cut)
    }

    /// Waits until the server has executed so many counted requests since the proxy was made.
    ///
    /// # Panics
    /// If it takes too long.
    pub fn wait_until_executed(&self, requests: u64) {
        super::patience::until(&format!("{requests} requests are executed"), || {
            self.executed() >= requests
        });
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Closes all connections, and takes no more.
impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|plan| plan.over = true);
        // It wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        self.close_connections();
    }
}

fn accept(listener: &TcpListener, server: SocketAddr, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.look(|plan| plan.over) {
            return;
        }
        if let Ok(client) = client {
            connection::open(client, server, shared);
        }
    }
}

#[cfg(test)]
mod tests;

//! One connection of a client, and that of the proxy to the server.

use std::collections::VecDeque;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::Shared;
use super::frame::{command, is_push, read};

/// Serves a client until either side closes, or a fault closes the connection.
pub(super) fn serve(client: TcpStream, server: SocketAddr, shared: &Shared) -> io::Result<()> {
    // Without a server, the client finds its connection closed.
    let connection =
        Connection { client, server: TcpStream::connect(server)?, waiting: Mutex::default() };
    connection.client.set_nodelay(true)?;
    connection.server.set_nodelay(true)?;
    let Some(number) = shared.open(connection.client.try_clone()?) else { return Ok(()) };
    thread::scope(|scope| {
        scope.spawn(|| {
            // An error ends the connection, as it would without a proxy.
            let _ = connection.forward_replies(shared);
            connection.close();
        });
        let _ = connection.forward_requests(shared);
        connection.close();
    });
    shared.closed(number);
    Ok(())
}

struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// For each request that waits for its reply, whether it counts.
    waiting: Mutex<VecDeque<bool>>,
}

impl Connection {
    fn forward_requests(&self, shared: &Shared) -> io::Result<()> {
        let mut requests = BufReader::with_capacity(BUFFER, &self.client);
        loop {
            let mut request = Vec::new();
            read(&mut requests, &mut request)?;
            let Some(counts) = shared.change(|state| state.request(&command(&request))) else {
                return Ok(());
            };
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(counts);
            (&self.server).write_all(&request)?;
        }
    }

    fn forward_replies(&self, shared: &Shared) -> io::Result<()> {
        let mut replies = BufReader::with_capacity(BUFFER, &self.server);
        loop {
            let mut reply = Vec::new();
            read(&mut replies, &mut reply)?;
            let counts = !is_push(&reply) && {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                waiting.pop_front().unwrap_or(false)
            };
            if shared.change(|state| state.loses_reply(counts)) {
                return Ok(());
            }
            shared.wait_for_release();
            (&self.client).write_all(&reply)?;
        }
    }

    fn close(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

/// Larger than nearly all requests and replies.
const BUFFER: usize = 16 * 1024;

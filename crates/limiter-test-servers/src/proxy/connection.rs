//! One connection of a client, and ours to the server.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::frame::{command, frame_length, is_push};
use super::plan::{Fate, Shared};

/// Serves a client in threads of its own, until either side closes or the plan is to.
pub(super) fn open(client: TcpStream, server: SocketAddr, shared: &Arc<Shared>) {
    shared.change(|plan| plan.connections += 1);
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        // Without a server, the client finds its connection closed.
        if let Ok(server) = TcpStream::connect(server) {
            // An error ends the connection, as it would without a proxy.
            let _ = serve(client, server, shared);
        }
    });
}

fn serve(client: TcpStream, server: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let connection = Arc::new(Connection { client, server, shared, waiting: Mutex::default() });
    connection.shared.remember(&connection);
    if connection.shared.look(|plan| plan.over) {
        // It was remembered too late to be closed with the others.
        connection.close();
    }
    thread::spawn({
        let connection = Arc::clone(&connection);
        move || {
            let _ = connection.forward_replies();
            connection.close();
        }
    });
    let forwarded = connection.forward_requests();
    connection.close();
    forwarded
}

/// Both streams of it.
pub(super) struct Connection {
    client: TcpStream,
    server: TcpStream,
    shared: Arc<Shared>,
    /// For each request that waits for its reply, whether it counts.
    waiting: Mutex<VecDeque<bool>>,
}

impl Connection {
    fn forward_requests(&self) -> io::Result<()> {
        let mut frames = Frames::of(&self.client);
        while let Some(request) = frames.next()? {
            let name = command(&request);
            let (counted, fate) = self.shared.change(|plan| {
                let counted = plan.counts(&name);
                (counted, plan.request(request.len(), counted))
            });
            if fate == Fate::IsLost {
                break;
            }
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(counted);
            (&self.server).write_all(&request)?;
        }
        Ok(())
    }

    fn forward_replies(&self) -> io::Result<()> {
        let mut frames = Frames::of(&self.server);
        while let Some(reply) = frames.next()? {
            let counted = !is_push(&reply) && {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                waiting.pop_front().unwrap_or(false)
            };
            if self.shared.change(|plan| plan.reply(counted)) == Fate::IsLost {
                break;
            }
            self.shared.wait_for_release();
            // Counted first: a client that has its reply finds it counted.
            self.shared.change(|plan| plan.passed_to_client(reply.len()));
            (&self.client).write_all(&reply)?;
        }
        Ok(())
    }

    pub(super) fn close(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

/// The requests or replies of a stream, one by one.
struct Frames<'a> {
    stream: &'a TcpStream,
    bytes: Vec<u8>,
}

impl<'a> Frames<'a> {
    const fn of(stream: &'a TcpStream) -> Self {
        Self { stream, bytes: Vec::new() }
    }

    /// Nothing at the end of the stream.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(length) = frame_length(&self.bytes) {
                return Ok(Some(self.bytes.drain(..length).collect()));
            }
            let mut buffer = [0; BUFFER];
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                return Ok(None);
            }
            self.bytes.extend_from_slice(&buffer[..read]);
        }
    }
}

/// Larger than nearly all requests and replies.
const BUFFER: usize = 16 * 1024;

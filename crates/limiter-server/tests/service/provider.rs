//! A provider of models, scripted by a test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::support::content_length;

/// A provider that answers each run with the test's text, piece by piece.
pub(crate) struct Provider {
    /// `http://127.0.0.1:12345`.
    pub(crate) origin: String,
    /// The URL of a run. Every other path answers too.
    pub(crate) url: String,
    /// The headers and the body of each run received.
    pub(crate) received: Receiver<String>,
    /// The next piece of the answer; the end of the channel ends it.
    pub(crate) pieces: Sender<Option<String>>,
}

impl Provider {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (tell, received) = channel();
        let (pieces, next) = channel::<Option<String>>();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (head, body) = read_request(&stream).unwrap_or_default();
                tell.send(head + &body).ok();
                let mut is_read = true;
                while let Ok(Some(piece)) = next.recv() {
                    // The rest of one answer must not go to the next.
                    is_read = is_read && stream.write_all(piece.as_bytes()).is_ok();
                }
            }
        });
        Self { url: format!("{origin}/run"), origin, received, pieces }
    }

    pub(crate) fn say(&self, piece: &str) {
        self.pieces.send(Some(piece.to_owned())).unwrap();
    }

    /// Ends this answer, and closes its connection.
    pub(crate) fn hang_up(&self) {
        self.pieces.send(None).unwrap();
    }
}

/// Reads a request: its head and its body. Returns nothing if the connection ends.
pub(crate) fn read_request(stream: &TcpStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let mut body = vec![0; content_length(&head)];
    reader.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).ok()?))
}

/// An answer in one piece, after which the connection ends: the next call must not begin on it.
pub(crate) fn whole(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// The head of an answer that streams, and ends with its connection.
pub(crate) const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

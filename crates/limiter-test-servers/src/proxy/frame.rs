//! Requests and replies of the Redis protocol, whole.

use std::io::{self, BufRead};

/// Reads one request or reply, of RESP2, RESP3, or an inline command, and adds its bytes to those that are there.
///
/// # Errors
/// If the stream ends, also if nothing more comes.
pub(super) fn read(stream: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<()> {
    let start = bytes.len();
    stream.read_until(b'\n', bytes)?;
    let line = &bytes[start..];
    if !line.ends_with(b"\n") {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let number = || str::from_utf8(&line[1..]).ok()?.trim().parse::<usize>().ok();
    let elements = match line[0] {
        // A null has the length -1, and ends with its line.
        b'$' | b'=' | b'!' => {
            if let Some(length) = number() {
                let text = bytes.len();
                bytes.resize(text + length + 2, 0);
                stream.read_exact(&mut bytes[text..])?;
            }
            0
        }
        b'*' | b'~' | b'>' => number().unwrap_or(0),
        b'%' => number().unwrap_or(0) * 2,
        // Attributes stand before the reply that they belong to.
        b'|' => number().unwrap_or(0) * 2 + 1,
        _ => 0,
    };
    (0..elements).try_for_each(|_| read(stream, bytes))
}

/// The command that a request names, in capitals.
pub(super) fn command(request: &[u8]) -> String {
    let text = String::from_utf8_lossy(request);
    let mut words = text.split_ascii_whitespace();
    let command = if request.starts_with(b"*") { words.nth(2) } else { words.next() };
    command.unwrap_or_default().to_ascii_uppercase()
}

/// Whether the server sends this unasked.
pub(super) fn is_push(reply: &[u8]) -> bool {
    reply.starts_with(b">")
}

//! Where a request or a reply of the Redis protocol ends.

/// How many bytes at the beginning are one whole request or reply: of RESP2, RESP3, or an inline command. Nothing if
/// more have to come.
pub(super) fn frame_length(bytes: &[u8]) -> Option<usize> {
    let line = line_length(bytes)?;
    let number = || std::str::from_utf8(&bytes[1..line]).ok()?.trim().parse::<usize>().ok();
    match bytes[0] {
        // A null has the length -1, and ends with its line.
        b'$' | b'=' | b'!' => match number() {
            Some(length) => (bytes.len() >= line + length + 2).then_some(line + length + 2),
            None => Some(line),
        },
        b'*' | b'~' | b'>' => elements(bytes, line, number().unwrap_or(0)),
        b'%' => elements(bytes, line, number().unwrap_or(0) * 2),
        // Attributes stand before the reply that they belong to.
        b'|' => elements(bytes, line, number().unwrap_or(0) * 2 + 1),
        _ => Some(line),
    }
}

/// The command that a request names, in capitals.
pub(super) fn command(request: &[u8]) -> String {
    let text = String::from_utf8_lossy(request);
    let mut words = text.split_ascii_whitespace();
    let command = if request.starts_with(b"*") { words.nth(2) } else { words.next() };
    command.unwrap_or_default().to_ascii_uppercase()
}

/// Whether this comes from the server without having been asked for.
pub(super) fn is_push(reply: &[u8]) -> bool {
    reply.starts_with(b">")
}

fn elements(bytes: &[u8], start: usize, count: usize) -> Option<usize> {
    let mut end = start;
    for _ in 0..count {
        end += frame_length(&bytes[end..])?;
    }
    Some(end)
}

fn line_length(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_ends_where_it_says() {
        for frame in [
            "+OK\r\n",
            "-ERR no\r\n",
            ":1\r\n",
            "$5\r\na\r\nbc\r\n",
            "$0\r\n\r\n",
            "$-1\r\n",
            "*-1\r\n",
            "*0\r\n",
            "*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n",
            "*2\r\n*1\r\n:1\r\n$-1\r\n",
            "%1\r\n+a\r\n:1\r\n",
            ">2\r\n+invalidate\r\n*0\r\n",
            "|1\r\n+ttl\r\n:1\r\n+OK\r\n",
            "_\r\n",
            "PING\r\n",
        ] {
            let more = format!("{frame}+OK\r\n");
            assert_eq!(frame_length(more.as_bytes()), Some(frame.len()), "{frame:?}");
            for end in 0..frame.len() {
                assert_eq!(frame_length(&frame.as_bytes()[..end]), None, "{:?}", &frame[..end]);
            }
        }
    }

    #[test]
    fn a_request_names_its_command() {
        assert_eq!(command(b"*2\r\n$4\r\necho\r\n$1\r\nx\r\n"), "ECHO");
        assert_eq!(command(b"ping\r\n"), "PING");
        assert_eq!(command(b"*0\r\n"), "");
    }
}

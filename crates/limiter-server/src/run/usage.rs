//! The tokens that an answer says it took.

use limiter::{InvalidValue, Totals};
use serde_json::{Value, json};

use crate::models::Price;

/// What a run took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) input: u64,
    pub(crate) output: u64,
}

impl Tokens {
    /// The `usage` of an answer or of one event of a stream, whether it names them as OpenAI or as Anthropic does.
    pub(crate) fn of(answer: &Value) -> Option<Self> {
        let usage = answer.get("usage")?;
        let count = |names: [&str; 2]| names.into_iter().find_map(|name| usage.get(name)?.as_u64());
        Some(Self {
            input: count(["prompt_tokens", "input_tokens"])?,
            output: count(["completion_tokens", "output_tokens"])?,
        })
    }

    /// As this server tells them.
    pub(crate) fn on_the_wire(self) -> Value {
        json!({
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.input.saturating_add(self.output),
        })
    }

    /// What is to be settled.
    pub(crate) fn totals(self, price: Price) -> Result<Totals, InvalidValue> {
        let credits = price.of(self.input, self.output)?;
        let totals = Totals::unchanged().with_input_tokens(self.input)?;
        Ok(totals.with_output_tokens(self.output)?.with_credits(credits))
    }
}

/// Finds the usage in a stream of server-sent events, while they pass by.
#[derive(Debug, Default)]
pub(crate) struct EventScanner {
    line: Vec<u8>,
    skips: bool,
    tokens: Option<Tokens>,
}

impl EventScanner {
    /// Looks at the next bytes, wherever they are cut.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.keep(&bytes[..end]);
            self.finish_line();
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// The usage that was told last.
    pub(crate) const fn tokens(&self) -> Option<Tokens> {
        self.tokens
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.skips |= self.line.len() + bytes.len() > MAX_LINE;
        if !self.skips {
            self.line.extend_from_slice(bytes);
        }
    }

    fn finish_line(&mut self) {
        let data = self.line.strip_prefix(b"data:").filter(|_| !self.skips);
        let event = data.and_then(|data| serde_json::from_slice::<Value>(data).ok());
        if let Some(tokens) = event.as_ref().and_then(Tokens::of) {
            self.tokens = Some(tokens);
        }
        self.line.clear();
        self.skips = false;
    }
}

/// Of one event: a usage takes a hundred bytes, and longer events have something else in them.
const MAX_LINE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n\
                          data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":9}}\r\n\n\
                          data: [DONE]\n\n";

    #[test]
    fn the_usage_is_found_wherever_the_stream_is_cut() {
        for size in 1..STREAM.len() {
            let mut scanner = EventScanner::default();
            STREAM.as_bytes().chunks(size).for_each(|chunk| scanner.feed(chunk));
            assert_eq!(
                scanner.tokens(),
                Some(Tokens { input: 3, output: 9 }),
                "cut every {size} bytes"
            );
        }
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut scanner = EventScanner::default();
        for _ in 0..100 {
            scanner.feed(&[b'x'; 4_096]);
        }
        assert!(scanner.line.len() <= MAX_LINE);
        scanner.feed(b"\ndata: {\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}\n");
        assert_eq!(scanner.tokens(), Some(Tokens { input: 1, output: 2 }));
    }

    #[test]
    fn what_is_no_usage_is_passed_over() {
        let mut scanner = EventScanner::default();
        scanner.feed(b"data: {\"usage\":null}\ndata: {\"usage\":{\"prompt_tokens\":-1}}\nevent: ping\ndata: {\n");
        assert_eq!(scanner.tokens(), None);
    }
}

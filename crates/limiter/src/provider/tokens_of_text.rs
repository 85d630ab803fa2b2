//! Tokens of a text, without a tokenizer.

/// Estimates the tokens of a piece of an answer, such as one delta of a stream.
///
/// - Empty text has none, any other text at least one.
/// - Each word after the first is at least one more: no token spans two words.
/// - A piece of up to 16 bytes counts as one token: most providers send single tokens, and few tokens are longer. A
///   longer piece has at least one token for each 4 bytes, the rule of thumb for English text.
///
/// It is used if a provider reports no figures. [`AnswerReader::counting_by`](crate::stream::AnswerReader::counting_by) uses a
/// tokenizer instead.
///
/// ```
/// use limiter::stream::tokens_of_text;
///
/// assert_eq!(tokens_of_text(" chance"), 1);
/// assert_eq!(tokens_of_text("How can I help"), 4);
/// assert_eq!(tokens_of_text("Donaudampfschifffahrtsgesellschaft"), 9);
/// ```
#[must_use]
pub fn tokens_of_text(text: &str) -> u64 {
    if text.is_empty() {
        return 0;
    }
    let by_bytes =
        if text.len() > LONGEST_TOKEN { text.len().div_ceil(BYTES_OF_A_TOKEN) } else { 1 };
    text.split_ascii_whitespace().count().max(by_bytes) as u64
}

/// The length in bytes of a long English word with the blank before it, which tokenizers treat as one token.
const LONGEST_TOKEN: usize = 16;
const BYTES_OF_A_TOKEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_piece_is_a_token_and_each_further_word_one_more() {
        for (text, tokens) in [
            ("", 0),
            (" ", 1),
            ("\n\n", 1),
            ("a", 1),
            (" internationaliz", 1),
            ("a b", 2),
            (" a b c ", 3),
            ("0123456789abcdef0", 5),
            ("a b c d e f g h i j k l", 12),
        ] {
            assert_eq!(tokens_of_text(text), tokens, "{text:?}");
        }
    }
}

//! The table through a limiter: the charge at any cut, in tokens and in credits.

use futures_util::{StreamExt, stream};
use limiter::stream::{AnswerReader, StreamMeter};
use limiter::{Charge, KeyConfig, KeyId, Limiter, Limits, NewKey, Price};

use super::case::{Case, ESTIMATED_INPUT, ESTIMATED_OUTPUT};
use super::corpus;
use crate::{today, total_tokens};

/// Creates a limiter in memory with one key, whose limits count everything and are never reached.
async fn limiter() -> (Limiter, KeyId) {
    let limiter = Limiter::in_memory();
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
    let limits = Limits::builder().tokens_per_day(1 << 50).build().unwrap();
    let config = KeyConfig::named("ci").unwrap().with_global(limits);
    let config = config.with_budget("1000000000".parse().unwrap());
    let key = limiter.keys_as(&admin).create(NewKey::member(config)).await.unwrap().record.id;
    (limiter, key)
}

async fn used(limiter: &Limiter, key: &KeyId) -> (u64, u64) {
    let usage = limiter.usage(key).await.unwrap().unwrap();
    (total_tokens(&today(&usage)), usage.credits.spent.millionths())
}

/// Returns a price of one credit for each thousand input tokens, and seven for each thousand output tokens.
fn price() -> Price {
    Price::per_million_tokens("1000".parse().unwrap(), "7000".parse().unwrap())
}

/// Streams an answer to a client that hangs up after the first bytes, or reads all of it. Returns the tokens and the
/// millionths of a credit that were charged.
async fn charged(limiter: &Limiter, key: &KeyId, case: &Case, cut: Option<usize>) -> (u64, u64) {
    let before = used(limiter, key).await;
    let estimate = Charge::request().with_tokens(ESTIMATED_INPUT, ESTIMATED_OUTPUT).unwrap();
    let call = limiter.reserve(key, None, &estimate).await.unwrap().allowed().unwrap();
    let bytes = case.bytes();
    let pieces: Vec<_> = match cut {
        Some(cut) => vec![bytes[..cut].to_vec()],
        None => bytes.chunks(50).map(<[u8]>::to_vec).collect(),
    };
    let upstream = stream::iter(pieces).map(Ok::<_, std::io::Error>);
    let reader = AnswerReader::new(case.api);
    let mut answer = StreamMeter::stream(upstream, call, reader).with_price(price());
    if cut.is_some() {
        answer.next().await.unwrap().unwrap();
        drop(answer);
        // The settlement is a task; in memory its first poll completes it.
        tokio::task::yield_now().await;
    } else {
        while let Some(piece) = answer.next().await {
            piece.unwrap();
        }
    }
    let after = used(limiter, key).await;
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test]
async fn a_client_that_reads_it_all_is_charged_the_right_figures() {
    let (limiter, key) = limiter().await;
    for case in corpus() {
        let (tokens, credits) = charged(&limiter, &key, case, None).await;
        assert_eq!(tokens, case.usage.total(), "{case:?}");
        assert_eq!(credits, 1_000 * case.usage.input + 7_000 * case.usage.output, "{case:?}");
    }
}

/// At any cut, the charged tokens are those reported or seen, and never zero if anything was seen. The credits are the
/// price of exactly these tokens.
#[tokio::test]
async fn a_client_that_hangs_up_at_any_byte_is_charged_what_was_reported_or_seen() {
    for case in corpus() {
        let (limiter, key) = limiter().await;
        let bytes = case.bytes();
        let mut reader = AnswerReader::new(case.api);
        for cut in 0..=bytes.len() {
            let (tokens, credits) = charged(&limiter, &key, case, Some(cut)).await;
            reader.read(&bytes[cut.saturating_sub(1)..cut]);
            let estimate =
                Charge::request().with_tokens(ESTIMATED_INPUT, ESTIMATED_OUTPUT).unwrap();
            let mut cut_here = reader.clone();
            cut_here.finish();
            let usage = cut_here.usage(&estimate);
            assert_eq!(tokens, usage.total(), "cut at {cut}: {case:?}");
            assert_eq!(
                credits,
                1_000 * usage.input + 7_000 * usage.output,
                "cut at {cut}: {case:?}"
            );
        }
    }
}

//! Server-sent events of OpenAI's kind, cut anywhere.

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use limiter::Reservation;
use limiter::stream::{AnswerReader, Api, CountTokens, StreamMeter};
use proptest::prelude::*;

use super::log::Log;
use super::world::World;

/// Five deltas, in events of every shape that upstreams send.
const ANSWER: &str = concat!(
    ": opened\r\n\r\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"H\u{e9}\"}}]}\n\n",
    "data:{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\u{1F600}\\n\"}}]}\r\n\r\n",
    "event: message\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" data: \"}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}},{\"delta\":{\"content\":\"b\"}}]}\r\r",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
);
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":80,\"completion_tokens\":17,\"total_tokens\":97}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[tokio::test]
async fn the_final_usage_is_settled_however_the_bytes_are_cut() {
    let text = [ANSWER, USAGE, DONE].concat();
    for length in 1..=text.len() {
        let world = World::with_tokens_per_minute(10_000).await;
        let answer = answer(&text, length, world.reserve(100, 2).await);
        let passed: Vec<Vec<u8>> = answer.try_collect().await.unwrap();
        assert_eq!(passed.concat(), text.as_bytes(), "not a byte is changed");
        assert_eq!(world.minute_tokens().await, 97, "in pieces of {length}");
    }
}

#[tokio::test]
async fn without_a_usage_the_deltas_are_settled_however_the_bytes_are_cut() {
    let text = [ANSWER, DONE].concat();
    for length in 1..=text.len() {
        let world = World::with_tokens_per_minute(10_000).await;
        let answer = answer(&text, length, world.reserve(100, 2).await);
        answer.try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(world.minute_tokens().await, 105, "in pieces of {length}");
    }
}

#[test]
fn events_cut_in_two_anywhere_count_the_same() {
    let text = [ANSWER, USAGE, DONE].concat();
    for cut in 0..=text.len() {
        let mut tokens = reader();
        let (one, two) = text.as_bytes().split_at(cut);
        assert_eq!(tokens.count(one) + tokens.count(two), 5, "cut at {cut}");
        let reported = tokens.reported();
        assert_eq!((reported.input, reported.output), (Some(80), Some(17)), "cut at {cut}");
    }
}

/// A client that leaves in the middle of an event pays for each text whose end it has received.
#[tokio::test]
async fn a_client_that_leaves_at_any_byte_pays_for_the_texts_that_it_has_got() {
    let text = [ANSWER, USAGE].concat();
    for cut in 0..=text.len() {
        let world = World::with_tokens_per_minute(10_000).await;
        let mut answer = Box::pin(answer(&text, 1, world.reserve(100, 2).await));
        for _ in 0..cut {
            answer.next().await.unwrap().unwrap();
        }
        drop(answer);
        world.settlements(1).await;
        let usage_ends = ANSWER.len() + USAGE.find("97}").unwrap() + 3;
        // Before the first text there is nothing to count: the estimate of 2 stands.
        let counted = match deltas_until(cut) {
            0 => 2,
            deltas => deltas,
        };
        let expected = if cut >= usage_ends { 97 } else { 100 + counted };
        assert_eq!(world.minute_tokens().await, expected, "cut at {cut}");
    }
}

#[tokio::test]
async fn a_limit_ends_the_answer_before_the_delta_that_does_not_fit() {
    let text = [ANSWER, USAGE, DONE].concat();
    let world = World::with_tokens_per_minute(104).await;
    let events = text.split_inclusive("\n\n").map(|event| event.as_bytes().to_vec());
    let upstream = stream::iter(events.collect::<Vec<_>>()).map(Ok::<_, std::io::Error>);
    let call = world.reserve(100, 1).await;
    let answer = StreamMeter::stream(upstream, call, reader()).ending_at_limit();
    let items: Vec<_> = answer.collect().await;
    assert!(items.last().unwrap().is_err());
    let passed = items.into_iter().flatten().collect::<Vec<_>>().concat();
    assert!(text.as_bytes().starts_with(&passed));
    assert_eq!(reader().count(&passed), 3);
    assert_eq!(world.minute_tokens().await, 103, "the next two do not fit");
}

proptest! {
    /// Any bytes are counted the same in any pieces, and nothing panics.
    #[test]
    fn any_bytes_count_the_same_in_any_pieces(
        lines in prop::collection::vec(
            prop_oneof![
                Just(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}".to_vec()),
                Just(b"data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}".to_vec()),
                prop::collection::vec(any::<u8>(), 0..20),
                prop::collection::vec(prop::sample::select(b"data: {}[]\"\r\n".to_vec()), 0..20),
            ],
            0..10,
        ),
        cuts in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let text = lines.join(&b'\n');
        let mut whole = reader();
        let counted = whole.count(&text) + whole.finish();
        let (mut pieces, mut sum, mut rest) = (reader(), 0, &text[..]);
        for length in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, following) = rest.split_at(rest.len().min(*length));
            sum += pieces.count(piece);
            rest = following;
        }
        sum += pieces.finish();
        prop_assert_eq!(sum, counted);
        prop_assert_eq!(pieces.reported(), whole.reported());
    }
}

/// Counts the deltas whose text ends before this byte. Finds them by their content, not by reading events.
fn deltas_until(cut: usize) -> u64 {
    let texts = ["H\u{e9}\"", "\u{1F600}\\n\"", " data: \"", "\"a\"", "\"b\""];
    let ends = texts.map(|text| ANSWER.find(text).unwrap() + text.len());
    ends.iter().filter(|end| **end <= cut).count() as u64
}

fn answer(
    text: &str,
    length: usize,
    call: Reservation,
) -> impl Stream<Item = Result<Vec<u8>, limiter::stream::StreamError>> + use<> {
    let pieces: Vec<_> = text.as_bytes().chunks(length).map(<[u8]>::to_vec).collect();
    let upstream = stream::iter(pieces).map(Ok::<_, std::io::Error>);
    StreamMeter::stream(upstream, call, reader()).with_step(1)
}

/// Each test has a process of its own, and so a throttle of its own.
#[tokio::test]
async fn an_answer_that_is_not_understood_keeps_its_estimate_and_a_warning_says_so() {
    let log = Log::listen();
    let world = World::with_tokens_per_minute(10_000).await;
    for _ in 0..3 {
        let upstream = stream::iter(["data: {\"output\":\"in other words\"}\n\n"]);
        let upstream = upstream.map(Ok::<_, std::io::Error>);
        let answer = StreamMeter::stream(upstream, world.reserve(100, 20).await, reader());
        answer.try_collect::<Vec<_>>().await.unwrap();
    }
    assert_eq!(world.minute_tokens().await, 360);
    let text = log.text();
    assert_eq!(text.matches("its estimate stands api=\"openai-chat\"").count(), 1, "{text}");
}

fn reader() -> AnswerReader {
    AnswerReader::new(Api::OpenAiChat)
}

/// The text fits exactly. The usage reports more tokens, such as those of hidden reasoning. The end of the answer is
/// passed on, and the overrun is charged.
#[tokio::test]
async fn a_usage_beyond_the_limit_does_not_cut_the_end_of_an_answer_off() {
    let world = World::with_tokens_per_minute(105).await;
    let events = [ANSWER, USAGE, DONE].map(|events| events.as_bytes().to_vec());
    let usage =
        String::from_utf8(events[1].clone()).unwrap().replace("97", "197").replace("17,", "117,");
    let events = [events[0].clone(), usage.into_bytes(), events[2].clone()];
    let upstream = stream::iter(events).map(Ok::<_, std::io::Error>);
    let call = world.reserve(100, 1).await;
    let answer = StreamMeter::stream(upstream, call, reader()).ending_at_limit();
    let passed: Vec<Vec<u8>> = answer.try_collect().await.unwrap();
    assert_eq!(passed.len(), 3);
    assert_eq!(world.minute_tokens().await, 197);
}

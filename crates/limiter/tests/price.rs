//! The cost of tokens, and the written form of a price.

use limiter::{Credits, Price, TokenUsage};
use proptest::prelude::*;
use serde_json::{Value, json};

fn credits(text: &str) -> Credits {
    text.parse().unwrap()
}

fn price(input: &str, output: &str) -> Price {
    Price::per_million_tokens(credits(input), credits(output))
}

fn read(json: Value) -> Price {
    serde_json::from_value(json).unwrap()
}

/// Each kind has a price of its own.
fn of_every_kind() -> Price {
    price("2", "8")
        .cached_input(credits("0.2"))
        .cache_write(credits("2.5"))
        .reasoning(credits("16"))
        .per_request(credits("0.001"))
}

#[test]
fn a_part_of_a_millionth_is_rounded_up_once() {
    let cheap = price("0.1", "0.4").cached_input(credits("0.000001"));
    let millionths = |input, output| cheap.of(&TokenUsage::new(input, output)).millionths();
    assert_eq!(millionths(0, 0), 0);
    assert_eq!(millionths(1, 0), 1);
    assert_eq!(millionths(6, 1), 1, "input and output are rounded together");
    assert_eq!(millionths(7, 1), 2);
    let one_cached = TokenUsage { cached_input: 1, ..TokenUsage::new(1, 0) };
    assert_eq!(cheap.of(&one_cached).millionths(), 1, "a millionth of a millionth");
}

#[test]
fn each_kind_has_its_price() {
    let million = 1_000_000_u64;
    let usage =
        |input: u64, cached_input: u64, cache_write: u64, output: u64, reasoning: u64| TokenUsage {
            input: input * million,
            cached_input: cached_input * million,
            cache_write: cache_write * million,
            output: output * million,
            reasoning: reasoning * million,
        };
    for (usage, cost) in [
        (usage(0, 0, 0, 0, 0), "0.001"),
        (usage(1, 0, 0, 0, 0), "2.001"),
        (usage(1, 1, 0, 0, 0), "0.201"),
        (usage(1, 0, 1, 0, 0), "2.501"),
        (usage(0, 0, 0, 1, 0), "8.001"),
        (usage(0, 0, 0, 1, 1), "16.001"),
        (usage(10, 4, 3, 5, 2), "70.301"),
    ] {
        assert_eq!(of_every_kind().of(&usage), credits(cost), "{usage}");
    }
}

/// The usage from Anthropic in the issue that led to prices by kind: most of the prompt came from the cache.
#[test]
fn a_cached_prompt_costs_a_tenth() {
    let sonnet = price("3", "15").cached_input(credits("0.3")).cache_write(credits("3.75"));
    let usage = TokenUsage { cached_input: 8_831, ..TokenUsage::new(8_849, 26) };
    assert_eq!(sonnet.of(&usage), credits("0.003094"));
    assert_eq!(sonnet.of(&TokenUsage::new(8_849, 26)), credits("0.026937"));
}

#[test]
fn a_kind_without_a_price_costs_as_its_whole() {
    let plain = price("2", "8");
    let usage = TokenUsage { input: 9, cached_input: 4, cache_write: 2, output: 5, reasoning: 3 };
    assert_eq!(plain.of(&usage), plain.of(&TokenUsage::new(9, 5)));
    assert_eq!(Price::FREE.of(&usage), Credits::ZERO);
    assert_eq!(Price::default(), Price::FREE);
}

#[test]
fn parts_larger_than_the_whole_are_bounded_by_it() {
    let price = of_every_kind();
    let usage = |cached_input, cache_write, reasoning| TokenUsage {
        cached_input,
        cache_write,
        reasoning,
        ..TokenUsage::new(10, 5)
    };
    for (told, bounded) in [
        (usage(11, 0, 0), usage(10, 0, 0)),
        (usage(0, 11, 0), usage(0, 10, 0)),
        (usage(8, 7, 0), usage(3, 7, 0)),
        (usage(u64::MAX, u64::MAX, u64::MAX), usage(0, 10, 5)),
        (usage(0, 0, 6), usage(0, 0, 5)),
    ] {
        assert_eq!(price.of(&told), price.of(&bounded), "{told}");
    }
}

#[test]
fn nothing_costs_more_than_the_most_credits() {
    let dear = Price::per_million_tokens(Credits::MAX, Credits::MAX).per_request(Credits::MAX);
    let most = TokenUsage::new(u64::MAX, u64::MAX);
    assert_eq!(dear.of(&most), Credits::MAX);
    assert_eq!(dear.of(&TokenUsage { cached_input: u64::MAX, ..most }), Credits::MAX);
    assert_eq!(dear.at_most(u64::MAX, u64::MAX), Credits::MAX);
    assert_eq!(dear.of(&TokenUsage::default()), Credits::MAX);
}

#[test]
fn an_estimate_is_priced_by_the_dearest_kind() {
    for (price, input, output) in [
        (price("2", "8"), "2", "8"),
        (price("2", "8").cache_write(credits("2.5")), "2.5", "8"),
        (price("2", "8").cached_input(credits("3")), "3", "8"),
        (price("2", "8").cached_input(credits("0.2")).reasoning(credits("1")), "2", "8"),
        (price("2", "8").reasoning(credits("9")), "2", "9"),
    ] {
        assert_eq!(price.at_most(1_000_000, 0), credits(input), "{price:?}");
        assert_eq!(price.at_most(0, 1_000_000), credits(output), "{price:?}");
    }
    assert_eq!(of_every_kind().at_most(0, 0), credits("0.001"));
}

#[test]
fn totals_are_the_tokens_and_their_price() {
    let usage = TokenUsage { cached_input: 1_000_000, ..TokenUsage::new(2_000_000, 1) };
    let totals = of_every_kind().totals(&usage).unwrap();
    assert_eq!((totals.input_tokens(), totals.output_tokens()), (Some(2_000_000), Some(1)));
    assert_eq!(totals.credits(), Some(credits("2.201008")));
    assert!(Price::FREE.totals(&TokenUsage::new(u64::MAX, 0)).is_err());
}

#[test]
fn a_price_is_written_as_it_is_read() {
    for json in [
        json!({}),
        json!({"input": "0.02"}),
        json!({"input": "1.25", "output": "10.00"}),
        json!({"request": "0.0001"}),
        json!({"output": "8.00", "reasoning": "0.00"}),
        json!({
            "input": "3.00", "cached_input": "0.30", "cache_write": "3.75", "output": "15.00",
            "reasoning": "16.00", "request": "0.000001"
        }),
    ] {
        let price = read(json.clone());
        assert_eq!(serde_json::to_value(price).unwrap(), json);
        let toml = toml::Value::try_from(price).unwrap();
        assert_eq!(toml.try_into::<Price>().unwrap(), price);
    }
    assert_eq!(read(serde_json::to_value(of_every_kind()).unwrap()), of_every_kind());
}

#[test]
fn a_price_prints_each_part_with_a_price_of_its_own() {
    let per_million = |json| read(json).to_string();
    assert_eq!(per_million(json!({})), "credits per million tokens: input 0.00, output 0.00");
    assert_eq!(
        per_million(json!({
            "input": 3, "cached_input": "0.3", "cache_write": "3.75", "output": 15, "reasoning": 16,
            "request": "0.01"
        })),
        "credits per million tokens: input 3.00, cached input 0.30, cache writes 3.75, output 15.00, \
         reasoning 16.00; credits per request: 0.01"
    );
}

#[test]
fn whole_numbers_need_no_quotes_and_defaults_no_mention() {
    assert_eq!(read(json!({"input": 2, "output": "8.0"})), price("2", "8"));
    assert_eq!(toml::from_str::<Price>("input = 2\noutput = '8'").unwrap(), price("2", "8"));
    let written = json!({"input": 2, "cached_input": 2, "cache_write": "2", "request": 0});
    assert_eq!(read(written), price("2", "0"));
    assert_eq!(serde_json::to_value(price("2", "0")).unwrap(), json!({"input": "2.00"}));
    let most = json!({"input": "9007199254.740991"});
    assert_eq!(read(most.clone()), Price::per_million_tokens(Credits::MAX, Credits::ZERO));
}

#[test]
fn an_error_says_what_to_write_instead() {
    for (json, error) in [
        (
            json!({"input": 1.25}),
            "invalid type: floating point `1.25`, expected an amount of credits: a decimal number in quotes such as \"1.25\", \
             or a whole number",
        ),
        (json!({"input": -1}), "invalid value: integer `-1`, expected an amount of credits"),
        (json!({"input": true}), "expected an amount of credits"),
        (
            json!({"input": "1,25"}),
            "\"1,25\" is not an amount of credits: expected a number such as",
        ),
        (json!({"input": "0.0000001"}), "at most six decimals"),
        (json!({"input": 10_000_000_000_u64}), "at most 9007199254740991 (2^53 - 1)"),
        (json!({"input": u64::MAX}), "at most 9007199254740991 (2^53 - 1)"),
        (json!({"inputs": 1}), "unknown field `inputs`, expected one of `input`, `cached_input`"),
        (json!([1, 2, 3, 4, 5, 6]), "invalid type: sequence, expected an object"),
        (json!("1.25"), "expected an object"),
    ] {
        let by_value = serde_json::from_value::<Price>(json.clone()).unwrap_err().to_string();
        let by_text = serde_json::from_str::<Price>(&json.to_string()).unwrap_err().to_string();
        assert!(by_value.contains(error), "{by_value}");
        assert!(by_text.contains(error), "{by_text}");
    }
    let toml = toml::from_str::<Price>("output = 0.6").unwrap_err();
    assert!(toml.message().contains("in quotes such as \"1.25\""), "{toml}");
    let twice = serde_json::from_str::<Price>(r#"{"input": 1, "input": 2}"#).unwrap_err();
    assert!(twice.to_string().contains("duplicate field `input`"), "{twice}");
}

prop_compose! {
    /// Some parts are dear, some free, and some a part of a millionth.
    fn any_price()(
        amounts in proptest::collection::vec(
            prop_oneof![Just(0), 1..100_u64, 0..10_000_000_000_u64], 6,
        ),
    ) -> Price {
        let amount = |index: usize| Credits::from_millionths(amounts[index]).unwrap();
        Price::per_million_tokens(amount(0), amount(1))
            .cached_input(amount(2))
            .cache_write(amount(3))
            .reasoning(amount(4))
            .per_request(amount(5))
    }
}

prop_compose! {
    /// No part is larger than its whole.
    fn any_usage()(parts: [u64; 5], scale in 44..64_u32) -> TokenUsage {
        let [plain, cached_input, cache_write, text, reasoning] = parts.map(|part| part >> scale);
        let input = plain + cached_input + cache_write;
        TokenUsage { input, cached_input, cache_write, output: text + reasoning, reasoning }
    }
}

proptest! {
    /// So a call is not cheaper in parts, and rounding costs less than a millionth a part.
    #[test]
    fn a_sum_costs_what_its_parts_cost(
        price in any_price(),
        parts in proptest::collection::vec(any_usage(), 1..6),
    ) {
        let requests = price.of(&TokenUsage::default()).millionths();
        let tokens = |usage: &TokenUsage| price.of(usage).millionths() - requests;
        let apart: u64 = parts.iter().map(tokens).sum();
        let count = parts.len() as u64;
        let together = tokens(&parts.into_iter().fold(TokenUsage::default(), |sum, part| sum + part));
        prop_assert!(together <= apart, "{together} {apart}");
        prop_assert!(together + count > apart, "{together} {apart}");
    }

    /// Holds even if parts are larger than their whole.
    #[test]
    fn no_call_costs_more_than_its_estimate(
        price in any_price(),
        usage: [u64; 5],
        scale in 0..64_u32,
    ) {
        let [input, cached_input, cache_write, output, reasoning] = usage.map(|part| part >> scale);
        let usage = TokenUsage { input, cached_input, cache_write, output, reasoning };
        prop_assert!(price.of(&usage) <= price.at_most(input, output));
    }

    #[test]
    fn every_price_is_read_as_it_was_written(price in any_price()) {
        prop_assert_eq!(read(serde_json::to_value(price).unwrap()), price);
    }
}

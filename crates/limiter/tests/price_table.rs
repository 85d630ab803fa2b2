//! Prices by model: names, patterns, and how a table is written.

use limiter::{Credits, Price, PriceTable, PriceTableError, TokenUsage};
use serde_json::json;

/// A price that identifies an entry.
fn price(number: u64) -> Price {
    Price::FREE.per_request(Credits::whole(number).unwrap())
}

/// The entries have the prices 0, 1, 2, …
fn table(models: &[&str]) -> PriceTable {
    PriceTable::new(models.iter().copied().zip((0..).map(price))).unwrap()
}

#[test]
fn an_exact_name_counts_first_and_then_the_most_specific_pattern() {
    let models =
        ["*", "gpt-5*", "gpt-5-mini*", "gpt-5", "anthropic/*", "*/claude-*", "*claude-haiku*"];
    for (model, entry) in [
        ("gpt-5", "gpt-5"),
        ("gpt-5-2025-08-07", "gpt-5*"),
        ("gpt-5-mini", "gpt-5-mini*"),
        ("gpt-5-min", "gpt-5*"),
        ("gpt-4", "*"),
        ("", "*"),
        ("GPT-5", "*"),
        ("anthropic/", "anthropic/*"),
        ("anthropic/claude-sonnet-4-5", "anthropic/*"),
        ("bedrock/claude-sonnet-4-5", "*/claude-*"),
        ("anthropic/claude-haiku-4-5", "*claude-haiku*"),
    ] {
        let expected = models.iter().position(|model| *model == entry).unwrap() as u64;
        assert_eq!(table(&models).of(model), Some(&price(expected)), "{model}");
        let mut reversed = models;
        reversed.reverse();
        let expected = reversed.iter().position(|model| *model == entry).unwrap() as u64;
        assert_eq!(table(&reversed).of(model), Some(&price(expected)), "{model}, reversed");
    }
}

#[test]
fn a_wildcard_stands_for_any_text() {
    for (pattern, yes, no) in [
        ("*", &["", "a", "gpt-5"][..], &[][..]),
        ("gpt-5*", &["gpt-5", "gpt-5.1", "gpt-5*"], &["gpt-", "a/gpt-5"]),
        ("*-mini", &["gpt-5-mini", "-mini"], &["gpt-5-mini-2025", "mini"]),
        ("a*b*c", &["abc", "aXbYc", "abbcc", "abcabc"], &["ac", "acb", "abcd", "ab"]),
        ("aa*aa", &["aaaa", "aabaa"], &["aaa", "aa"]),
        ("*ab*ab*", &["abab", "xabyabz"], &["ab", "aab", "abba"]),
        ("**", &["", "a"], &[]),
        ("é*ü", &["éü", "é🦀ü"], &["eu"]),
        ("*e\u{301}", &["caf\u{65}\u{301}"], &["café"]),
    ] {
        for model in yes {
            assert_eq!(table(&[pattern]).of(model), Some(&price(0)), "{pattern} {model}");
        }
        for model in no {
            assert_eq!(table(&[pattern]).of(model), None, "{pattern} {model}");
        }
    }
}

#[test]
fn of_patterns_alike_the_first_in_order_counts() {
    for models in [["gpt-*", "*gpt-"], ["*gpt-", "gpt-*"]] {
        let expected = models.iter().position(|model| *model == "*gpt-").unwrap() as u64;
        assert_eq!(table(&models).of("gpt-"), Some(&price(expected)));
    }
}

#[test]
fn any_name_of_a_model_finds_its_price() {
    let prices = table(&["*", "local", "meta/*", "meta/llama/local"]);
    for (names, entry) in [
        (&["meta/llama/local", "local"][..], 3),
        (&["local", "meta/llama/local"], 1),
        (&["meta/other", "local"], 1),
        (&["other", "meta/other"], 2),
        (&["other"], 0),
        (&[], 0),
    ] {
        assert_eq!(prices.of_any(names), Some(&price(entry)), "{names:?}");
    }
}

#[test]
fn a_name_that_is_too_long_matches_everything_only() {
    let long = "a".repeat(PriceTable::MAX_MODEL_BYTES + 1);
    let prices = table(&["a*", "*"]);
    assert_eq!(prices.of(&long), Some(&price(1)));
    assert_eq!(prices.of(&long[1..]), Some(&price(0)));
    assert_eq!(table(&["a*"]).of(&long), None);
}

#[test]
fn entries_have_bounds() {
    let one = |model: &str| PriceTable::new([(model, Price::FREE)]).map(|_| ());
    assert_eq!(one(""), Err(PriceTableError::Length { length: 0 }));
    assert_eq!(one(&"a".repeat(256)), Ok(()));
    assert_eq!(one(&"*".repeat(257)), Err(PriceTableError::Length { length: 257 }));
    for model in ["gpt-5", "gpt-5*"] {
        let twice = PriceTable::new([(model, price(1)), (model, price(2))]);
        assert_eq!(twice, Err(PriceTableError::Twice { model: model.to_owned() }));
    }
    let many =
        |count: usize| PriceTable::new((0..count).map(|model| (format!("a{model}*"), Price::FREE)));
    assert_eq!(many(PriceTable::MAX_ENTRIES).unwrap().len(), PriceTable::MAX_ENTRIES);
    assert_eq!(many(PriceTable::MAX_ENTRIES + 1), Err(PriceTableError::TooMany));
}

/// Fills a table with the slowest pattern to match. A matcher with backtracking would not end.
#[test]
fn a_lookup_allocates_nothing_and_ends_soon() {
    let dear = |number: usize| format!("*{}b*{number}", "a*".repeat(120));
    let prices = (0..PriceTable::MAX_ENTRIES).map(|number| (dear(number), Price::FREE));
    let prices = PriceTable::new(prices).unwrap();
    let model = "a".repeat(PriceTable::MAX_MODEL_BYTES);
    let allocated = allocation_counter::measure(|| assert_eq!(prices.of(&model), None));
    assert_eq!(allocated.count_total, 0);
}

#[test]
fn a_table_is_written_as_it_is_read() {
    let text = r#"
        ["gpt-5"]
        input = "1.25"
        output = 10
        ["gpt-5*"]
        request = "0.01"
        ["*"]
    "#;
    let prices: PriceTable = toml::from_str(text).unwrap();
    let json = json!({
        "gpt-5": {"input": "1.25", "output": "10.00"}, "gpt-5*": {"request": "0.01"}, "*": {},
    });
    assert_eq!(serde_json::to_value(&prices).unwrap(), json);
    assert_eq!(serde_json::from_value::<PriceTable>(json).unwrap(), prices);
    let toml = toml::Value::try_from(&prices).unwrap();
    assert_eq!(toml.try_into::<PriceTable>().unwrap(), prices);
    let models: Vec<&str> = prices.iter().map(|(model, _)| model).collect();
    assert_eq!(models, ["gpt-5", "gpt-5*", "*"]);
}

#[test]
fn the_sample_prices_are_found_by_the_names_of_providers() {
    let sample = include_str!("../../../examples/data/prices.toml");
    let prices: PriceTable = toml::from_str(sample).unwrap();
    for (model, input) in [
        ("gpt-5-2025-08-07", "1.25"),
        ("gpt-5-nano-2025-08-07", "0.05"),
        ("gpt-4o-mini", "0.15"),
        ("text-embedding-3-small", "0.02"),
        ("claude-sonnet-4-5-20250929", "3.00"),
        ("anthropic/claude-haiku-4-5", "1.00"),
        ("gemini-2.5-flash", "0.30"),
    ] {
        let usage = TokenUsage::new(1_000_000, 0);
        assert_eq!(
            prices.of(model).map(|price| price.of(&usage).to_string()).as_deref(),
            Some(input)
        );
    }
    for model in ["gpt-5-pro", "gpt-5.4", "gemini-2.5-flash-lite", "o3"] {
        assert_eq!(prices.of(model), None, "{model}");
    }
}

#[test]
fn an_entry_that_is_refused_is_named() {
    for (text, error) in [
        (r#"{"a": {}, "a": {}}"#, "\"a\" has two prices: remove one of them"),
        (r#"{"a*": {}, "a*": {}}"#, "\"a*\" has two prices: remove one of them"),
        (r#"{"": {}}"#, "a model in a price table has 0 bytes, but must have 1 to 256"),
        (r#"{"a": {"input": 0.5}}"#, "in quotes such as \"1.25\""),
        (r#"{"a": [1, 2]}"#, "invalid type: sequence, expected an object"),
        (r#"[["a", {}]]"#, "invalid type: sequence, expected a table of prices by model"),
        (r#"{"a": {"cached": 1}}"#, "unknown field `cached`"),
    ] {
        let message = serde_json::from_str::<PriceTable>(text).unwrap_err().to_string();
        assert!(message.contains(error), "{message}");
    }
    let many: serde_json::Map<_, _> =
        (0..=PriceTable::MAX_ENTRIES).map(|model| (model.to_string(), json!({}))).collect();
    let message = serde_json::from_value::<PriceTable>(many.into()).unwrap_err().to_string();
    assert_eq!(
        message,
        "a price table may have at most 5000 entries: join some of them by a pattern"
    );
}

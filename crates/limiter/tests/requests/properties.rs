//! Properties of any request.

use limiter::stream::{Api, ApiRequest, RequestChanges};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::corpus;

/// Names of all APIs, so that random JSON has a meaning.
const NAMES: [&str; 40] = [
    "model",
    "stream",
    "stream_options",
    "include_usage",
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n_predict",
    "generationConfig",
    "generation_config",
    "maxOutputTokens",
    "candidateCount",
    "messages",
    "content",
    "contents",
    "parts",
    "text",
    "type",
    "role",
    "image_url",
    "url",
    "detail",
    "input",
    "prompt",
    "query",
    "documents",
    "system",
    "tools",
    "source",
    "data",
    "inlineData",
    "fileData",
    "mimeType",
    "file_data",
    "input_audio",
    "video_url",
    "media_type",
    "other",
];

fn json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        ".{0,12}",
        Just(
            "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElE".to_owned()
        ),
        "data:[a-z/;,]{0,12}",
        "[A-Za-z0-9+/=]{60,80}",
        Just("https://example.com/a".to_owned()),
        Just("image".to_owned()),
    ];
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u64..2_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    scalar.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(NAMES.to_vec()), inner), 0..6).prop_map(
                |members| Value::from(
                    members
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect::<Map<_, _>>()
                )
            ),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    json().prop_map(|value| match value {
        Value::Object(_) => value,
        other => json!({ "messages": other }),
    })
}

fn api() -> impl Strategy<Value = Api> {
    prop::sample::select(Api::ALL.to_vec())
}

fn changes() -> impl Strategy<Value = RequestChanges> {
    (any::<bool>(), prop::option::of(0_u64..3_000)).prop_map(
        |(ask_for_usage, max_output_tokens)| RequestChanges { ask_for_usage, max_output_tokens },
    )
}

/// Removes the members that changes may have added or replaced.
fn without_changes(value: &Value) -> Value {
    let mut value = value.clone();
    let Some(members) = value.as_object_mut() else { return value };
    for name in
        ["max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "n_predict"]
    {
        members.remove(name);
    }
    for (name, inner) in [
        ("stream_options", &["include_usage"][..]),
        ("generationConfig", &["maxOutputTokens", "max_output_tokens"]),
        ("generation_config", &["maxOutputTokens", "max_output_tokens"]),
    ] {
        let is_empty = match members.get_mut(name) {
            Some(Value::Object(members)) => {
                members.retain(|name, _| !inner.contains(&&**name));
                members.is_empty()
            }
            _ => true,
        };
        if is_empty {
            members.remove(name);
        }
    }
    value
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(api in api(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(request) = ApiRequest::read(api, &body) {
            prop_assert!(request.estimate().charge().is_ok());
        }
    }

    #[test]
    fn any_object_is_held_and_rewritten_in_place(
        api in api(),
        value in object(),
        is_pretty in any::<bool>(),
        changes in changes(),
    ) {
        let write = if is_pretty { serde_json::to_vec_pretty } else { serde_json::to_vec };
        let body = write(&value).unwrap();
        let Ok(request) = ApiRequest::read(api, &body) else { return Ok(()) };
        prop_assert!(request.estimate().charge().is_ok());
        prop_assert!(request.answers() >= 1);
        let counted = ApiRequest::read_counting_by(api, &body, &|text| text.len() as u64).unwrap();
        prop_assert!(counted.input_tokens() >= request.input_tokens());
        let Some(made) = request.rewritten(&body, &changes) else { return Ok(()) };
        let parsed: Value = serde_json::from_slice(&made).unwrap();
        prop_assert_eq!(without_changes(&parsed), without_changes(&value));
        // A second rewrite changes nothing, and no answer may be longer.
        let again = ApiRequest::read(api, &made).unwrap();
        prop_assert_eq!(again.rewritten(&made, &changes), None);
        prop_assert_eq!(again.input_tokens(), request.input_tokens());
        if let (Some(most), true) = (changes.max_output_tokens, api.has_output()) {
            prop_assert!(again.max_output_tokens().is_none_or(|tokens| tokens <= most.max(1)));
        }
    }

    /// A further maximum of any value never makes the hold smaller.
    #[test]
    fn a_further_maximum_never_lowers_the_hold(
        first in 1_u64..5_000,
        further in prop_oneof![any::<i64>().prop_map(Value::from), any::<f64>().prop_map(Value::from), json()],
        answers in 1_u64..5,
    ) {
        let held = |body: &Value| {
            let body = serde_json::to_vec(body).unwrap();
            ApiRequest::read(Api::OpenAiChat, &body).unwrap().estimate().charge().unwrap().output_tokens()
        };
        let one = json!({ "max_tokens": first, "n": answers });
        let two = json!({ "max_tokens": first, "max_completion_tokens": further, "n": answers });
        prop_assert_eq!(held(&one), first * answers);
        prop_assert!(held(&two) >= held(&one));
    }
}

/// Each body of the table is refused if it is cut anywhere. Additional white space does not change its hold.
#[test]
fn the_table_holds_the_same_however_it_is_written() {
    for case in corpus() {
        for end in 0..case.body.trim_end().len() {
            assert!(ApiRequest::read(case.api, &case.body.as_bytes()[..end]).is_err(), "{case:?}");
        }
        let spaced = case.body.replace("\":", "\" :\t");
        if spaced.contains("{\\\"") || spaced.contains("\"tools\"") {
            continue;
        }
        let spaced = ApiRequest::read(case.api, spaced.as_bytes()).unwrap();
        let plain = ApiRequest::read(case.api, case.body.as_bytes()).unwrap();
        assert_eq!(spaced.max_output_tokens(), plain.max_output_tokens(), "{case:?}");
    }
}

/// Neither the stack nor the time grows out of bounds.
#[test]
fn deep_bodies_are_read_or_refused() {
    const DEEP: usize = 5_000;
    for api in Api::ALL {
        for name in ["messages", "input", "prompt", "documents", "contents", "system", "tools"] {
            let open = format!("{{\"{name}\":{}", "[{\"content\":[".repeat(DEEP));
            assert!(ApiRequest::read(api, open.as_bytes()).is_err());
            let closed = format!("{{\"{name}\":{}1{}}}", "[".repeat(DEEP), "]".repeat(DEEP));
            let _ = ApiRequest::read(api, closed.as_bytes());
        }
    }
}

#[test]
fn a_tokenizer_counts_each_string() {
    let body =
        br#"{"messages":[{"role":"user","content":"a b c"},{"role":"user","content":"d\te"}]}"#;
    let words = |text: &str| text.split_whitespace().count() as u64;
    let request = ApiRequest::read_counting_by(Api::OpenAiChat, body, &words).unwrap();
    assert_eq!(request.input_tokens(), 3 + 2 + 8 + 3);
}

/// Reading keeps no copy of the body, and allocates hardly any memory.
#[test]
fn a_request_is_read_without_a_copy() {
    let prompt = "All work and no play makes Jack a dull boy. ".repeat(50);
    let body = format!(
        r#"{{"model":"gpt-5","max_tokens":90,"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
    );
    let used = allocation_counter::measure(|| {
        ApiRequest::read(Api::OpenAiChat, body.as_bytes()).unwrap();
    });
    // The model's name, and the places of the maxima.
    assert_eq!(used.count_total, 2, "{used:?}");
    assert!(used.bytes_max < 512, "{used:?}");
}

//! The example `gateway`, run as a user runs it.

use std::path::PathBuf;
use std::process::Command;

#[test]
fn a_client_of_the_gateway_sees_its_limits_and_pays_for_what_it_got() {
    let test = std::env::current_exe().expect("a test is a file");
    let folder: PathBuf = test.ancestors().nth(2).expect("it lies in deps").into();
    let example = folder.join("examples").join("gateway");
    let ran = Command::new(&example).output();
    let ran =
        ran.unwrap_or_else(|error| panic!("{example:?}: {error}; cargo build --examples makes it"));
    assert!(ran.status.success(), "{ran:?}");
    let text = String::from_utf8(ran.stdout).unwrap();
    let answers: Vec<&str> = text.split("<-- ").skip(1).collect();
    let [whole, streamed, limited, unknown] = answers[..] else {
        panic!("four answers are expected: {text}")
    };

    assert!(whole.starts_with("200 OK"), "{whole}");
    // 5 tokens in and at most 50 out are estimated.
    assert!(whole.contains("x-ratelimit-remaining-tokens: 45"), "{whole}");
    assert!(whole.contains("Sunny, with a chance of crabs."), "{whole}");

    assert!(streamed.starts_with("200 OK"), "{streamed}");
    assert!(streamed.contains("content-type: text/event-stream"), "{streamed}");
    // The first call was settled at 11 tokens meanwhile.
    assert!(streamed.contains("x-ratelimit-remaining-tokens: 34"), "{streamed}");
    assert!(streamed.contains("data: [DONE]"), "{streamed}");

    assert!(limited.starts_with("429 Too Many Requests"), "{limited}");
    assert!(limited.contains("retry-after: 31"), "{limited}");
    assert!(limited.contains(r#""binding": "asset/minute/tokens""#), "{limited}");

    assert!(unknown.starts_with("401 Unauthorized"), "{unknown}");
    let tokens = unknown.lines().find(|line| line.starts_with("gpt-5, tokens per minute"));
    let tokens: Vec<&str> = tokens.expect("it is in the table").split_whitespace().collect();
    assert_eq!(tokens[4..7], ["22", "100", "78"], "both answers are settled: {unknown}");
}

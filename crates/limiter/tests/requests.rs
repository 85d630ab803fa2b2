//! Requests to providers and their cost estimates: one table, read by one test, and properties of any request.

mod anthropic;
mod case;
mod gemini;
mod media;
mod openai_chat;
mod openai_others;
mod properties;
mod refused;
mod rewritten;

use limiter::stream::ApiRequest;

use self::case::Case;

/// The table.
fn corpus() -> impl Iterator<Item = &'static Case> {
    [openai_chat::CASES, openai_others::CASES, anthropic::CASES, gemini::CASES]
        .into_iter()
        .flatten()
}

#[test]
fn a_request_holds_what_it_allows() {
    for case in corpus() {
        let request = ApiRequest::read(case.api, case.body.as_bytes());
        let request = request.unwrap_or_else(|error| panic!("{error}: {case:?}"));
        let held = request.estimate().charge().unwrap();
        let held = (held.input_tokens(), held.output_tokens());
        assert_eq!(held, (case.input, case.output), "{}, {}: {}", case.api, case.name, case.body);
        assert_eq!(request.input_tokens(), case.input);
    }
}

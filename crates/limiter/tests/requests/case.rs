//! One request to a provider, with the tokens that it holds.

use limiter::stream::Api;

/// The body of a request, as a client sends it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) api: Api,
    pub(crate) body: &'static str,
    pub(crate) input: u64,
    pub(crate) output: u64,
}

pub(crate) const fn case(
    api: Api,
    name: &'static str,
    body: &'static str,
    input: u64,
    output: u64,
) -> Case {
    Case { name, api, body, input, output }
}

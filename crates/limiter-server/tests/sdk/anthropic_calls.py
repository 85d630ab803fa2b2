"""The calls of the official Anthropic SDK, as it comes from PyPI, against a local gateway: see trial.py for the environment.

Prints the outcome of each call; the first failure ends the program with a traceback.
"""

from functools import cache

from anthropic import (
    Anthropic, APIStatusError, AuthenticationError, BadRequestError, NotFoundError, RateLimitError, __version__,
)

from trial import (
    BASE_URL, CLOCK, HAS_MORE, KEYS, LONG_PROMPT, MODEL, PROMPT, TEXT, TOO_LONG_BYTES, UNKNOWN_KEY, Watched, charged, show,
    used, within_a_minute,
)

MESSAGES = [{"role": "user", "content": PROMPT}]


@cache
def client(key):
    return Anthropic(base_url=BASE_URL, api_key=KEYS.get(key, key))


def message(key, **more):
    return client(key).messages.create(**{"model": MODEL, "messages": MESSAGES, "max_tokens": 10, **more})


def tokens_of(usage):
    """The tokens of an answer. `input_tokens` excludes cached tokens."""
    cached = usage.cache_creation_input_tokens + usage.cache_read_input_tokens
    return usage.input_tokens + cached + usage.output_tokens


def answers():
    call = "messages.create"
    with charged(call, lambda: tokens_of(answer.usage)):
        answer = message("ample")
    assert answer.content[0].text == TEXT and answer.stop_reason == "end_turn"
    usage, tokens = answer.usage, tokens_of(answer.usage)
    figures = [usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens, usage.output_tokens]
    show(call, f"the text; {' + '.join(map(str, figures))} tokens reported, {tokens} charged")

    call = "messages.create(stream=True)"
    with charged(call, lambda: tokens):
        events = list(message("ample", stream=True))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"], kinds
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"], kinds
    assert "".join(event.delta.text for event in events if event.type == "content_block_delta") == TEXT
    assert events[-2].usage.output_tokens == usage.output_tokens
    show(call, f"all {len(events)} events; {tokens} tokens charged")

    call = "messages.stream"
    with charged(call, lambda: tokens):
        with client("ample").messages.stream(model=MODEL, messages=MESSAGES, max_tokens=100) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
    assert text == TEXT == final.content[0].text and tokens_of(final.usage) == tokens, final
    show(call, f"the text and the usage, put together by the SDK; {tokens} tokens charged")

    call = "beta.messages.create"
    with charged(call, lambda: tokens):
        answer = client("ample").beta.messages.create(
            model=MODEL, messages=MESSAGES, max_tokens=100, betas=["a-beta-2026-01-01"])
    assert answer.content[0].text == TEXT
    show(call, f"the text; {tokens} tokens charged")

    raw = client("ample").messages.with_raw_response.create(model=MODEL, messages=MESSAGES, max_tokens=100)
    names = [f"anthropic-ratelimit-{name}" for name in ["tokens-limit", "tokens-remaining", "requests-remaining"]]
    limit, tokens, requests = (int(raw.headers[name]) for name in names)
    assert 0 < tokens < limit and requests > 0
    show("with_raw_response", ", ".join(f"{name}: {raw.headers[name]}" for name in names))


def denials():
    within_a_minute(denial_within_the_bound)

    message("day")
    limit, kind = "requests per day", "rate_limit_error"
    refused = Watched(lambda: message("day")).refused(RateLimitError, 429, limit, kind)
    show("a second call in a day", refused.shown(), refused.as_told())

    def stream():
        with client("day").messages.stream(model=MODEL, messages=MESSAGES, max_tokens=10):
            pass

    for call, make in [
        ("messages.create(stream=True)", lambda: message("day", stream=True)), ("messages.stream", stream),
    ]:
        refused = Watched(make).refused(RateLimitError, 429, limit, kind)
        show(f"a second call in a day, {call}", f"type {kind}", refused.as_told())
    assert used("day")[0] == 1, "denials are free"

    long = [{"role": "user", "content": LONG_PROMPT}]
    refused = Watched(lambda: message("small", messages=long)).refused(RateLimitError, 429, "200 tokens per day", kind)
    show("a call that never fits", refused.shown(), refused.never())

    refused = Watched(lambda: message("poor")).refused(APIStatusError, 402, "credits in all", "billing_error")
    show("a call beyond the budget", refused.shown(), refused.never())


def denial_within_the_bound(key):
    message(key)
    watched = Watched(lambda: message(key))
    if CLOCK:
        assert watched.answer.content[0].text == TEXT
        show("a second call in a minute", watched.as_told())
        return
    watched.refused(RateLimitError, 429, "requests per minute", "rate_limit_error")
    show("a second call in a minute", watched.shown(), watched.as_told())


def refusals():
    refused = Watched(lambda: message(UNKNOWN_KEY))
    refused.refused(AuthenticationError, 401, "key", "authentication_error")
    show("an unknown key", refused.shown(), refused.at_once())

    for what, body in [("a model that is no text", {"model": 7}), ("a body that is no object", [1])]:
        make = lambda: client("ample").post("/v1/messages", cast_to=object, body=body)  # noqa: B023, E731
        refused = Watched(make).refused(BadRequestError, 400, "the request", "invalid_request_error")
        show(what, refused.shown(), refused.at_once())

    if TOO_LONG_BYTES:
        long = [{"role": "user", "content": "a" * TOO_LONG_BYTES}]
        refused = Watched(lambda: message("ample", messages=long)).refused(APIStatusError, 413, "bytes", "request_too_large")
        show("a body that is too long", refused.shown(), refused.at_once())

    if HAS_MORE:
        refused = Watched(lambda: message("ample", model="claude-9")).refused(NotFoundError, 404, "claude-9", "not_found_error")
        show("an unknown model", refused.shown(), refused.at_once())


def stream_that_ends_at_a_limit():
    def make():
        for event in message("cut3", stream=True, max_tokens=2):
            if event.type == "content_block_delta":
                texts.append(event.delta.text)

    texts = []
    watched = Watched(make)
    text = "".join(texts)
    assert isinstance(watched.error, APIStatusError), watched.error
    assert "20 tokens per day" in str(watched.error) and watched.error.type == "rate_limit_error"
    assert 0 < len(text) < len(TEXT) and TEXT.startswith(text), text
    assert watched.statuses == [200]
    show("a stream that ends at a limit", repr(text), watched.shown(), f"{used('cut3')[1]} tokens charged")


print(f"anthropic {__version__}")
answers()
denials()
refusals()
if "cut3" in KEYS:
    stream_that_ends_at_a_limit()

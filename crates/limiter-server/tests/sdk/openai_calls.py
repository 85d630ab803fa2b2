"""The calls of the official OpenAI SDK, as it comes from PyPI, against a local gateway: see trial.py for the environment.

Prints the outcome of each call; the first failure ends the program with a traceback.
"""

from functools import cache

from openai import (
    APIError, APIStatusError, AuthenticationError, BadRequestError, NotFoundError, OpenAI, RateLimitError, __version__,
)

from trial import (
    BASE_URL, CLOCK, HAS_MORE, KEYS, LONG_PROMPT, MODEL, PROMPT, TEXT, TOO_LONG_BYTES, UNKNOWN_KEY, Watched, charged, show,
    used, within_a_minute,
)

MESSAGES = [{"role": "user", "content": PROMPT}]


@cache
def client(key):
    return OpenAI(base_url=BASE_URL + "/v1", api_key=KEYS.get(key, key))


def chat(key, **more):
    return client(key).chat.completions.create(**{"model": MODEL, "messages": MESSAGES, **more})


def whole(call, make, tokens):
    """Makes a call with an answer in one piece, and asserts that its reported usage is charged. `tokens` sums a usage."""
    with charged(call, lambda: tokens(answer.usage)):
        answer = make()
    return answer


def of_chat(usage):
    return usage.prompt_tokens + usage.completion_tokens


def of_responses(usage):
    return usage.input_tokens + usage.output_tokens


def answers_of_chat():
    call = "chat.completions.create"
    answer = whole(call, lambda: chat("ample"), of_chat)
    usage, tokens = answer.usage, of_chat(answer.usage)
    assert answer.choices[0].message.content == TEXT and answer.choices[0].finish_reason == "stop"
    show(call, f"the text; {usage.prompt_tokens} + {usage.completion_tokens} tokens reported, {tokens} charged")

    call = "chat.completions.create(stream=True)"
    with charged(call, lambda: tokens):
        chunks = list(chat("ample", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert all(chunk.choices and chunk.usage is None for chunk in chunks), chunks
    show(call, f"the text; no chunk with usage, {tokens} tokens charged")

    call = "chat.completions.create(stream=True, stream_options={'include_usage': True})"
    with charged(call, lambda: tokens):
        *chunks, last = chat("ample", stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert last.choices == [] and last.usage == usage and all(chunk.usage is None for chunk in chunks), chunks
    show(call, f"the text; the last chunk has the usage, {tokens} tokens charged")

    call = "chat.completions.stream"
    with charged(call, lambda: tokens):
        with client("ample").chat.completions.stream(model=MODEL, messages=MESSAGES) as stream:
            final = stream.get_final_completion()
    assert final.choices[0].message.content == TEXT and final.usage is None
    show(call, f"the text, put together by the SDK; {tokens} tokens charged")


def answers_of_completions():
    call = "completions.create"
    make = lambda **more: client("ample").completions.create(model=MODEL, prompt=PROMPT, **more)  # noqa: E731
    answer = whole(call, make, of_chat)
    tokens = of_chat(answer.usage)
    with charged(call, lambda: tokens):
        chunks = list(make(stream=True))
    assert answer.choices[0].text == TEXT == "".join(chunk.choices[0].text for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks), chunks
    show(call, f"the text, whole and streamed; {tokens} tokens charged each")


def answers_of_other_apis():
    call = "responses.create"
    answer = whole(call, lambda: client("ample").responses.create(model=MODEL, input=PROMPT), of_responses)
    usage, tokens = answer.usage, of_responses(answer.usage)
    assert answer.output_text == TEXT and answer.status == "completed"
    show(call, f"the text; {usage.input_tokens} + {usage.output_tokens} tokens reported, {tokens} charged")

    call = "responses.create(stream=True)"
    with charged(call, lambda: tokens):
        events = list(client("ample").responses.create(model=MODEL, input=PROMPT, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"] and kinds[-1] == "response.completed", kinds
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.usage == usage
    show(call, f"all {len(events)} events, the usage in the last; {tokens} tokens charged")

    call = "responses.stream"
    with charged(call, lambda: tokens):
        with client("ample").responses.stream(model=MODEL, input=PROMPT) as stream:
            assert stream.get_final_response().output_text == TEXT
    show(call, f"the text, put together by the SDK; {tokens} tokens charged")

    call = "embeddings.create"
    make = lambda: client("ample").embeddings.create(model=MODEL, input=[PROMPT, TEXT])  # noqa: E731
    answer = whole(call, make, lambda usage: usage.prompt_tokens)
    assert answer.data[0].embedding == [0.5, -0.25]
    show(call, f"the vector; {answer.usage.prompt_tokens} tokens reported and charged")

    raw = client("ample").chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
    names = ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-remaining-requests"]
    limit, tokens, requests = (int(raw.headers[name]) for name in names)
    assert 0 < tokens < limit and requests > 0
    show("with_raw_response", ", ".join(f"{name}: {raw.headers[name]}" for name in names))


def denials():
    within_a_minute(denial_within_the_bound)

    chat("day")
    limit, code = "requests per day", "rate_limit_exceeded"
    refused = Watched(lambda: chat("day")).refused(RateLimitError, 429, limit, code)
    assert refused.error.type == "requests"
    show("a second call in a day", refused.shown(), refused.as_told())
    for call, make in [
        ("chat.completions.create(stream=True)", lambda: chat("day", stream=True)),
        ("responses.create", lambda: client("day").responses.create(model=MODEL, input=PROMPT)),
        ("embeddings.create", lambda: client("day").embeddings.create(model=MODEL, input=PROMPT)),
    ]:
        refused = Watched(make).refused(RateLimitError, 429, limit, code)
        show(f"a second call in a day, {call}", f"code {code}", refused.as_told())
    assert used("day")[0] == 1, "denials are free"

    long = [{"role": "user", "content": LONG_PROMPT}]
    refused = Watched(lambda: chat("small", messages=long)).refused(RateLimitError, 429, "200 tokens per day", code)
    assert refused.error.type == "tokens"
    show("a call that never fits", refused.shown(), refused.never())

    refused = Watched(lambda: chat("poor")).refused(RateLimitError, 429, "credits in all", "insufficient_quota")
    show("a call beyond the budget", refused.shown(), refused.never())


def denial_within_the_bound(key):
    chat(key)
    watched = Watched(lambda: chat(key))
    if CLOCK:
        assert watched.answer.choices[0].message.content == TEXT
        show("a second call in a minute", watched.as_told())
        return
    watched.refused(RateLimitError, 429, "requests per minute", "rate_limit_exceeded")
    show("a second call in a minute", watched.shown(), watched.as_told())


def refusals():
    refused = Watched(lambda: chat(UNKNOWN_KEY)).refused(AuthenticationError, 401, "key", "invalid_api_key")
    show("an unknown key", refused.shown(), refused.at_once())

    for what, body in [("a model that is no text", {"model": 7}), ("a body that is no object", [1])]:
        make = lambda: client("ample").post("/chat/completions", cast_to=object, body=body)  # noqa: B023, E731
        refused = Watched(make)
        refused.refused(BadRequestError, 400, "the request", refused.error.code)
        assert refused.error.type == "invalid_request_error"
        show(what, refused.shown(), refused.at_once())

    if TOO_LONG_BYTES:
        make = lambda: client("ample").responses.create(model=MODEL, input="a" * TOO_LONG_BYTES)  # noqa: E731
        refused = Watched(make).refused(APIStatusError, 413, "bytes", "request_too_large")
        show("a body that is too long", refused.shown(), refused.at_once())

    if HAS_MORE:
        assert [model.id for model in client("ample").models.list()] == [MODEL]
        show("models.list", MODEL)
        refused = Watched(lambda: chat("ample", model="gpt-6")).refused(NotFoundError, 404, "gpt-6", "model_not_found")
        show("an unknown model", refused.shown(), refused.at_once())


def streams_that_end_at_a_limit():
    def of_responses():
        events = client("cut2").responses.create(model=MODEL, input=PROMPT, stream=True, max_output_tokens=2)
        for event in events:
            if event.type == "response.output_text.delta":
                texts.append(event.delta)

    def of_chat():
        for chunk in chat("cut1", stream=True, max_tokens=2):
            texts.append(chunk.choices[0].delta.content or "")

    for call, key, make in [("chat.completions.create", "cut1", of_chat), ("responses.create", "cut2", of_responses)]:
        texts = []
        watched = Watched(make)
        text = "".join(texts)
        assert isinstance(watched.error, APIError), watched.error
        assert "20 tokens per day" in watched.error.message and watched.error.code == "rate_limit_exceeded"
        assert 0 < len(text) < len(TEXT) and TEXT.startswith(text), text
        assert watched.statuses == [200] and used(key)[1] <= 20
        show(f"a stream that ends at a limit, {call}", repr(text), watched.shown(), f"{used(key)[1]} tokens charged")


print(f"openai {__version__}")
answers_of_chat()
answers_of_other_apis()
if HAS_MORE:
    answers_of_completions()
denials()
refusals()
if "cut1" in KEYS:
    streams_that_end_at_a_limit()

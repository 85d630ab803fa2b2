"""Calls of the SDKs of OpenAI and Anthropic against a local server, unmodified and with their default retries.

The arguments are a URL, a key, and a key whose limit of the day is used up, for each server. The model `far` has a provider that
answers with "Hi there" to each API. Prints a line for each call with its outcome; the first that is not as it should be ends the
program with a traceback.
"""

import sys
import time

import anthropic
import openai

MESSAGES = [{"role": "user", "content": "Say hi"}]
# A client that waits for a limit of the day does not come back; one that repeats the call sleeps for some seconds.
AT_ONCE_S = 5


def told(call, outcome):
    print(f"{call} | {outcome}", flush=True)


def refused(call, expected, code, says):
    """The call raises this error at once, with its code and a message that says this."""
    started = time.monotonic()
    try:
        call()
    except expected as error:
        waited = time.monotonic() - started
        assert waited < AT_ONCE_S, f"it slept for {waited} s"
        body = error.body.get("error", error.body)
        found = body.get("code") or body["type"]
        assert found == code and says in body["message"] and says in str(error), error
        told(expected.__name__, f"{found}: {body['message']}")
    else:
        raise AssertionError(f"{expected.__name__} was not raised")


def call(url, key, full):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key)
    answer = client.chat.completions.create(model="far", messages=MESSAGES, max_tokens=20)
    assert answer.choices[0].message.content == "Hi there", answer
    assert answer.usage.total_tokens == 7, answer
    told("chat", answer.usage.total_tokens)

    # Without `include_usage` there is no chunk without choices.
    chunks = client.chat.completions.create(model="far", messages=MESSAGES, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "Hi there", text
    told("chat stream", text)
    chunks = client.chat.completions.create(
        model="far", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(chunks)
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 7, chunks
    told("chat stream with usage", chunks[-1].usage.total_tokens)

    answer = client.completions.create(model="far", prompt="Say hi", max_tokens=20)
    assert answer.choices[0].text == "Hi there", answer
    told("completions", answer.usage.total_tokens)

    answer = client.responses.create(model="far", input="Say hi")
    assert answer.output_text == "Hi there", answer
    told("responses", answer.usage.total_tokens)
    events = client.responses.create(model="far", input="Say hi", stream=True)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == "Hi there", text
    told("responses stream", text)

    answer = client.embeddings.create(model="far", input=["Hi"], encoding_format="float")
    assert answer.data[0].embedding == [0.5, 0.25], answer
    told("embeddings", answer.usage.total_tokens)

    models = [model.id for model in client.models.list()]
    assert models == ["far"], models
    told("models", models)

    client = anthropic.Anthropic(base_url=url, api_key=key)
    answer = client.messages.create(model="far", messages=MESSAGES, max_tokens=20)
    assert answer.content[0].text == "Hi there", answer
    told("messages", answer.usage.output_tokens)
    with client.messages.stream(model="far", messages=MESSAGES, max_tokens=20) as stream:
        text = "".join(stream.text_stream)
    assert text == "Hi there", text
    told("messages stream", text)

    def chat(key, model="far"):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=key)
        return lambda: client.chat.completions.create(model=model, messages=MESSAGES)

    def message(key, model="far"):
        client = anthropic.Anthropic(base_url=url, api_key=key)
        return lambda: client.messages.create(model=model, messages=MESSAGES, max_tokens=20)

    refused(chat(full), openai.RateLimitError, "rate_limit_exceeded", "requests per day")
    refused(chat(key, "gpt-6"), openai.NotFoundError, "model_not_found", "gpt-6")
    refused(chat("an-unknown-key-7Qm2vXc94bLr"), openai.AuthenticationError, "invalid_api_key", "access key")
    refused(message(full), anthropic.RateLimitError, "rate_limit_error", "requests per day")
    refused(message(key, "gpt-6"), anthropic.NotFoundError, "not_found_error", "gpt-6")
    refused(
        message("an-unknown-key-7Qm2vXc94bLr"),
        anthropic.AuthenticationError,
        "authentication_error",
        "access key",
    )


for url, key, full in zip(sys.argv[1::3], sys.argv[2::3], sys.argv[3::3], strict=True):
    call(url, key, full)

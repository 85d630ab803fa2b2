"""Shared code of the SDK scripts: the gateway, its keys, its charges, and the reactions of an SDK to a refusal.

The environment:
  BASE_URL        the gateway. GET BASE_URL/v1/usage answers what a key has used today
  MODEL           a model of the provider behind it
  KEYS            access keys by name, as a JSON object:
                    ample           has limits that no call here reaches
                    minute, minute2 one request a minute
                    day             one request a day
                    small           200 tokens a day
                    poor            a budget that no call fits into
                    cut1 to cut3    20 tokens a day, if the gateway ends streams at a limit
  TOO_LONG_BYTES  if the gateway refuses a request with a prompt of this size
  CLOCK           if the clock of the limits stands: POST CLOCK/SECONDS moves it
  HAS_MORE        if the gateway has /v1/completions and /v1/models too
"""

import contextlib
import json
import logging
import os
import time
import urllib.error
import urllib.request

BASE_URL = os.environ["BASE_URL"]
MODEL = os.environ["MODEL"]
KEYS = json.loads(os.environ["KEYS"])
TOO_LONG_BYTES = int(os.environ.get("TOO_LONG_BYTES", 0))
CLOCK = os.environ.get("CLOCK")
HAS_MORE = "HAS_MORE" in os.environ

PROMPT = "How is the weather today?"
# More tokens than the key "small" may ever use at once.
LONG_PROMPT = PROMPT * 100
UNKNOWN_KEY = "sk-of-nobody-7Qm2vXc94bLrT0pWz"
TEXT = "It will be sunny in the morning, cloudy after noon, with a small chance of crabs at night."

# The longest wait after which a client retries automatically, in seconds.
RETRY_BOUND = 60
# The longest duration of a call that does not wait, in seconds, on a busy machine.
AT_ONCE = 5


def show(call, *outcome):
    print(" | ".join([call, *outcome]), flush=True)


def used(key):
    """Requests and tokens of a key today, as the limiter shows them."""
    request = urllib.request.Request(BASE_URL + "/v1/usage", headers={"authorization": f"Bearer {KEYS[key]}"})
    with urllib.request.urlopen(request) as answer:
        scopes = json.load(answer)["scopes"]
    account = next(scope["account"] for scope in scopes if scope["scope"] == "global")
    return account["requests"], account["input_tokens"] + account["output_tokens"]


class Requests(logging.Handler):
    """The statuses in the log of the SDK's HTTP client."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.statuses = []
        for name in ["httpx", "httpx2"]:
            logging.getLogger(name).setLevel(logging.INFO)
            logging.getLogger(name).addHandler(self)

    def emit(self, record):
        # Such as: HTTP Request: POST http://… "HTTP/1.1 429 Too Many Requests"
        message = record.getMessage()
        if message.startswith("HTTP Request: "):
            self.statuses.append(int(message.split('"HTTP/1.1 ')[1].split()[0]))


REQUESTS = Requests()


@contextlib.contextmanager
def charged(call, tokens):
    """Asserts that one call of the key "ample" is charged these tokens when it ends. `tokens` is called after it.

    An SDK leaves a stream at `data: [DONE]`, and the gateway settles at the end of the body, which comes after it.
    """
    before = used("ample")
    yield
    wanted, deadline = (1, tokens()), time.monotonic() + AT_ONCE
    while True:
        after = used("ample")
        found = (after[0] - before[0], after[1] - before[1])
        if found == wanted or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    assert found == wanted, f"{call}: charged {found}, and not {wanted}"


class Watched:
    """A call with its requests and sleeps. Sleeps are recorded instead of slept, and advance a stopped clock."""

    def __init__(self, call):
        self.sleeps, self.answer, self.error = [], None, None
        before = len(REQUESTS.statuses)
        really_sleep, time.sleep = time.sleep, self.sleep
        started = time.monotonic()
        try:
            self.answer = call()
        except Exception as error:
            self.error = error
        finally:
            time.sleep = really_sleep
        self.statuses = REQUESTS.statuses[before:]
        elapsed = time.monotonic() - started
        assert elapsed < AT_ONCE, f"it took {elapsed:.1f} s"

    def sleep(self, seconds):
        self.sleeps.append(seconds)
        if CLOCK:
            urllib.request.urlopen(urllib.request.Request(f"{CLOCK}/{seconds:.0f}", method="POST")).close()

    def refused(self, kind, status, text, code):
        """Asserts that the call ended with this error of the SDK, which shows our message and code."""
        assert isinstance(self.error, kind), self.error or self.answer
        assert self.error.status_code == status, self.error
        assert text in str(self.error) and text in self.error.message, self.error
        assert set(self.statuses) == {status}, self.statuses
        found = getattr(self.error, "code", None) or self.error.type
        assert found == code, found
        return self

    def shown(self):
        """The error as a user sees it."""
        return f"{type(self.error).__name__}: {self.error}"

    def header(self, name):
        return self.error.response.headers.get(name)

    def at_once(self):
        assert (len(self.statuses), self.sleeps) == (1, []), (self.statuses, self.sleeps)
        return "1 request, no sleep"

    def never(self):
        """Asserts that the answer advises against a retry, because no wait helps."""
        assert self.header("retry-after") is None and self.header("x-should-retry") == "false", self.error.response.headers
        return "no retry-after, " + self.at_once()

    def as_told(self):
        """Asserts that the SDK retries after each `Retry-After` within the bound, and raises at once beyond it."""
        if self.error is None:
            assert self.statuses == [429, 200], self.statuses
            (slept,) = self.sleeps
            assert 1 <= slept <= RETRY_BOUND, slept
            return f"429, slept {slept:g} s as told, then 200"
        told = int(self.header("retry-after"))
        if told > RETRY_BOUND:
            assert self.header("x-should-retry") == "false"
            return f"retry-after: {told}, " + self.at_once()
        assert told >= 1 and self.header("x-should-retry") is None
        assert len(self.statuses) == 3 and len(self.sleeps) == 2, (self.statuses, self.sleeps)
        # The server's clock advances between the answers.
        assert all(told <= slept <= told + 1 for slept in self.sleeps), (told, self.sleeps)
        return f"retry-after: {told}, 3 requests, would have slept {self.sleeps[0]:g} s and {self.sleeps[1]:g} s"


def within_a_minute(story):
    """Runs a story within one minute of the clock: if the minute ended, runs it again with another key."""
    minute = time.time() // 60
    try:
        story("minute")
    except AssertionError:
        if CLOCK or time.time() // 60 == minute:
            raise
        story("minute2")

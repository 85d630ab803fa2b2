"""Every call of the aiXplain SDK that has to do with keys, limits and runs, v2 and v1, against a local server.

The environment has BACKEND_URL, MODELS_RUN_URL, AIXPLAIN_ALLOW_INSECURE_URLS and TEAM_API_KEY, the admin key of a
workspace without other keys. Prints a line for each call with its outcome; the first that is not as it should be ends
the program with a traceback.
"""

import logging
import os
import time
import warnings
from datetime import datetime, timedelta, timezone

warnings.simplefilter("ignore")
os.environ["AIXPLAIN_SUPPRESS_V1_DEPRECATION"] = "1"
logging.disable(logging.CRITICAL)

from aixplain import Aixplain  # noqa: E402
from aixplain.factories import ModelFactory  # noqa: E402
from aixplain.factories.api_key_factory import APIKeyFactory  # noqa: E402
from aixplain.modules.api_key import APIKeyLimits as V1Limits, TokenType as V1TokenType  # noqa: E402
from aixplain.v2.api_key import APIKeyLimits, TokenType  # noqa: E402

ADMIN = os.environ["TEAM_API_KEY"]
MINI = "669a63646eb56306647e1091"
GPT5 = "openai/gpt-5/openai"
GPT51 = "openai/gpt-5.1/openai"


def told(call, outcome):
    print(f"{call} | {outcome}", flush=True)


def status_of(call):
    """The status of the error that a call ends with."""
    try:
        answer = call()
    except Exception as error:
        seen = error
        while seen is not None:
            if getattr(seen, "status_code", None):
                return seen.status_code, str(error)
            seen = seen.__cause__
        return 0, str(error)
    raise AssertionError(f"it was allowed: {answer}")


def room_in_this_minute(seconds):
    """Waits for the next minute if this one ends too soon: what follows is to happen within one."""
    left = 60 - time.time() % 60
    if left < seconds:
        time.sleep(left + 0.1)


def client(key):
    return Aixplain(api_key=key)


def keys_v2():
    admin = client(ADMIN)
    key = admin.APIKey.create(
        name="member-key-1",
        budget=1000,
        global_limits=APIKeyLimits(token_per_minute=100, token_per_day=1000, request_per_minute=100, request_per_day=1000),
        asset_limits=[
            APIKeyLimits(model=GPT5, token_per_minute=10, token_per_day=30, request_per_minute=2, request_per_day=2,
                         token_type=TokenType.OUTPUT),
            APIKeyLimits(model=MINI, request_per_day=5, token_per_day=5000),
        ],
        expires_at=datetime(2030, 1, 1),
    )
    secret = key.key
    assert key.id and len(secret) >= 22 and "*" not in secret and key.is_admin is False
    assert key.budget == 1000 and key.expires_at == "2030-01-01T00:00:00.000000Z"
    assert key.asset_limits[0].model == GPT5, key.asset_limits
    told("v2 APIKey.create", "the key with its whole access key; the path of a model became its id")

    found = admin.APIKey.get(key.id)
    assert found.name == "member-key-1" and found.key == f"{secret[:4]}****{secret[-4:]}"
    assert found.global_limits.request_per_minute == 100
    gpt5 = next(limit for limit in found.asset_limits if limit.token_type == TokenType.OUTPUT)
    assert (gpt5.token_per_minute, gpt5.request_per_day) == (10, 2)
    told("v2 APIKey.get", "the same key, its access key masked")

    rows = admin.APIKey.search().results
    assert [row.is_admin for row in rows] == [False, True], rows
    assert [row.name for row in admin.APIKey.list()] == ["member-key-1", "admin"]
    told("v2 APIKey.search, APIKey.list", "all keys, members first")

    assert admin.APIKey.get_by_access_key(secret).id == key.id
    told("v2 APIKey.get_by_access_key", "found by its first and last four characters")
    assert "not found" in status_of(lambda: admin.APIKey.get_by_access_key("x" * 30))[1]
    told("v2 APIKey.get_by_access_key of no key", "the SDK finds none")

    # The snippet of the SDK's documentation: change the limits of the first key of the list, and save it.
    first = admin.APIKey.list()[0]
    first.set_token_per_day(2000)
    first.set_request_per_day(3, model=GPT5)
    first.budget = 5.0
    first.save()
    again = admin.APIKey.get(key.id)
    assert again.global_limits.token_per_day == 2000 and again.budget == 5
    assert again.expires_at == "2030-01-01T00:00:00.000000Z"
    told("v2 set_token_per_day, set_request_per_day, save", "configured; what was not changed came back as it was")

    again.budget, again.expires_at = None, "2031-01-01T00:00:37Z"
    again.save()
    again = admin.APIKey.get(key.id)
    assert again.budget is None and again.expires_at.startswith("2031-01-01T00:00:37"), again.expires_at
    told("v2 save without a budget", "the budget is cleared: a save replaces")

    twin = admin.APIKey.create(name="member-key-1", budget=7, global_limits=APIKeyLimits(request_per_minute=3))
    assert twin.id == key.id and len(admin.APIKey.list()) == 2
    told("v2 APIKey.create with a name that exists", "an update of that key, as the SDK makes it")

    payload = {"name": "member-key-1", "budget": None, "assetsLimits": []}
    assert status_of(lambda: admin.client.request("POST", "sdk/api-keys", json=payload))[0] == 422
    told("POST of a name that exists, without the SDK's look before", "422")
    assert status_of(lambda: admin.APIKey.get("no-such-key"))[0] == 404
    told("v2 APIKey.get of an unknown id", "404")
    twin.delete()
    assert [row.name for row in admin.APIKey.list()] == ["admin"]
    told("v2 delete", "gone from the list")
    assert status_of(lambda: client(secret).APIKey.get_usage_limits())[0] == 401
    told("v2 any call with the access key of a deleted key", "401")


def runs_v2():
    admin = client(ADMIN)
    key = admin.APIKey.create(
        name="runner", budget=0.001, global_limits=APIKeyLimits(request_per_day=100),
        asset_limits=[
            APIKeyLimits(model=GPT5, request_per_minute=2),
            APIKeyLimits(model=GPT51, token_per_day=6, token_type=TokenType.INPUT),
            APIKeyLimits(model=MINI, request_per_day=5, token_per_day=5000),
        ],
    )
    secret = key.key
    member = client(secret)
    assert status_of(lambda: member.APIKey.list())[1].find("Forbidden") >= 0
    told("v2 APIKey.list by a member key", "403 Forbidden")

    model = member.Model.get(GPT5)
    assert model.path == GPT5 and model.is_sync_only and "/" not in model.id
    assert admin.Model.get(MINI).id == MINI
    told("v2 Model.get by path, and by id with the admin key", "the model")
    assert status_of(lambda: member.Model.get("openai/nothing/openai"))[0] == 404
    told("v2 Model.get of an unknown path", "404")

    room_in_this_minute(10)
    answer = model.run(text="Hello there")
    assert answer.status == "SUCCESS" and answer.completed and answer.data == "Hello there", answer
    assert answer.usage.total_tokens == 4 and answer.used_credits == 0.0001, answer
    told("v2 Model.run", "the answer, its usage and its credits")
    chunks = list(model.run_stream(text="Hello there"))
    assert "".join(chunk.data for chunk in chunks) == "Hello there", chunks
    assert any(chunk.usage for chunk in chunks)
    told("v2 Model.run_stream", "word by word, with the usage at the end")
    status, message = status_of(lambda: model.run(text="Hello"))
    assert status == 497 and "rpm" in message, (status, message)
    told("v2 Model.run beyond a limit per minute", "497, which names rpm")

    other = member.Model.get(GPT51)
    assert other.run(text="one two three").status == "SUCCESS"
    assert other.run_async(text="one two three").status == "SUCCESS"
    told("v2 Model.run_async", "answered at once, at the path of v1")
    status, message = status_of(lambda: other.run(text="Hello"))
    assert status == 429 and "tpd" in message, (status, message)
    told("v2 Model.run beyond a limit per day", "429, which names tpd")
    assert status_of(lambda: admin.Model.get(MINI).run(text="Hello"))[1].find("Forbidden") >= 0
    told("v2 Model.run with the admin key", "403 Forbidden")

    mini = member.Model.get(MINI)
    for _ in range(2):
        mini.run(text="one two three four")
    for rows in (member.APIKey.get_usage_limits(), admin.APIKey.get(key.id).get_usage()):
        assert rows[0].model is None and (rows[0].daily_request_count, rows[0].daily_request_limit) == (6, 100)
        row = next(row for row in rows if row.model == MINI)
        assert (row.daily_request_count, row.daily_request_limit) == (2, 5), row
        assert (row.daily_token_count, row.daily_token_limit) == (16, 5000), row
    assert len(member.APIKey.get_usage_limits(model=MINI)) == 1
    told("v2 APIKey.get_usage_limits, get_usage, both by model too", "the day's figures, of all calls and of each model")
    assert status_of(lambda: member.APIKey.get(key.id))[1].find("Forbidden") >= 0
    told("v2 APIKey.get by a member key", "403 Forbidden")

    # Six runs were charged 100 millionths each, of 1,000.
    key = admin.APIKey.get(key.id)
    key.budget = 0.0007
    key.save()
    mini.run(text="Hello")
    status, message = status_of(lambda: mini.run(text="Hello"))
    assert status == 429 and "udget" in message, (status, message)
    told("v2 Model.run beyond the budget", "429, which names the budget; the new budget held at once")
    key.budget = 1.0
    key.expires_at = datetime.now(timezone.utc) - timedelta(seconds=1)
    key.save()
    assert status_of(lambda: mini.run(text="Hello"))[0] == 401
    told("v2 Model.run with an expired key", "401; the expiry held at once")
    key.delete()


def keys_and_runs_v1():
    limits = V1Limits(token_per_minute=100, token_per_day=1000, request_per_minute=100, request_per_day=1000)
    of_model = V1Limits(token_per_minute=0, token_per_day=30, request_per_minute=2, request_per_day=20, model=MINI,
                        token_type=V1TokenType.TOTAL)
    key = APIKeyFactory.create(name="old-client", budget=10, global_limits=limits, asset_limits=[of_model],
                               expires_at=datetime(2030, 6, 1, 12, 30))
    secret = key.access_key
    assert key.id and "*" not in secret and key.expires_at == "2030-06-01T12:30:00.000000Z"
    told("v1 APIKeyFactory.create", "the key with its whole access key")
    assert [row.name for row in APIKeyFactory.list()] == ["old-client", "admin"]
    told("v1 APIKeyFactory.list", "all keys, members first")
    found = APIKeyFactory.get(secret)
    assert found.id == key.id and found.asset_limits[0].model.id == MINI
    assert found.asset_limits[0].token_type is None, "which means the total"
    told("v1 APIKeyFactory.get", "found by its access key, its model resolved")
    found.set_request_per_day(200)
    found.set_token_per_minute(50, MINI)
    updated = APIKeyFactory.update(found)
    assert updated.global_limits.request_per_day == 200 and updated.asset_limits[0].token_per_minute == 50
    told("v1 set_request_per_day, set_token_per_minute, APIKeyFactory.update", "configured")

    model = ModelFactory.get(MINI, api_key=secret)
    model.api_key = secret
    room_in_this_minute(8)
    answer = model.run("Hello old friend")
    assert answer.status == "SUCCESS" and answer.data == "Hello old friend", answer
    told("v1 Model.run", "the answer")
    pieces = "".join(chunk.data for chunk in model.run("Hello old friend", stream=True))
    assert pieces == "Hello old friend", pieces
    told("v1 Model.run with stream", "word by word")
    denied = model.run("Hello")
    assert denied.status == "FAILED" and denied.completed, denied
    told("v1 Model.run beyond a limit per minute", "FAILED, " + denied.error_message.split("Details: ")[-1])
    rows = APIKeyFactory.get_usage_limits(api_key=secret)
    assert (rows[0].daily_request_count, rows[0].daily_request_limit) == (2, 1000), "the 200 hold from tomorrow"
    rows = APIKeyFactory.get_usage_limits(api_key=secret, asset_id=MINI)
    assert (rows[0].daily_token_count, rows[0].daily_token_limit) == (12, 30)
    assert found.get_usage(MINI)[0].daily_token_count == 12
    told("v1 APIKeyFactory.get_usage_limits, get_usage", "the day's figures")
    updated.delete()
    assert [row.name for row in APIKeyFactory.list()] == ["admin"]
    told("v1 delete", "gone from the list")


def next_window():
    """A changed limit holds from the next minute on, and not before."""
    admin = client(ADMIN)
    key = admin.APIKey.create(name="patient", budget=1, global_limits=APIKeyLimits(request_per_minute=2))
    model = client(key.key).Model.get(MINI)
    room_in_this_minute(6)
    minute = time.time() // 60
    model.run(text="one")
    key.set_request_per_minute(3)
    key.save()
    assert admin.APIKey.get(key.id).global_limits.request_per_minute == 3
    model.run(text="two")
    assert status_of(lambda: model.run(text="three"))[0] == 497
    assert time.time() // 60 == minute, "it took too long for one minute"
    told("v2 save of a higher limit per minute", "configured at once; this minute keeps the old one")
    time.sleep(60 - time.time() % 60 + 0.1)
    for text in ["one", "two", "three"]:
        model.run(text=text)
    assert status_of(lambda: model.run(text="four"))[0] == 497
    told("v2 Model.run in the next minute", "the new limit holds")
    key.delete()


# First, since every client of v2 also replaces the access key that v1 uses.
keys_and_runs_v1()
keys_v2()
runs_v2()
next_window()

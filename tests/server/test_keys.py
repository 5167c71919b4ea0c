"""Keys, scopes and quotas, in the database and through HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import sqlalchemy as sql
from server_fakes import EchoEngine, PlainDialect, Shelf, client

from saccade.call import Answer
from saccade.dialects.huggingface import HuggingFace
from saccade.errors import BadOptions, BadSettings, Error, UnknownKey
from saccade.server import database, gate, keyring, settings, wiring
from saccade.server.access import Caller, Ticket, key_in
from saccade.server.app import App
from saccade.server.database import Database
from saccade.server.gate import KeyGate
from saccade.server.journal import Journal
from saccade.server.keyring import quota_of
from saccade.server.keys import Keys
from saccade.server.quotas import SqlWindows, Taken
from saccade.server.settings import Settings


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    opened = Database("", str(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def keys(store: Database) -> Keys:
    return Keys(store)


def made(store: Database, *, open_without_keys: bool = False, **settings: Any) -> App:
    parts = Settings(access_log=False, home="", **settings)
    gate = KeyGate(store, parts, open_without_keys=open_without_keys)
    dialects = [PlainDialect("first"), PlainDialect("platform"), HuggingFace()]
    return wiring.build(parts, Shelf(), EchoEngine(), gate, dialects)  # type: ignore[arg-type]


def asked(app: App, *calls: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        async with client(app) as http:
            return [await http.request(method, path, **more) for method, path, more in calls]

    return asyncio.run(ask())


def called(app: App, secret: str, body: bytes = b"x", model: str = "one", times: int = 1) -> list[httpx.Response]:
    more = {"content": body, "headers": {"x-api-key": secret.encode("latin-1")}}
    return asked(app, *[("POST", f"/first/{model}", more)] * times)


def test_a_secret_is_shown_once_and_kept_as_a_hash(store: Database, keys: Keys, tmp_path: Path) -> None:
    key, secret = keys.create("laptop")
    assert secret.startswith(key.prefix)
    assert len(secret) == 44
    assert keys.find(secret) == key
    assert keys.find(secret[:-1] + "x") is None
    store.close()
    for file in tmp_path.iterdir():
        assert secret[8:].encode() not in file.read_bytes()


def test_keys_are_found_revoked_and_changed_by_what_people_call_them(keys: Keys) -> None:
    first, _ = keys.create("a")
    second, _ = keys.create("b", quota_calls=5)
    keys.create("b")
    with pytest.raises(BadOptions, match=f"2 keys.*{second.id}, key_"):
        keys.revoke("b")
    with pytest.raises(UnknownKey, match="no key 'c'"):
        keys.revoke("c")
    assert keys.change(second.id, name="c", quota_calls=None, scopes=["admin", "models"]).scopes == ("models", "admin")
    assert keys.revoke("c").id == second.id
    assert keys.revoke("a").id == first.id
    assert [key.name for key in keys.all()] == ["b"]
    assert len(keys.all(revoked=True)) == 3


@pytest.mark.parametrize(
    ("fields", "range_"),
    [
        ({"quota_calls": 99999999999}, "The limit is 99999999999; expected a whole number from 0 to 2147483647"),
        ({"quota_calls": -1}, "The limit is -1; expected a whole number from 0 to 2147483647"),
        ({"quota_window_s": 1 << 31}, "The window is 2147483648; expected a whole number from 1 to 2147483647"),
        ({"expires_days": 999999}, "after 999999 days; expected more than 0 and at most 36500"),
        ({"expires_days": float("nan")}, "after nan days; expected more than 0 and at most 36500"),
    ],
)
def test_a_number_outside_its_range_is_refused_with_the_range(keys: Keys, fields: dict[str, Any], range_: str) -> None:
    with pytest.raises(BadOptions, match=range_):
        keys.create("x", **fields)


def test_the_id_of_a_key_means_that_key_whatever_others_are_called(keys: Keys) -> None:
    meant, _ = keys.create("x")
    keys.create(meant.id)
    assert keys.revoke(meant.id).name == "x"


def test_a_key_that_is_not_there_is_not_found_and_one_without_a_change_is_a_mistake(
    store: Database, keys: Keys
) -> None:
    key, secret = keys.create("admin", scopes=("admin",))
    app, head = made(store), {"headers": {"x-api-key": secret}}
    answers = asked(
        app,
        ("PATCH", "/v1/keys/key_gone", {"json": {"name": "x"}, **head}),
        ("DELETE", "/v1/keys/key_gone", head),
        ("PATCH", f"/v1/keys/{key.id}", {"json": {}, **head}),
    )
    assert [answer.status_code for answer in answers] == [404, 404, 400]
    assert all("no key 'key_gone'" in answer.text for answer in answers[:2])
    assert "nothing to change" in answers[2].text


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "x" * 81},
        {"name": "a\nb"},
        {"models": ["a\0b"]},
        {"scopes": ["root"]},
        {"scopes": []},
        {"quota_calls": -1},
        {"quota_window_s": 0},
        {"expires_days": 0},
        {"quota_calls": 1 << 40},
    ],
)
def test_a_key_with_senseless_fields_is_refused(keys: Keys, fields: dict[str, Any]) -> None:
    with pytest.raises(BadOptions):
        keys.create(**{"name": "x", **fields})


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("100", (100, None)),
        ("100/hour", (100, 3600)),
        ("5000/2h", (5000, 7200)),
        ("20 per minute", (20, 60)),
        ("0", (0, None)),
    ],
)
def test_limits_are_written_as_people_say_them(text: str, quota: tuple[int, int | None]) -> None:
    assert quota_of(text) == quota
    for wrong in ("", "many", "1/fortnight", "-1", "9" * 5000, "1/" + "9" * 5000 + "s"):
        with pytest.raises(BadOptions):
            quota_of(wrong)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"x-api-key": " abc "}, "abc"),
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer abc"}, "abc"),
        ({"authorization": "BEARER  abc"}, "abc"),
        ({"authorization": "Bearer: abc"}, "abc"),
        ({"authorization": "abc"}, "abc"),
        ({"x-api-key": "abc", "authorization": "Bearer hf_other"}, "abc"),
        ({"authorization": "Basic abc"}, ""),
        ({"authorization": "Bearer"}, ""),
        ({}, ""),
    ],
)
def test_a_key_is_found_in_every_form_in_which_clients_send_it(headers: dict[str, str], key: str) -> None:
    assert key_in(headers) == key


def test_missing_unknown_expired_and_revoked_keys_get_the_same_answer(store: Database, keys: Keys) -> None:
    app = made(store)
    good, secret = keys.create("good")
    _, late = keys.create("late", expires_days=1e-9)
    _, gone = keys.create("gone")
    keys.revoke("gone")
    time.sleep(0.01)
    refused = [called(app, other)[0] for other in ("", "sac_wrong", late, gone, good.id, good.prefix, "ü" * 9)]
    assert {response.status_code for response in refused} == {401}
    assert len({response.text for response in refused}) == 1
    assert called(app, secret)[0].status_code == 200


@pytest.mark.parametrize("path", ["/first/one", "/v1/usage", "/v1/keys", "/info"])
def test_who_has_no_key_is_told_how_to_send_one(store: Database, keys: Keys, path: str) -> None:
    keys.create("x")
    answer = asked(made(store), ("POST" if "first" in path else "GET", path, {"content": b"x"}))[0]
    assert answer.status_code == 401
    assert answer.headers.get_list("www-authenticate") == ['Bearer realm="saccade"']


def test_a_revoked_key_opens_nothing_from_the_next_request_on(store: Database, keys: Keys) -> None:
    front, other = made(store), made(store)
    key, secret = keys.create("x", scopes=["models", "admin"])
    assert called(front, secret)[0].status_code == 200
    assert asked(other, ("GET", "/v1/keys", {"headers": {"x-api-key": secret}}))[0].status_code == 200
    keys.revoke(key.id)
    assert called(front, secret)[0].status_code == 401
    assert asked(other, ("GET", "/v1/keys", {"headers": {"x-api-key": secret}}))[0].status_code == 401


def test_a_loopback_server_is_open_until_the_first_key_exists(store: Database, keys: Keys) -> None:
    app = made(store, open_without_keys=True)
    assert called(app, "hf_any_token")[0].status_code == 200
    made_key = asked(app, ("POST", "/v1/keys", {"json": {"name": "first"}}))[0]
    assert made_key.status_code == 201
    assert called(app, "hf_any_token")[0].status_code == 401
    assert called(app, made_key.json()["key"])[0].status_code == 200
    keys.revoke("first")
    assert called(app, made_key.json()["key"])[0].status_code == 401, "revoking the last key opens nothing"


def test_scopes_say_which_models_a_key_may_call(store: Database, keys: Keys) -> None:
    app = made(store)
    _, some = keys.create("some", models=["tw*"])
    _, none = keys.create("none", scopes=["endpoints"])
    assert called(app, some, model="two")[0].status_code == 200
    refused = called(app, some, model="one")[0]
    assert (refused.status_code, "'one'" in refused.text) == (403, True)
    assert called(app, none, model="two")[0].status_code == 403


@pytest.mark.parametrize("kind", ["models", "endpoints"])
def test_an_empty_list_makes_no_key_for_everything(store: Database, keys: Keys, kind: str) -> None:
    app = made(store)
    some, secret = keys.create("admin", scopes=["admin"])
    headers = {"x-api-key": secret}
    for nothing in ([], [""], ["one", " "]):
        wish = {"name": "n", kind: nothing}
        for method, path in (("POST", "/v1/keys"), ("PATCH", f"/v1/keys/{some.id}")):
            refused = asked(app, (method, path, {"headers": headers, "json": wish}))[0]
            assert (refused.status_code, kind in refused.text) == (400, True)
    assert [key.name for key in keys.all()] == ["admin"]
    assert keys.create("two", models=["one, tw*"])[0].models == ("one", "tw*")


def test_every_key_may_let_others_go_first_and_only_an_admins_may_go_first(store: Database, keys: Keys) -> None:
    app = made(store)
    _, usual = keys.create("usual")
    _, admins = keys.create("admin", scopes=("models", "admin"))
    statuses = [
        asked(
            app, ("POST", "/first/one", {"content": b"x", "headers": {"x-api-key": key, "x-request-priority": wish}})
        )[0]
        for key, wish in ((usual, "-5"), (usual, "5"), (admins, "5"))
    ]
    assert [answer.status_code for answer in statuses] == [200, 403, 200]
    assert "needs an admin key" in statuses[1].text


def test_changes_need_admin_rights(store: Database, keys: Keys) -> None:
    app = made(store)
    _, user = keys.create("user")
    _, admin = keys.create("admin", scopes=["admin"])
    for method, path in (
        ("GET", "/v1/keys"),
        ("POST", "/v1/keys"),
        ("DELETE", "/v1/keys/x"),
        ("GET", "/v1/usage?all=1"),
    ):
        refused = asked(app, (method, path, {"headers": {"x-api-key": user}, "json": {"name": "y"}}))[0]
        assert refused.status_code == 403, path
    headers = {"authorization": f"Bearer {admin}"}
    listed = asked(app, ("GET", "/v1/keys", {"headers": headers}))[0]
    assert [key["name"] for key in listed.json()["keys"]] == ["user", "admin"]
    assert user not in listed.text
    new = asked(
        app, ("POST", "/v1/keys", {"headers": headers, "json": {"name": "n", "limit": 2, "scopes": ["models"]}})
    )[0]
    assert new.json()["limit"] == 2
    path = f"/v1/keys/{new.json()['id']}"
    changed = asked(app, ("PATCH", path, {"headers": headers, "json": {"name": "m", "limit": None}}))[0]
    assert (changed.json()["name"], changed.json()["limit"]) == ("m", None)
    assert asked(app, ("DELETE", path, {"headers": headers}))[0].status_code == 200
    assert called(app, new.json()["key"])[0].status_code == 401
    wrong = asked(app, ("POST", "/v1/keys", {"headers": headers, "json": {"nome": "n"}}))[0]
    assert (wrong.status_code, "nome" in wrong.text) == (400, True)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "http://test:81"},
        {"origin": "http://evil.example", "host": "evil.example"},
        {"origin": "http://evil.example", "host": "evil.example", "x-api-key": "junk"},
        {"origin": "http://evil.example", "host": "evil.example", "authorization": "Bearer junk"},
        {"origin": "http://evil.example", "host": "localhost", "sec-fetch-site": "same-origin"},
        {"origin": "null"},
    ],
)
def test_pages_of_other_sites_change_nothing(store: Database, headers: dict[str, str]) -> None:
    app = made(store, open_without_keys=True)
    refused = asked(app, ("POST", "/v1/keys", {"headers": headers, "content": b'{"name":"x"}'}))[0]
    assert refused.status_code == 403
    preflight = {**headers, "access-control-request-method": "POST", "access-control-request-headers": "x-a"}
    granted = asked(app, ("OPTIONS", "/v1/keys", {"headers": preflight}))[0]
    assert "access-control-allow-origin" not in granted.headers


@pytest.mark.parametrize(
    "proxied",
    [
        {"host": "vision.example"},  # the port was lost on the way
        {"host": "127.0.0.1:8000"},
        {"host": "127.0.0.1:8000", "sec-fetch-site": "same-origin"},
    ],
)
def test_the_console_changes_things_through_a_proxy_that_does_not_pass_host(
    store: Database, keys: Keys, proxied: dict[str, str]
) -> None:
    _, admin = keys.create("admin", scopes=("admin",))
    headers = {"origin": "https://vision.example:8443", **proxied}
    app = made(store)
    told = {**headers, "x-api-key": admin}
    assert asked(app, ("POST", "/v1/keys", {"headers": told, "json": {"name": "x"}}))[0].status_code == 201
    wrong = {**headers, "x-api-key": "junk"}
    assert asked(app, ("POST", "/v1/keys", {"headers": wrong, "json": {"name": "x"}}))[0].status_code == 401


@pytest.mark.parametrize("host", ["[::1]", "[::1]:8000", "127.0.0.1", "localhost:8000"])
def test_a_page_at_this_machine_may_change_things_as_long_as_there_is_no_key(store: Database, host: str) -> None:
    headers = {"origin": f"http://{host}", "host": host}
    app = made(store, open_without_keys=True)
    assert asked(app, ("POST", "/v1/keys", {"headers": headers, "json": {"name": "x"}}))[0].status_code == 201


def test_a_page_that_may_change_nothing_is_told_why(store: Database) -> None:
    app = made(store, open_without_keys=True)

    def told(**headers: str) -> str:
        return str(asked(app, ("POST", "/v1/keys", {"headers": headers, "json": {"name": "x"}}))[0].json()["error"])

    assert "must pass Host" in told(origin="http://vision.example", host="127.0.0.1:8000")
    assert "saccade keys create NAME --admin" in told(origin="http://vision.example", host="vision.example")


def test_nothing_is_fetched_for_a_key_that_may_not_use_it_or_has_nothing_left(store: Database, keys: Keys) -> None:
    app = made(store, quota_calls=1)
    shelf = cast(Shelf, app.desk.library)
    _, other = keys.create("other", models=("one",))
    assert called(app, other, b"x", "far")[0].status_code == 403
    _, spent_key = keys.create("spent")
    assert [called(app, spent_key, b"x", model)[0].status_code for model in ("one", "far")] == [200, 429]
    assert shelf.fetches == 0
    _, able = keys.create("able")
    assert called(app, able, b"x", "far")[0].status_code == 200
    assert shelf.fetches == 1


def test_a_body_of_settings_is_small(store: Database, keys: Keys) -> None:
    _, admin = keys.create("admin", scopes=("admin",))
    wish = {"headers": {"x-api-key": admin}, "content": b'{"name":"' + b"x" * 2_000_000 + b'"}'}
    assert asked(made(store), ("POST", "/v1/keys", wish))[0].status_code == 413


def test_a_spent_quota_is_told_before_what_else_is_wrong(store: Database, keys: Keys) -> None:
    app = made(store, quota_calls=1, max_body_bytes=100)
    _, secret = keys.create("x")

    def wrongs() -> list[int]:
        calls = (("nobody", b"x"), ("one", b"unreadable"), ("one", b"x" * 101))
        return [called(app, secret, body, model)[0].status_code for model, body in calls]

    assert wrongs() == [404, 400, 413]
    assert called(app, secret)[0].status_code == 200
    assert wrongs() == [429] * 3


def test_a_limited_key_sees_its_standing_on_every_answer(store: Database, keys: Keys) -> None:
    app = made(store, quota_calls=3)
    _, secret = keys.create("x")
    answers = called(app, secret, times=4)
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert {answer.headers["x-ratelimit-limit"] for answer in answers} == {"3"}
    assert all(0 < int(answer.headers["x-ratelimit-reset"]) - time.time() <= 3601 for answer in answers)
    assert answers[0].headers["retry-after"] == "0"
    assert answers[3].headers["retry-after"] == "7", "the dialect's own words win"
    assert answers[0].headers["ratelimit-policy"] == '"sliding window";"api";q=3;w=3600'
    dated = asked(app, ("POST", "/platform/one", {"content": b"x", "headers": {"x-api-key": secret}}))[0]
    assert dated.headers["x-ratelimit-reset"].endswith("Z")


def test_refusals_and_descriptions_tell_a_limited_key_how_it_stands_and_cost_nothing(
    store: Database, keys: Keys
) -> None:
    app = made(store, quota_calls=3, max_body_bytes=1000)
    _, secret = keys.create("x", models=["one"])
    _, free = keys.create("free", quota_calls=0)
    head = {"x-api-key": secret}
    assert called(app, secret)[0].status_code == 200
    answers = [
        *called(app, secret, b"unreadable"),
        *called(app, secret, b"bug"),
        *called(app, secret, model="nobody"),
        *called(app, secret, model="two"),
        *called(app, secret, b"x" * 2000),
        *asked(app, ("GET", "/firsts", {"headers": head})),
    ]
    assert [answer.status_code for answer in answers] == [400, 500, 404, 403, 413, 200]
    for answer in answers:
        assert answer.headers["x-ratelimit-limit"] == "3"
        assert answer.headers["x-ratelimit-remaining"] == "2"
        assert 0 < int(answer.headers["x-ratelimit-reset"]) - time.time() <= 3601
        assert answer.headers["retry-after"] == "0"
    assert "x-ratelimit-limit" not in called(app, free, b"unreadable")[0].headers
    assert "x-ratelimit-limit" not in called(app, "nobody's")[0].headers


def test_the_houses_pages_and_wrong_paths_tell_a_limited_key_how_it_stands_too(store: Database, keys: Keys) -> None:
    app = made(store, quota_calls=3)
    _, secret = keys.create("x")
    head = {"headers": {"x-api-key": secret}}
    assert called(app, secret)[0].status_code == 200
    answers = asked(
        app,
        ("GET", "/v1/usage", head),
        ("GET", "/v1/usage?days=x", head),
        ("GET", "/v1/keys", head),
        ("GET", "/nothing", head),
        ("PUT", "/first/one", head),
    )
    assert [answer.status_code for answer in answers] == [200, 400, 403, 404, 405]
    assert {answer.headers["x-ratelimit-remaining"] for answer in answers} == {"2"}
    assert all(0 < int(answer.headers["x-ratelimit-reset"]) - time.time() <= 3601 for answer in answers)
    nobody = {"headers": {"x-api-key": "nobody's"}}
    for answer in asked(app, ("GET", "/v1/usage", nobody), ("GET", "/nothing", nobody), ("GET", "/nothing", {})):
        assert "x-ratelimit-limit" not in answer.headers


def test_nobody_needs_a_key_to_learn_that_a_model_takes_pictures_only(store: Database, keys: Keys) -> None:
    app = made(store)
    keys.create("x")
    reads = [(method, f"{path}/models/one", {}) for method in ("GET", "HEAD", "PUT") for path in ("", "/hf-inference")]
    answers = asked(app, *reads)
    assert {(answer.status_code, answer.headers["allow"]) for answer in answers} == {(405, "POST")}
    assert answers[0].json() == {"error": "GET is not allowed here. Allowed: POST. POST an image to this address."}
    assert asked(app, ("GET", "/models/one/info", {}))[0].status_code == 401


def test_a_call_that_was_given_back_leaves_no_time_to_wait_for(store: Database, keys: Keys) -> None:
    app = made(store, quota_calls=2)
    _, secret = keys.create("x")
    failed = called(app, secret, b"fail")[0]
    assert failed.headers["x-ratelimit-remaining"] == "2"
    assert int(failed.headers["x-ratelimit-reset"]) - time.time() <= 1


def test_a_video_without_entries_counts_as_a_call_and_not_as_an_error(store: Database, keys: Keys) -> None:
    app = made(store, quota_calls=3)
    _, secret = keys.create("x")
    head = {"headers": {"x-api-key": secret}}
    short = {"content": b"video empty", **head}
    *_, shown = asked(
        app, ("POST", "/first/one", short), ("POST", "/first/one?stream=1", short), ("GET", "/v1/usage", head)
    )
    used = shown.json()
    assert (used["used"], [(row["calls"], row["errors"]) for row in used["days"]]) == (2, [(2, 0)])


def test_failed_calls_do_not_eat_the_quota(store: Database, keys: Keys) -> None:
    app = made(store, quota_calls=2)
    _, secret = keys.create("x")
    for body in (b"unreadable", b"fail", b"broken", b"bug", b"http://example.org/x"):
        assert called(app, secret, body)[0].status_code >= 400
    assert called(app, secret, model="nobody")[0].status_code == 404
    assert called(app, secret, b"fail")[0].headers["x-ratelimit-remaining"] == "2"
    assert [answer.status_code for answer in called(app, secret, times=3)] == [200, 200, 429]


def test_several_images_of_one_request_are_several_calls_taken_all_or_none(store: Database, keys: Keys) -> None:
    app = made(store, quota_calls=5)
    _, secret = keys.create("x")
    more = {"content": b"x", "headers": {"x-api-key": secret}}
    answers = asked(app, *[("POST", "/first/one?count=3", more)] * 2)
    assert [answer.status_code for answer in answers] == [200, 429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "2"]
    assert [answer.status_code for answer in called(app, secret, times=3)] == [200, 200, 429]


def test_what_a_spent_quota_says_is_what_its_headers_say(store: Database, keys: Keys) -> None:
    _, secret = keys.create("x", quota_calls=2, quota_window_s=1)
    app, headers = made(store), {"x-api-key": secret}
    refused = called(app, secret, times=3)[2]
    assert "Try again in 1 seconds." in refused.text
    batch = asked(app, ("POST", "/first/one?count=3", {"content": b"x", "headers": headers}))[0]
    assert batch.status_code == 429
    assert "So many never fit: send at most 2 images with one request." in batch.text


def test_usage_agrees_with_what_is_enforced(store: Database, keys: Keys) -> None:
    app = made(store, quota_calls=4)
    _, secret = keys.create("x")
    headers = {"x-api-key": secret}
    more = {"content": b"x", "headers": headers}
    fails = {"content": b"fail", "headers": headers}
    *_, shown = asked(
        app,
        ("POST", "/first/one", more),
        ("POST", "/first/one", more),
        ("POST", "/first/two", more),
        ("POST", "/first/one", fails),
        ("GET", "/v1/usage", {"headers": headers}),
    )
    used = shown.json()
    assert (used["limit"], used["used"], used["remaining"], used["window_s"]) == (4, 3, 1, 3600)
    assert used["reset"].endswith("Z")
    assert {(row["model"], row["calls"], row["errors"]) for row in used["days"]} == {("one", 2, 1), ("two", 1, 0)}
    assert {row["key"] for row in used["days"]} == {"x"}
    for wrong in ("0", "x", "9999"):
        assert asked(app, ("GET", f"/v1/usage?days={wrong}", {"headers": headers}))[0].status_code == 400


def test_an_abandoned_call_is_in_the_usage_as_it_is_in_the_quota(store: Database, keys: Keys) -> None:
    _, secret = keys.create("x")
    app, headers = made(store), {"x-api-key": secret}

    async def leave() -> Any:
        async with client(app) as http:
            call = asyncio.create_task(http.post("/first/one", content=b"sleep9", headers=headers))
            await asyncio.sleep(0.5)
            call.cancel()
            await asyncio.wait({call})
            return (await http.get("/v1/usage", headers=headers)).json()

    told = asyncio.run(leave())
    assert told["used"] == 1
    assert [(row["calls"], row["errors"]) for row in told["days"]] == [(1, 0)]


def test_a_key_may_have_a_limit_of_its_own_or_none(store: Database, keys: Keys) -> None:
    app = made(store, quota_calls=1)
    _, more = keys.create("more", quota_calls=3, quota_window_s=60)
    _, free = keys.create("free", quota_calls=0)
    assert [answer.status_code for answer in called(app, more, times=4)] == [200, 200, 200, 429]
    answers = called(app, free, times=5)
    assert {answer.status_code for answer in answers} == {200}
    assert "x-ratelimit-limit" not in answers[0].headers


def test_the_window_slides(store: Database, keys: Keys) -> None:
    windows = SqlWindows(store)
    key, _ = keys.create("x")
    assert windows.take(key.id, 2, 1, 1).token
    time.sleep(0.6)
    second = windows.take(key.id, 2, 1, 1)
    refused = windows.take(key.id, 2, 1, 1)
    assert refused.token == ""
    assert 0 < refused.reset_epoch_s - time.time() < 0.5
    time.sleep(0.5)
    assert windows.look(key.id, 1).used == 1, "who only looks is not told of the first call any more"
    assert windows.take(key.id, 2, 1, 1).token, "the first call left the window"
    assert not windows.take(key.id, 2, 1, 1).token, "the second one is still in it"
    windows.give_back(key.id, second.token)
    windows.give_back(key.id, second.token)
    assert windows.look(key.id, 1).used == 1
    assert windows.take(key.id, 2, 1, 1).token


@pytest.mark.parametrize(("days", "told"), [(1, 1), (2, 2), (3, 3), (30, 3)])
def test_the_usage_of_so_many_days_begins_with_today(store: Database, keys: Keys, days: int, told: int) -> None:
    key, secret = keys.create("x")
    today = datetime.now(UTC).date()
    with store.write() as connection:
        for ago in range(3):
            day = (today - timedelta(days=ago)).isoformat()
            row = {"day": day, "key_id": key.id, "model": "one", "calls": 1, "errors": 0}
            connection.execute(database.usage.insert().values(row))
    (used,) = asked(made(store), ("GET", f"/v1/usage?days={days}", {"headers": {"x-api-key": secret}}))
    assert len(used.json()["days"]) == told


def test_a_call_about_several_images_is_given_back_whole_and_once(store: Database, keys: Keys) -> None:
    windows = SqlWindows(store)
    key, _ = keys.create("x")
    several = windows.take(key.id, 5, 60, 3)
    for _ in range(2):
        windows.give_back(key.id, several.token)
    assert windows.take(key.id, 5, 60, 5).token
    assert not windows.take(key.id, 5, 60, 1).token


def counted_for(store: Database) -> set[str]:
    """Of which keys and endpoints the database knows calls."""
    with store.read() as connection:
        return {
            row
            for table in (database.hits, database.windows)
            for row in connection.execute(sql.select(table.c.key_id)).scalars()
        }


def test_what_was_counted_against_keys_that_open_nothing_any_more_is_forgotten_but_for_their_usage(
    store: Database, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, boss = keys.create("boss", scopes=["models", "admin"], quota_calls=9)
    (gone, first), (old, second) = keys.create("gone", quota_calls=9), keys.create("old", quota_calls=9, expires_days=1)
    app = made(store)
    for secret in (boss, first, second):
        assert [one.status_code for one in called(app, secret, times=3)] == [200] * 3
    assert counted_for(store) == {admin.id, gone.id, old.id}
    keys.revoke("gone")
    assert counted_for(store) == {admin.id, old.id}
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3 * 86_400)
    keys.create("new")
    assert counted_for(store) == {admin.id}
    told = asked(app, ("GET", "/v1/usage?all=true", {"headers": {"x-api-key": boss}}))[0].json()
    assert {(row["key"], row["calls"]) for row in told["days"]} == {("boss", 3), ("gone", 3), ("old", 3)}


def test_a_clock_that_was_set_back_shuts_nobody_out_for_longer_than_a_window(
    store: Database, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = SqlWindows(store)
    key, _ = keys.create("x")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    assert windows.take(key.id, 1, 60, 1).token
    monkeypatch.setattr(time, "time", lambda: now)
    refused = windows.take(key.id, 1, 60, 1)
    assert (refused.token, refused.reset_epoch_s) == ("", pytest.approx(now + 60))
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert windows.take(key.id, 1, 60, 1).token


@pytest.mark.parametrize("ahead_s", [-600, 600])
def test_a_machine_whose_clock_differs_from_the_databases_tells_how_long_to_wait_all_the_same(
    store: Database, keys: Keys, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    class Elsewhere(SqlWindows):
        def _now(self, connection: Any) -> float:
            return real() + ahead_s

    real = time.time
    _, secret = keys.create("x", quota_calls=1, quota_window_s=60)
    app = made(store)
    assert isinstance(app.gate, KeyGate)
    app.gate.windows = Elsewhere(store)
    good, refused = called(app, secret, times=2)
    assert (good.status_code, refused.status_code) == (200, 429)
    session = asked(app, ("GET", "/v1/session", {"headers": {"x-api-key": secret}}))[0]
    for response in (good, refused, session):
        assert 55 <= int(response.headers["ratelimit"].rpartition("t=")[2]) <= 60
        assert 55 <= int(response.headers["x-ratelimit-reset"]) - real() <= 61


def test_a_clock_that_is_set_back_during_a_call_makes_nobody_wait_longer_than_a_window(
    store: Database, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    _, secret = keys.create("x", quota_calls=2, quota_window_s=60)
    app = made(store)
    assert isinstance(app.gate, KeyGate)
    taking = app.gate.windows.take

    def take(*given: Any) -> Any:
        taken = taking(*given)
        monkeypatch.setattr(time, "time", lambda: now - 3600)
        return taken

    monkeypatch.setattr(app.gate.windows, "take", take)
    response = called(app, secret)[0]
    assert response.headers["ratelimit"].endswith("t=60")


def test_no_call_more_than_the_limit_from_many_threads_with_failures_between(store: Database, keys: Keys) -> None:
    key, _ = keys.create("x")

    def spend(index: int) -> int:
        windows = SqlWindows(store)
        kept = 0
        for turn in range(30):
            taken = windows.take(key.id, 100, 3600, 1)
            if taken.token and (index + turn) % 3 == 0:
                windows.give_back(key.id, taken.token)
            elif taken.token:
                kept += 1
        return kept

    with ThreadPoolExecutor(8) as threads:
        kept = sum(threads.map(spend, range(8)))
    assert kept == SqlWindows(store).look(key.id, 3600).used == 100


def test_usage_is_written_down_when_the_server_stops(store: Database, keys: Keys, tmp_path: Path) -> None:
    _, secret = keys.create("x")
    app = made(store)

    async def call_and_stop() -> None:
        async with client(app) as http:
            await http.post("/first/one", content=b"x", headers={"x-api-key": secret})
        await app.close()

    asyncio.run(call_and_stop())
    with sqlite3.connect(tmp_path / "saccade.db") as kept:
        assert kept.execute("select model, calls from usage").fetchall() == [("one", 1)]
        assert kept.execute("select last_used from keys").fetchone()[0] > time.time() - 60


def test_a_call_that_is_counted_while_usage_is_written_down_is_not_lost(store: Database, tmp_path: Path) -> None:
    gate = KeyGate(store, Settings(access_log=False, home=""))

    class Long(str):
        """A name over which the count takes so long that usage is written down meanwhile."""

        writing: threading.Thread | None = None

        def __hash__(self) -> int:
            if Long.writing is None:
                Long.writing = threading.Thread(target=lambda: asyncio.run(gate.settle()))
                Long.writing.start()
                Long.writing.join(0.5)
            return super().__hash__()

    async def count() -> None:
        gate.count(Ticket(Caller(id="key_1"), models=(Long("one"),)), [Answer(result=None, image_hw=(1, 1))])
        await gate.close()

    asyncio.run(count())
    assert Long.writing is not None
    Long.writing.join()
    with sqlite3.connect(tmp_path / "saccade.db") as kept:
        assert kept.execute("select model, calls from usage").fetchall() == [("one", 1)]


def renamed(folder: Path, old: str, new: str) -> None:
    """Makes every write to a table fail, as on a full disk, or mends it again."""
    with sqlite3.connect(folder / "saccade.db") as other:
        other.execute(f"ALTER TABLE {old} RENAME TO {new}")


async def within_3_s(holds: Callable[[], Any]) -> None:
    """Waits until it holds, but no longer; the test says what is wrong if it does not."""
    for _ in range(30):
        if holds():
            return
        await asyncio.sleep(0.1)


def test_what_could_not_be_written_down_is_written_later_and_told_once(
    store: Database, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "saccade.server")
    _, secret = keys.create("x", quota_calls=0)
    app = made(store)
    assert called(app, secret)[0].status_code == 200
    renamed(tmp_path, "usage", "gone")
    asyncio.run(app.gate.settle())  # type: ignore[attr-defined]
    assert called(app, secret)[0].status_code == 200
    asyncio.run(app.gate.settle())  # type: ignore[attr-defined]
    renamed(tmp_path, "gone", "usage")
    asyncio.run(app.close())
    with sqlite3.connect(tmp_path / "saccade.db") as kept:
        assert kept.execute("select model, calls from usage").fetchall() == [("one", 2)]
    assert caplog.text.count("usage is written down later") == 1
    assert caplog.text.count("usage is written down again") == 1


def test_a_server_whose_database_never_comes_back_ends_well(store: Database, keys: Keys, tmp_path: Path) -> None:
    _, secret = keys.create("x", quota_calls=0)
    app = made(store)
    called(app, secret)
    renamed(tmp_path, "usage", "gone")
    asyncio.run(app.close())


def test_what_could_not_be_written_down_is_written_without_another_call(
    store: Database, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "AGAIN_S", 0.1)
    _, secret = keys.create("x", quota_calls=0)
    app = made(store)

    def kept() -> Any:
        with sqlite3.connect(tmp_path / "saccade.db") as found:
            return found.execute("select model, calls from usage").fetchall()

    async def play() -> None:
        async with client(app) as http:
            renamed(tmp_path, "usage", "gone")
            await http.post("/first/one", content=b"x", headers={"x-api-key": secret})
            await asyncio.sleep(1.5)
            renamed(tmp_path, "gone", "usage")
            await within_3_s(kept)

    asyncio.run(play())
    assert kept() == [("one", 1)]


def test_usage_is_written_down_though_the_system_gave_no_thread_for_it_at_first(
    store: Database, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "COUNT_S", 0.1)
    _, secret = keys.create("x", quota_calls=0)
    app = made(store)
    begin, refused = threading.Thread.start, list[threading.Thread]()

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("saccade-writes") and len(refused) < 2:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        begin(thread)

    def kept() -> Any:
        with sqlite3.connect(tmp_path / "saccade.db") as found:
            return found.execute("select model, calls from usage").fetchall()

    async def play() -> None:
        async with client(app) as http:
            await http.post("/first/one", content=b"x", headers={"x-api-key": secret})
            await within_3_s(kept)

    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", start)
        asyncio.run(play())
    assert (kept(), len(refused)) == ([("one", 1)], 2)


def test_usage_that_is_lost_at_the_end_is_told(
    store: Database, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, secret = keys.create("x", quota_calls=0)
    app = made(store)
    called(app, secret, times=2)
    renamed(tmp_path, "usage", "gone")
    asyncio.run(app.close())
    assert "the usage of the last calls (2) could not be written down, and is lost" in caplog.text


def test_a_call_that_fails_while_its_quota_cannot_be_written_says_why_and_is_given_back_later(
    store: Database, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "AGAIN_S", 0.1)
    key, secret = keys.create("x", quota_calls=3)
    app = made(store)

    async def play() -> None:
        async with client(app) as http:
            headers = {"x-api-key": secret}
            call = asyncio.create_task(http.post("/first/one", content=b"fail late", headers=headers))
            while not SqlWindows(store).look(key.id, 3600).used:
                await asyncio.sleep(0.01)
            renamed(tmp_path, "windows", "gone")
            answer = await call
            assert (answer.status_code, "The graph failed." in answer.text) == (500, True), answer.text
            renamed(tmp_path, "gone", "windows")
            await within_3_s(lambda: not SqlWindows(store).look(key.id, 3600).used)

    asyncio.run(play())
    assert SqlWindows(store).look(key.id, 3600).used == 0


def test_who_keeps_the_database_from_being_written_holds_up_only_calls_that_count_against_a_limit(
    store: Database, keys: Keys, tmp_path: Path
) -> None:
    secrets = {limit: keys.create("x", quota_calls=limit)[1].encode() for limit in (0, 5)}
    app = made(store)

    async def play() -> None:
        async with client(app) as http:

            def call(limit: int) -> Any:
                return http.post("/first/one", content=b"x", headers={"x-api-key": secrets[limit]})

            assert (await call(0)).status_code == 200
            backup = sqlite3.connect(tmp_path / database.FILE, isolation_level=None)
            backup.execute("BEGIN IMMEDIATE")
            writing = asyncio.create_task(app.gate.settle())  # type: ignore[attr-defined]
            limited = asyncio.create_task(call(5))
            await asyncio.sleep(0.2)
            begun = time.monotonic()
            assert (await call(0)).status_code == 200
            assert (await http.get("/first/one", headers={"x-api-key": secrets[5]})).status_code != 503
            assert time.monotonic() - begun < 1
            assert not writing.done()
            assert not limited.done()
            backup.close()
            assert (await limited).status_code == 200
            await writing
        await app.close()

    asyncio.run(play())


def test_who_reads_the_usage_of_a_year_holds_up_nobody(store: Database, keys: Keys) -> None:
    secret = keys.create("x", quota_calls=5)[1]
    reading, goes_on = threading.Event(), threading.Event()

    class Slow(SqlWindows):
        def look(self, key_id: str, window_s: int) -> Taken:
            reading.set()
            assert goes_on.wait(10)
            return super().look(key_id, window_s)

    async def play() -> None:
        gate = KeyGate(store, Settings(home=""), Slow(store))
        caller = await gate.caller({"x-api-key": secret})
        usage = asyncio.create_task(gate.usage(caller))
        await asyncio.to_thread(reading.wait)
        async with asyncio.timeout(2):
            await gate.take(await gate.caller({"x-api-key": secret}), ["one"])
        goes_on.set()
        assert (await usage)["used"] == 1
        await gate.close()

    asyncio.run(play())


def test_a_window_of_many_calls_tells_how_it_stands_as_fast_as_an_empty_one(store: Database, keys: Keys) -> None:
    key, _ = keys.create("x", quota_calls=1_000_000)
    windows, now, many = SqlWindows(store), time.time(), 200_000
    with store.write() as connection:
        connection.exec_driver_sql(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO hits (key_id, at, token) SELECT ?, ? + i / 200.0, 'x' FROM n",
            (many - 1, key.id, now - 1800),
        )
        connection.execute(database.windows.insert().values(key_id=key.id, live=many))
    assert windows.look(key.id, 3600) == Taken("", many, pytest.approx(now + 1800))
    assert windows.look(key.id, 900).used == pytest.approx(many / 10, rel=0.2)
    assert windows.look("nobody", 3600).used == 0
    spent_s = {}
    for which in (key.id, "nobody"):
        begun = time.process_time()
        for _ in range(20):
            windows.look(which, 3600)
        spent_s[which] = time.process_time() - begun
    assert spent_s[key.id] < 5 * spent_s["nobody"]


def test_a_caller_who_leaves_while_the_database_is_busy_has_used_nothing(
    store: Database, keys: Keys, tmp_path: Path
) -> None:
    key, secret = keys.create("x", quota_calls=5)
    app = made(store)

    async def play() -> None:
        async with client(app) as http:
            backup = sqlite3.connect(tmp_path / database.FILE, isolation_level=None)
            backup.execute("BEGIN IMMEDIATE")
            calls = [
                asyncio.create_task(http.post("/first/one", content=b"x", headers={"x-api-key": secret}))
                for _ in range(3)
            ]
            await asyncio.sleep(0.3)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            backup.close()
            assert (await http.post("/first/one", content=b"x", headers={"x-api-key": secret})).status_code == 200
        await app.close()

    asyncio.run(play())
    assert SqlWindows(Database("", str(tmp_path))).look(key.id, 3600).used == 1


def test_a_call_that_cannot_be_counted_against_its_limit_is_told_why(
    store: Database, keys: Keys, tmp_path: Path
) -> None:
    _, secret = keys.create("x", quota_calls=5)
    renamed(tmp_path, "hits", "gone")
    answer = called(made(store), secret)[0]
    assert answer.status_code == 503
    assert "database cannot be used now (no such table: hits)" in answer.text


def test_the_command_line_tells_in_a_sentence_that_the_database_fails(store: Database, tmp_path: Path) -> None:
    renamed(tmp_path, "keys", "gone")
    with (
        pytest.raises(Error, match="database cannot be used now"),
        keyring.opened(Settings(home=str(tmp_path))) as keys,
    ):
        keys.create("x")


def layout(connection: Any) -> dict[str, Any]:
    """What a database knows of its tables."""
    known = sql.inspect(connection)
    return {
        table: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in known.get_columns(table)],
            known.get_pk_constraint(table)["constrained_columns"],
            sorted(str(index["column_names"]) + str(index["unique"]) for index in known.get_indexes(table)),
            sorted(str(constraint["column_names"]) for constraint in known.get_unique_constraints(table)),
        )
        for table in known.get_table_names()
    }


def test_the_migrations_lead_to_the_tables_that_a_new_database_gets(store: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    migrated = sql.create_engine("sqlite://")
    with store.read() as new, migrated.begin() as old:
        database.migrate(old)
        for connection in (new, old):
            context = MigrationContext.configure(connection)
            assert context.get_current_revision() == database.HEAD
            assert compare_metadata(context, database.tables) == []
        assert layout(new) == layout(old)
        assert len(layout(new)) == 6


def test_a_database_of_the_first_saccade_is_brought_up_to_date_and_keeps_its_keys(tmp_path: Path) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    with sql.create_engine(f"sqlite:///{tmp_path / database.FILE}").begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "INSERT INTO keys (id, name, digest, prefix, scopes, models, endpoints, created) "
            "VALUES ('a', 'b', 'c', 'd', '', '', '', 0)"
        )
    opened = Database("", str(tmp_path))
    with opened.read() as connection:
        assert "endpoints" in layout(connection)
        assert connection.execute(sql.select(database.keys.c.name)).scalars().all() == ["b"]
    opened.close()


def test_a_new_database_needs_no_migrations(tmp_path: Path) -> None:
    code = (
        "import sys; from saccade.server.database import Database; Database('', sys.argv[1]).close(); "
        "print(any(name.split('.')[0] == 'alembic' for name in sys.modules))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert told.stdout.strip() == "False"


def test_keys_can_be_made_before_the_home_exists(tmp_path: Path) -> None:
    with keyring.opened(Settings(home=str(tmp_path / "new" / "home"))) as keys:
        keys.create("first")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSettings, match="--home"), keyring.opened(Settings(home=str(tmp_path / "file" / "home"))):
        pass


def test_keys_lie_in_the_home_whatever_it_is_called(tmp_path: Path) -> None:
    home = tmp_path / "what? 100% #1 é;a=b&c@d:e"
    Database("", str(home)).close()
    assert [path.name for path in home.iterdir()] == [database.FILE]
    assert list(tmp_path.iterdir()) == [home]


def test_several_servers_may_start_on_a_fresh_home_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        for opened in threads.map(lambda _: Database("", str(tmp_path)), range(4)):
            opened.close()


@pytest.mark.parametrize("url", ["", "sqlite:///{}/other.db"])
def test_a_new_database_is_for_its_user_alone(tmp_path: Path, url: str) -> None:
    """Other users of the machine learn neither the names of keys nor what is asked for with them."""
    before = os.umask(0o022)
    try:
        with contextlib.closing(Database(url.format(tmp_path), str(tmp_path))) as opened:
            Keys(opened).create("laptop")
            files = [path for path in tmp_path.iterdir() if path.name.startswith(("saccade.db", "other.db"))]
            assert len(files) == 3  # SQLite keeps two beside it
            assert [oct(path.stat().st_mode & 0o777) for path in files] == [oct(0o640)] * 3
    finally:
        os.umask(before)


def test_only_a_damaged_database_is_to_be_moved_away(tmp_path: Path) -> None:
    (tmp_path / "barred" / database.FILE).mkdir(parents=True)
    with pytest.raises(BadSettings, match="must be able to write the file"):
        Database("", str(tmp_path / "barred"))
    (tmp_path / database.FILE).write_bytes(b"no database" * 100)
    with pytest.raises(BadSettings, match="If it is damaged"):
        Database("", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "words"),
    [("SQLITE_FULL", "Free some room"), ("SQLITE_BUSY", "Another program holds it"), ("SQLITE_NOTADB", "damaged")],
)
def test_what_ails_a_database_decides_what_is_advised(name: str, words: str) -> None:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorname = name
    assert words in database._advice(error)


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "postgresql://nobody@127.0.0.1:1/none"])
def test_a_database_that_cannot_be_used_is_named_without_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="database") as caught:
        Database(url, str(tmp_path))
    assert "nobody" not in caught.value.message


def test_neither_log_nor_answers_hold_a_key(
    store: Database, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = made(store, quota_calls=2)
    _, secret = keys.create("x")
    with (tmp_path / "log").open("w+") as stream:
        app.journal = Journal(True, stream)
        answers = called(app, secret, times=3) + called(app, secret + "0") + called(app, secret, b"broken")
        answers += asked(
            app, ("POST", f"/first/one?api_key={secret}", {"headers": {"authorization": "Bearer " + secret}})
        )
        app.journal.flush()
        stream.seek(0)
        said = stream.read() + caplog.text + "".join(answer.text + str(answer.headers) for answer in answers)
    assert secret not in said
    assert secret[8:] not in said
    assert "Traceback" not in said


def test_a_server_that_is_refused_for_want_of_a_key_says_how_to_make_one_where_it_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Database
) -> None:
    def told(**given: Any) -> str:
        with pytest.raises(BadSettings) as refused:
            wiring.open_gate(settings.load({"host": "0.0.0.0", **given}, {}, tmp_path), store)
        return refused.value.message

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SACCADE_HOME", raising=False)
    elsewhere = str(tmp_path / "a home")
    assert "Create a key with 'saccade keys create NAME', or start" in told()
    assert f"'saccade keys create NAME --home '{elsewhere}''" in told(home=elsewhere)
    monkeypatch.setenv("SACCADE_HOME", elsewhere)
    assert "'saccade keys create NAME', or start" in told(home=elsewhere)
    assert "SACCADE_DATABASE_URL as here, or start" in told(database_url=f"sqlite:///{tmp_path}/keys.db")


def test_a_failed_call_whose_caller_leaves_while_it_is_given_back_is_given_back(
    store: Database, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stayed taken, and was in no usage either."""
    monkeypatch.setattr(gate, "AGAIN_S", 0.1)
    key, secret = keys.create("x", quota_calls=5)
    app = made(store)

    async def play() -> None:
        async with client(app) as http:
            call = asyncio.create_task(http.post("/first/one", content=b"fail late", headers={"x-api-key": secret}))
            await asyncio.sleep(0.3)  # it was taken, and has not failed yet
            assert SqlWindows(store).look(key.id, 3600).used == 1
            backup = sqlite3.connect(tmp_path / database.FILE, isolation_level=None)
            backup.execute("BEGIN IMMEDIATE")
            blocking = asyncio.create_task(app.gate.written(lambda: time.sleep(0.6)))  # type: ignore[attr-defined]
            await asyncio.sleep(0.5)
            call.cancel()
            await asyncio.wait({call})
            backup.close()
            await blocking
            await asyncio.sleep(0.5)
        await app.close()

    asyncio.run(play())
    kept = Database("", str(tmp_path))
    assert SqlWindows(kept).look(key.id, 3600).used == 0
    with kept.read() as connection:
        assert connection.execute(sql.select(database.usage.c.calls, database.usage.c.errors)).all() == [(0, 1)]


def test_a_caller_who_leaves_when_the_call_has_just_been_taken_has_used_nothing(store: Database, keys: Keys) -> None:
    """Under load nearly each one who left while the call was taken had used it, and was in no usage."""
    key, _ = keys.create("x", quota_calls=5)
    kept = made(store).gate
    assert isinstance(kept, KeyGate)
    done, taking = threading.Event(), kept.windows.take

    class Slow(SqlWindows):
        def take(self, *given: Any) -> Taken:
            taken = taking(*given)
            done.set()
            return taken

    kept.windows = Slow(store)

    async def play() -> None:
        call = asyncio.create_task(kept.take_from(key.id, 5, 3600, Caller(id=key.id), ["one"]))
        await asyncio.sleep(0)
        assert done.wait(5)
        time.sleep(0.1)  # the event loop is busy, and learns of both at one time
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        while kept.windows.look(key.id, 3600).used:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(play(), 5))

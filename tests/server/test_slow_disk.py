"""Models on a disk or in a network folder that is slow to answer, or does not answer at all."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest
from server_fakes import EchoEngine, PlainDialect, Shelf, client
from tests.server.test_front import pair

from saccade.card import Card
from saccade.dialects import platform
from saccade.errors import Overloaded, UnknownModel
from saccade.server import desk, inquiries, wiring
from saccade.server.access import OpenGate
from saccade.server.app import App
from saccade.server.inquiries import FRESH_S, PATIENCE_S, Inquiries, Unasked
from saccade.server.settings import Settings


class Folder(Shelf):
    """A Shelf in a network folder that hangs now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()
        self.answers.set()
        self.asked: list[str] = []

    def card(self, ref: str, *, fetch: bool = False) -> Card:
        self.asked.append(ref)
        self.answers.wait(30)
        return super().card(ref, fetch=fetch)

    def cards(self) -> list[Card]:
        self.answers.wait(30)
        return super().cards()


def made(folder: Folder, *dialects: Any) -> App:
    settings = Settings(access_log=False)
    app = wiring.build(settings, folder, EchoEngine(), OpenGate(), dialects or [PlainDialect("first")])  # type: ignore[arg-type]
    app.ready = True
    return app


def run(play: Callable[[], Any], folder: Folder) -> Any:
    try:
        return asyncio.run(asyncio.wait_for(play(), 20))
    finally:
        folder.answers.set()


async def timed(request: Any) -> tuple[int, float]:
    begun = time.monotonic()
    response: httpx.Response = await request
    return response.status_code, time.monotonic() - begun


async def quickest(ask: Callable[[], Any]) -> tuple[int, float]:
    """The worst status and the shortest time of three: what waits for the folder waits each time."""
    told = [await timed(ask()) for _ in range(3)]
    return max(status for status, _ in told), min(took_s for _, took_s in told)


def test_a_folder_that_hangs_stalls_neither_known_models_nor_the_rest_of_the_server() -> None:
    folder = Folder()

    async def play() -> None:
        async with client(made(folder)) as http:
            assert (await http.post("/first/one", content=b"x")).status_code == 200
            for path in ("/health", "/metrics", "/info"):
                await http.get(path)  # what the first call of each imports is no part of what is measured
            await asyncio.sleep(FRESH_S + 0.05)
            folder.answers.clear()
            calls = [asyncio.create_task(timed(http.post("/first/one", content=b"x"))) for _ in range(5)]
            strangers = [asyncio.create_task(http.post(f"/first/nobody{n}", content=b"x")) for n in range(20)]
            lists = asyncio.create_task(http.get("/firsts"))
            await asyncio.sleep(0.05)
            for path in ("/health", "/health", "/metrics", "/info"):
                status, took_s = await quickest(partial(http.get, path))
                assert status == 200
                assert took_s < (PATIENCE_S + 0.3 if path == "/info" else 0.3), (path, took_s)
            for status, took_s in await asyncio.gather(*calls):
                assert (status, took_s < PATIENCE_S + 0.5) == (200, True)
            # From now on nobody waits for it.
            await asyncio.sleep(FRESH_S + 0.05)
            status, took_s = await quickest(partial(http.post, "/first/one", content=b"x"))
            assert (status, took_s < 0.2) == (200, True)
            del folder.here["one"]
            folder.answers.set()
            assert {(await one).status_code for one in strangers} == {404}
            assert (await lists).json() == ["slow", "two"] or (await lists).json() == ["two", "slow"]
            assert (await http.post("/first/one", content=b"x")).status_code == 404
        assert folder.asked.count("one") <= 4, folder.asked

    run(play, folder)


def test_a_model_is_found_as_soon_as_it_lies_there_and_gone_a_second_after_it_went() -> None:
    folder = Folder()

    async def play() -> None:
        async with client(made(folder)) as http:
            assert (await http.post("/first/new", content=b"x")).status_code == 404
            folder.here["new"] = folder.here["one"]
            assert (await http.post("/first/new", content=b"x")).status_code == 200
            del folder.here["new"]
            await asyncio.sleep(FRESH_S + 0.05)
            assert (await http.post("/first/new", content=b"x")).status_code == 404

    run(play, folder)


def test_fronts_answer_known_models_while_the_folder_hangs() -> None:
    folder = Folder()

    async def play() -> None:
        async with pair(shelf=folder) as two, client(two.front) as http:
            assert (await http.post("/first/one", content=b"x")).status_code == 200
            await asyncio.sleep(FRESH_S + 0.05)
            folder.answers.clear()
            stranger = asyncio.create_task(http.post("/first/nobody", content=b"x"))
            status, took_s = await timed(http.post("/first/one", content=b"x"))
            assert (status, took_s < PATIENCE_S + 0.5) == (200, True)
            status, took_s = await quickest(partial(http.get, "/health"))
            assert (status, took_s < 0.2) == (200, True)
            folder.answers.set()
            assert (await stranger).status_code == 404

    run(play, folder)


def test_what_was_never_found_is_given_up_with_a_reason() -> None:
    async def play() -> None:
        never = asyncio.Event()

        async def hang(ref: str | None) -> bool:
            return await never.wait()

        with pytest.raises(Overloaded, match="does not answer"):
            await Inquiries(hang, longest_s=0.05).ask("one")

    asyncio.run(play())


def test_names_with_an_owner_and_a_project_before_them_are_not_looked_for_with_each_call() -> None:
    folder = Folder()

    async def play() -> None:
        async with client(made(folder, platform.Platform())) as http:
            for _ in range(20):
                await http.post("/api/models/me/cars/one/predict", files={"file": b"x"})

    run(play, folder)
    assert 3 <= len(folder.asked) <= 6, folder.asked


def test_a_name_is_looked_up_in_a_thread_while_another_call_forgets_it() -> None:
    """Large requests are read in threads; what the event loop did in the same moment became a server error."""
    front = made(Folder()).desk

    class Name(str):
        looks = 0

        def __hash__(self) -> int:
            self.looks += 1
            if self.looks == 2:  # the event loop has its turn between two looks
                for number in range(desk.MOST_MISSED):
                    front.miss(str(number), UnknownModel("none"))
            return super().__hash__()

    front.miss("me/cars", UnknownModel("There is no model 'me/cars'."))
    with pytest.raises((UnknownModel, Unasked)):
        front.card(Name("me/cars"))


def test_a_name_that_leads_to_a_model_by_its_last_part_keeps_nothing_of_the_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is known of its other parts is told to many calls, which stayed in memory for good, bodies and all."""
    for place in (desk, inquiries):
        monkeypatch.setattr(place, "FRESH_S", 0.01)
    folder = Folder()

    async def play() -> int:
        async with client(made(folder, platform.Platform())) as http:
            for _ in range(8):
                response = await http.post("/api/models/me/cars/one/predict", files={"file": b"x" * 100_000})
                assert response.status_code == 200
                await asyncio.sleep(0.02)
        gc.collect()
        return sum(type(found) is desk.Reading for found in gc.get_objects())

    assert run(play, folder) == 0


def test_what_is_known_is_believed_for_longer_only_until_the_library_has_answered() -> None:
    async def main() -> None:
        slow = asyncio.Event()
        asked = 0

        async def ask(ref: str | None) -> int:
            nonlocal asked
            asked += 1
            if asked == 2:
                await slow.wait()
            if asked == 4:
                raise UnknownModel("It is gone.")
            return asked

        known = Inquiries(ask, fresh_s=0.05)
        assert await known.ask("m") == 1
        await asyncio.sleep(0.1)
        assert await known.ask("m", patience_s=0.01) == 1
        assert known.told("m") == 1
        slow.set()
        await asyncio.sleep(0.01)
        assert known.told("m") == 2
        await asyncio.sleep(0.1)
        with pytest.raises(Unasked):
            known.told("m")
        assert await known.ask("m") == 3
        with pytest.raises(UnknownModel):
            await known.ask("m")
        with pytest.raises(Unasked):
            known.told("m")

    asyncio.run(main())

"""Models that endpoints use, and that somebody wants to take away, or has taken away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
from msgspec.structs import replace
from server_fakes import EchoEngine, client
from tests.server.simulated_house import PICTURE, Devices

from saccade.card import Card
from saccade.endpoints.endpoint import Plan, Record
from saccade.library import Library
from saccade.server import wiring
from saccade.server.access import OpenGate
from saccade.server.app import App
from saccade.server.settings import Settings


class Memory:
    """Records that live as long as the test."""

    def __init__(self, *records: Record) -> None:
        self._kept = {record.name: record for record in records}

    def all(self) -> Iterable[Record]:
        return list(self._kept.values())

    def save(self, record: Record) -> None:
        self._kept[record.name] = record

    def remove(self, name: str) -> None:
        self._kept.pop(name, None)


def built(home: Path, library: Any, *records: Record) -> App:
    settings = Settings(home=str(home), isolate=False, threads=1)
    return wiring.build(settings, library, EchoEngine(), OpenGate(), records=Memory(*records))  # type: ignore[arg-type]


def test_the_console_does_not_remove_a_model_that_endpoints_use(tmp_path: Path) -> None:
    file = tmp_path / "models" / "mine.onnx"
    file.parent.mkdir()
    file.write_bytes(b"a graph")
    plan = Plan(model="mine.onnx")
    app = built(
        tmp_path, Library(tmp_path, (), ()), *(Record(id=name, name=name, plan=plan, state="stopped") for name in "ab")
    )

    async def play() -> httpx.Response:
        assert app.fleet is not None
        app.fleet.recall()
        async with client(app) as http:
            refused = await http.delete("/v1/console/models/mine")
            assert (refused.status_code, "the endpoints 'a', 'b'." in refused.text) == (400, True), refused.text
            assert file.exists()
            for name in "ab":
                await http.delete(f"/v1/endpoints/{name}")
            return await http.delete("/v1/console/models/mine")

    assert asyncio.run(play()).json() == {"removed": "mine"}
    assert not file.exists()


def test_an_endpoint_whose_model_is_gone_goes_on_from_memory_and_has_failed_once_it_slept(tmp_path: Path) -> None:
    devices = Devices(cars={"ms": 1})

    async def play() -> None:
        app = built(tmp_path, devices)
        assert app.fleet is not None
        async with client(app) as http:

            async def standing() -> tuple[str, str]:
                row = (await http.get("/v1/endpoints/people")).json()
                return row["state"], row["reason"]

            async def predicted() -> httpx.Response:
                return await http.post("/endpoints/people", files={"file": ("a.ppm", PICTURE)})

            await app.fleet.create("people", Plan(model="cars", idle_stop_s=1))
            while await standing() != ("ready", ""):
                await asyncio.sleep(0.02)
            cards, devices._cards = devices._cards, {}
            assert (await predicted()).status_code == 200
            assert (await http.get("/v1/endpoints/people/health")).json()["healthy"]
            while app.fleet.replicas("people"):
                await asyncio.sleep(0.05)
            state, reason = await standing()
            assert (state, "'cars' is not on this server any more" in reason) == ("failed", True)
            told = (await http.get("/v1/endpoints/people/health")).json()
            assert (told["healthy"], told["error"]) == (False, reason)
            refused = await predicted()
            assert (refused.status_code, reason in refused.text) == (503, True), refused.text
            assert (await http.get("/endpoints/people/health")).json() == {"status": "failed"}
            assert (await http.get("/api/deployments/x/people")).json()["deployment"]["statusMessage"] == reason
            devices._cards = cards
            assert await standing() == ("ready", "")
            assert (await predicted()).status_code == 200
        await app.close()

    asyncio.run(asyncio.wait_for(play(), 30))


def test_an_endpoint_whose_models_files_were_replaced_while_it_slept_reads_them_as_what_they_are(
    tmp_path: Path,
) -> None:
    """The new weights were read by the former model's labels, until the endpoint was started anew."""
    devices = Devices(cars={"ms": 1})

    async def play() -> None:
        app = built(tmp_path, devices)
        assert app.fleet is not None
        async with client(app) as http:

            async def predicted() -> str:
                answer = await http.post("/endpoints/people/", files={"file": ("a.ppm", PICTURE)})
                return str(answer.json()["images"][0]["results"][0]["name"])

            await app.fleet.create("people", Plan(model="cars", idle_stop_s=1))
            while app.fleet.record("people").state != "ready":
                await asyncio.sleep(0.02)
            assert await predicted() == "cars"
            while app.fleet.replicas("people"):
                await asyncio.sleep(0.05)
            devices._cards["cars"] = replace(devices._cards["cars"], labels={0: "lorries"}, revision="2")
            assert await predicted() == "lorries"
            devices._cards["cars"] = replace(devices._cards["cars"], labels={0: "vans"}, revision="3")
            while await predicted() != "vans":
                await asyncio.sleep(0.05)
        await app.close()

    asyncio.run(asyncio.wait_for(play(), 30))


def test_an_endpoint_makes_of_a_checkpoint_what_the_shared_api_makes_of_it(tmp_path: Path) -> None:
    """It ran it in torch for good."""

    class Converting(Devices):
        def ready(self, card: Card) -> Card:
            return replace(card, labels={0: "converted"})

    async def play() -> Any:
        app = built(tmp_path, Converting(cars={"ms": 1}))
        assert app.fleet is not None
        async with client(app) as http:
            await app.fleet.create("people", Plan(model="cars"))
            while app.fleet.record("people").state != "ready":
                await asyncio.sleep(0.02)
            answer = await http.post("/endpoints/people/", files={"file": ("a.ppm", PICTURE)})
        await app.close()
        return answer.json()["images"][0]["results"][0]["name"]

    assert asyncio.run(asyncio.wait_for(play(), 30)) == "converted"

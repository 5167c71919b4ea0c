"""The engine's rules as settings: each has its effect where somebody would notice, over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from simulated_house import Devices

from saccade.server import settings, wiring
from saccade.server.access import OpenGate

PICTURE = b"P6\n4 4\n255\n" + bytes([100]) * 48


class House:
    """The server's application in this process, and callers of it."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def ask(self, model: str = "m", body: bytes = PICTURE) -> int:
        """The status of one call that no cache answers."""
        return (await self.post(model, body, {"x-use-cache": "false"})).status_code

    async def post(self, model: str, body: bytes = PICTURE, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self.client.post(
            f"/models/{model}", content=body, headers={"content-type": "image/x-portable-pixmap", **(headers or {})}
        )

    async def engine(self) -> dict[str, Any]:
        told: dict[str, Any] = (await self.client.get("/info")).json()["engine"]
        return told

    async def model(self) -> dict[str, Any]:
        """What /info tells of the only model in memory."""
        (told,) = (await self.engine())["models"]
        return told  # type: ignore[no-any-return]

    async def until(self, true: Callable[[dict[str, Any]], bool], seconds: float = 30.0) -> dict[str, Any]:
        """What /info tells once it is as it should be."""
        end = time.monotonic() + seconds
        while not true(told := await self.engine()):
            assert time.monotonic() < end, told
            await asyncio.sleep(0.02)
        return told


@asynccontextmanager
async def house(home: Path, devices: dict[str, dict[str, Any]], **given: Any) -> AsyncIterator[House]:
    chosen = settings.load({"home": str(home), "threads": 1, "fork_workers": False, **given}, {}, home)
    library = Devices(**devices)
    engine = wiring.open_engine(chosen, library)
    app = wiring.build(chosen, library, engine, OpenGate())
    await engine.start()
    app.ready = True
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here", timeout=60) as client:
            yield House(client)
    finally:
        await app.close()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 90))


def test_two_replicas_are_two_processes(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, {"m": {}}, replicas=2) as here:
            assert await here.ask() == 200
            assert len({replica["pid"] for replica in (await here.model())["replicas"]} - {os.getpid()}) == 2

    run(main())


def test_workers_are_copied_if_it_is_wanted(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, {"m": {}}, fork_workers=True) as here:
            told = await here.until(lambda engine: bool(engine["fork_server"]))
            assert told["fork_server_bytes"] > 20 << 20
            assert "saccade_engine_fork_server 1.0" in (await here.client.get("/metrics")).text
        async with house(tmp_path, {"m": {}}) as here:
            await asyncio.sleep(0.5)
            assert not (await here.engine())["fork_server"]

    run(main())


@pytest.mark.parametrize("dry", [False, True])
def test_a_dry_run_counts_whom_it_would_refuse_and_refuses_nobody(tmp_path: Path, dry: bool) -> None:
    async def main() -> None:
        given = {"isolate": False, "max_batch": 1, "queue_calls": 2, "admission_dry_run": dry}
        async with house(tmp_path, {"m": {"ms": 50, "parallel": 1}}, **given) as here:
            await here.ask()
            statuses = await asyncio.gather(*(here.ask() for _ in range(12)))
            told = await here.model()
            refused = statuses.count(503)
            assert (refused == 0) == dry
            assert told["refused"] == refused
            assert (told["would_refuse"] > 0) == dry
            text = (await here.client.get("/metrics")).text
            assert f'saccade_model_would_refuse_total{{model="m"}} {told["would_refuse"]:.1f}' in text

    run(main())


def test_calls_wait_behind_those_of_a_higher_priority(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, {"m": {"ms": 60, "parallel": 1}}, isolate=False, max_batch=1) as here:
            await here.ask()
            done: list[int] = []

            async def ask(priority: int) -> None:
                headers = {"x-use-cache": "false", "x-request-priority": str(priority)}
                assert (await here.post("m", headers=headers)).status_code == 200
                done.append(priority)

            busy = [asyncio.create_task(here.ask()) for _ in range(6)]
            await here.until(lambda engine: engine["queued_calls"] > 0)
            wishes = [asyncio.create_task(ask(priority)) for priority in (*[-5] * 6, *[0] * 6, *[5] * 6)]
            await asyncio.gather(*busy, *wishes)
            places = {wish: [place for place, priority in enumerate(done) if priority == wish] for wish in (-5, 0, 5)}
            # Those that are out of the line together may overtake one another; there are fewer of them than zeros.
            assert max(places[5]) < min(places[-5]), done
            assert sum(places[5]) < sum(places[0]) < sum(places[-5]), done

    run(main())


def test_calls_of_all_models_together_wait_in_one_room(tmp_path: Path) -> None:
    async def main() -> None:
        devices = {"m": {"ms": 200, "parallel": 1}, "n": {"ms": 200, "parallel": 1}}
        async with house(tmp_path, devices, isolate=False, queue_total_calls=2) as here:
            assert [await here.ask("m"), await here.ask("n")] == [200, 200]
            slots = (await here.engine())["models"][0]["replicas"][0]["slots"]
            full = [asyncio.create_task(here.ask("m")) for _ in range(slots + 2)]
            await asyncio.sleep(0.05)
            also = [asyncio.create_task(here.ask("n")) for _ in range(slots + 1)]
            assert set(await asyncio.gather(*full)) == {200}
            assert sorted(await asyncio.gather(*also)) == [200] * slots + [503]

    run(main())


@pytest.mark.parametrize(("stay_s", "status"), [(0.0, 200), (600.0, 503)])
def test_a_model_stays_for_its_time_before_it_makes_room(tmp_path: Path, stay_s: float, status: int) -> None:
    async def main() -> None:
        given = {"isolate": False, "memory_bytes": 1, "min_residency_s": stay_s}
        async with house(tmp_path, {"m": {}, "n": {}}, **given) as here:
            assert await here.ask("m") == 200
            assert await here.ask("n") == status

    run(main())


@pytest.mark.parametrize("largest", [1, 4])
def test_runs_hold_as_many_images_as_they_may(tmp_path: Path, largest: int) -> None:
    async def main() -> None:
        async with house(tmp_path, {"m": {"ms": 30, "parallel": 1}}, isolate=False, max_batch=largest) as here:
            assert set(await asyncio.gather(*(here.ask() for _ in range(12)))) == {200}
            sizes = {int(size) for size in (await here.model())["batch_sizes"]}
            assert max(sizes) == largest

    run(main())


def test_an_image_that_takes_too_long_to_decode_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (70, 7000, 3), dtype=np.uint8)
    heavy = bytes(cv2.imencode(".jpg", np.tile(noise, (60, 1, 1)), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1])

    async def main() -> None:
        async with house(tmp_path, {"m": {}}, decode_timeout_s=0.1) as here:
            assert await here.ask() == 200
            answer = await here.post("m", heavy, {"content-type": "image/jpeg"})
            assert answer.status_code == 400
            assert "longer than 0.1 s to decode" in answer.text

    run(main())


def test_a_worker_that_falls_silent_is_replaced_after_the_time_that_was_set(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, {"m": {}}, hang_timeout_s=1.0) as here:
            assert await here.ask() == 200
            (replica,) = (await here.model())["replicas"]
            os.kill(replica["pid"], signal.SIGSTOP)
            begun = time.monotonic()
            assert await here.ask() == 200
            assert 0.4 < time.monotonic() - begun < 20

    run(main())


def test_models_are_tried_as_often_as_was_set(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, {"m": {"blind_after": 6}}, check_interval_s=0.1) as here:
            assert await here.ask() == 200
            await here.until(lambda engine: engine["models"][0]["crashes"] > 0)

    run(main())


def test_a_worker_over_its_memory_is_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, {"m": {}}, worker_memory_bytes=20 << 20) as here:
            await here.ask()
            await here.until(lambda engine: not engine["models"] or engine["models"][0]["crashes"] > 0)

    run(main())


def test_an_answer_out_of_the_cache_tells_no_time_that_another_call_took(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, {"m": {"ms": 50}}, isolate=False) as here:
            first, hit = [(await here.post("m")).headers["server-timing"] for _ in range(2)]
            spent = {part.split(";dur=")[0]: float(part.split(";dur=")[1]) for part in hit.split(", ") if "dur" in part}
            assert "infer;dur=5" in first
            assert "cache;desc=hit" in hit
            assert spent.pop("total") < 50
            assert set(spent.values()) == {0.0}

    run(main())


def test_an_answer_leaves_the_cache_when_its_time_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, {"m": {}}, isolate=False, cache_ttl_s=0.5) as here:
            hits = []
            for pause_s in (0.0, 0.0, 0.6):
                await asyncio.sleep(pause_s)
                assert (await here.post("m")).status_code == 200
                hits.append((await here.engine())["cache_hits"])
            assert hits == [0, 1, 1]

    run(main())

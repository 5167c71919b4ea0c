"""Hours in small: mixed calls to several models, with bad images, callers who leave, videos and now and then a kill.

    python -m benchmarks.engine.soak --minutes 30

Tells how memory, descriptors and latency moved: the slope of a straight line through the samples, without the first
fifth, in which caches fill.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from itertools import islice

import numpy as np
from benchmarks.engine.drive import Figures, arguments, one_call, tell, tree_bytes
from tests.engine.shelf import Shelf, photo_sized, running

from saccade.call import Call
from saccade.engine import Engine
from saccade.engine.golden import jpeg, picture
from saccade.media import Limits

CALLERS = 6
KILL_EVERY_S = 45.0


def main() -> None:
    given = arguments(__doc__ or "", minutes=30.0)
    tell("soak", asyncio.run(measure(given.minutes)), given.json)


async def measure(minutes: float) -> dict[str, object]:
    """Three models, two of which fit; callers that choose at random."""
    rng = random.Random(7)
    photos = [jpeg(picture(height, width)) for height, width in ((480, 640), (1080, 1920), (300, 200))]
    photos += [photo_sized(level, 20_000) for level in range(0, 200, 10)]
    library = Shelf(a={"ms": 3, "mib": 60}, b={"ms": 3, "mib": 60}, c={"ms": 3, "mib": 60})
    rules = {"memory_bytes": 300 << 20, "min_residency_s": 2.0, "cache_bytes": 4 << 20, "limits": Limits()}
    samples: list[tuple[float, int, int, float]] = []
    figures = Figures(keep=20_000)
    kills = left = 0
    until = time.monotonic() + minutes * 60
    async with running(library, isolate=True, **rules) as engine:

        async def caller(number: int) -> None:
            nonlocal left
            while time.monotonic() < until:
                name = rng.choices("abc", weights=(6, 6, 1))[0]
                media = b"no picture" if rng.random() < 0.05 else rng.choice(photos)
                call = Call(model=name, media=media, caller=f"caller {number}", use_cache=rng.random() < 0.2)
                if rng.random() < 0.05:
                    left += 1
                    await _gone(engine, call)
                else:
                    await one_call(figures, engine.predict(call))
                await asyncio.sleep(rng.random() * 0.02)

        async def killer() -> None:
            nonlocal kills
            while time.monotonic() + KILL_EVERY_S < until:
                await asyncio.sleep(KILL_EVERY_S)
                replicas = [replica for model in engine.info()["models"] for replica in model["replicas"]]
                if replicas:
                    os.kill(rng.choice(replicas)["pid"], signal.SIGKILL)
                    kills += 1

        async def watch() -> None:
            begun = time.monotonic()
            while time.monotonic() < until:
                seen = figures.answered
                await asyncio.sleep(max(1.0, minutes * 60 / 200))
                count = min(len(figures.latencies), figures.answered - seen)
                fresh = sorted(islice(reversed(figures.latencies), count)) or [0.0]
                moment = time.monotonic() - begun
                # The models' own memory comes and goes with them; the front's is what may leak.
                samples.append((moment, _front_bytes(), len(os.listdir("/proc/self/fd")), fresh[len(fresh) // 2]))

        begun = time.perf_counter()
        await asyncio.gather(killer(), watch(), *(caller(number) for number in range(CALLERS)))
        figures.seconds = time.perf_counter() - begun
        whole = tree_bytes()
        info = engine.info()
    times, memory, files, latency = (np.array(column, dtype=float) for column in zip(*samples, strict=True))
    kept = times > times[-1] / 5
    return {
        "minutes": round(minutes, 1),
        **figures.row(),
        "answered": figures.answered,
        "bad_images_refused": figures.errors.pop("BadInput", 0),
        "no_room_refused": figures.errors.pop("Overloaded", 0),
        "otherwise_failed": dict(figures.errors),
        "callers_who_left": left,
        "kills": kills,
        "loads": info["loads"],
        "evictions": info["evictions"],
        "tree_mib": round(whole / 2**20, 1),
        "front_mib": round(memory[-1] / 2**20, 1),
        "front_mib_per_hour": round(_slope(times[kept], memory[kept]) * 3600 / 2**20, 2),
        "descriptors": [int(files.min()), int(files.max())],
        "descriptors_per_hour": round(_slope(times[kept], files[kept]) * 3600, 2),
        "latency_ms_per_hour": round(_slope(times[kept], latency[kept]) * 3600 * 1e3, 2),
    }


async def _gone(engine: Engine, call: Call) -> None:
    """A caller who leaves before the answer."""
    task = asyncio.create_task(engine.predict(call))
    await asyncio.sleep(0.004)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _front_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _slope(times: np.ndarray, values: np.ndarray) -> float:
    return float(np.polyfit(times, values, 1)[0])


if __name__ == "__main__":
    main()

"""A worker is killed every two seconds under load: is any answer wrong, any call lost, and how long is the gap?

python -m benchmarks.engine.chaos --seconds 60
"""

from __future__ import annotations

import asyncio
import os
import signal
import time

from benchmarks.engine.drive import Figures, arguments, one_call, tell
from tests.engine.shelf import Shelf, photo_sized, running

from saccade.call import Answer, Call
from saccade.results import Boxes


def main() -> None:
    given = arguments(__doc__ or "", seconds=60.0, every_s=2.0, callers=8)
    tell("chaos", asyncio.run(measure(given.seconds, given.every_s, given.callers)), given.json)


async def measure(seconds: float, every_s: float, callers: int) -> dict[str, object]:
    """One model in one worker; callers that ask again at once."""
    wrong = 0
    gaps: list[float] = []
    last_answer = time.perf_counter()
    photos = [photo_sized(level) for level in range(200)]
    figures = Figures()
    async with running(Shelf(m={"ms": 10}), isolate=True) as engine:
        await engine.load("m")
        until = time.perf_counter() + seconds

        async def caller(level: int) -> None:
            nonlocal wrong, last_answer
            while time.perf_counter() < until:
                level = (level + 1) % 200
                answer = await one_call(figures, engine.predict(Call(model="m", media=photos[level])))
                last_answer = time.perf_counter()
                if isinstance(answer, Answer) and isinstance(answer.result, Boxes):
                    wrong += abs(float(answer.result.scores[0]) * 255 - level) > 1

        async def killer() -> int:
            kills = 0
            while time.perf_counter() < until - every_s:
                await asyncio.sleep(every_s)
                replicas = engine.info()["models"][0]["replicas"]
                if not replicas:
                    continue
                os.kill(replicas[0]["pid"], signal.SIGKILL)
                kills += 1
                killed = time.perf_counter()
                while last_answer < killed + 0.02:
                    await asyncio.sleep(0.005)
                gaps.append(last_answer - killed)
            return kills

        begun = time.perf_counter()
        kills, *_ = await asyncio.gather(killer(), *(caller(n * 20) for n in range(callers)))
        figures.seconds = time.perf_counter() - begun
        facts = engine.info()["models"][0]
    gaps.sort()
    return {
        "seconds": round(figures.seconds, 1),
        "kills": kills,
        **figures.row(),
        "answered": figures.answered,
        "wrong": wrong,
        "failed": dict(figures.errors),
        "retried": facts["retried"],
        "gap_median_s": round(gaps[len(gaps) // 2], 3) if gaps else None,
        "gap_longest_s": round(gaps[-1], 3) if gaps else None,
    }


if __name__ == "__main__":
    main()

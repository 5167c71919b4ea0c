"""A simulated device of 50 ms behind one to eight replicas: does the throughput grow with them, and are tails short?

python -m benchmarks.engine.replicas
"""

from __future__ import annotations

import asyncio
from random import Random

from benchmarks.engine.drive import Figures, arguments, closed, offered, tell
from tests.engine.shelf import Shelf, photo_sized, running

from saccade.call import Answer, Call

DEVICE = {"ms": 50.0, "parallel": 1}


def main() -> None:
    given = arguments(__doc__ or "", seconds=15.0, most=8)
    tell("replicas", asyncio.run(measure(given.seconds, given.most)), given.json)


async def measure(seconds: float, most: int) -> dict[str, object]:
    """Full load for the throughput, then 70 % of it for the latencies: in even steps, and as chance has calls come."""
    photo = photo_sized()
    rows: dict[str, object] = {}
    rates: list[float] = []
    count = 1
    while count <= most:
        async with running(Shelf(m=DEVICE), isolate=True, replicas=count, threads=1) as engine:

            async def one(_: int, engine: object = engine) -> Answer:
                return await engine.predict(Call(model="m", media=photo))  # type: ignore[attr-defined, no-any-return]

            await engine.load("m")
            full = await closed(one, 3 * count, int(seconds * 20 * count))
            even = await offered(one, 0.7 * full.rate, seconds)
            random = await offered(one, 0.7 * full.rate, seconds, Random(7))
            rates.append(full.rate)
            rows[str(count)] = {
                "per_s": round(full.rate, 1),
                "times_one": round(full.rate / rates[0], 2),
                "even_70": tails(even),
                "random_70": tails(random),
                "failed": dict(full.errors + even.errors + random.errors),
            }
        count *= 2
    return {"replicas": rows}


def tails(figures: Figures) -> dict[str, float]:
    """Median and 99th percentile, and how many times the one the other is."""
    p50, p99 = figures.ms(0.5), figures.ms(0.99)
    return {"p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "p99_over_p50": round(p99 / p50, 2)}


if __name__ == "__main__":
    main()

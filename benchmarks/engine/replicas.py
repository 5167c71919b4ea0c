"""A simulated device of 50 ms behind one to eight replicas: does the throughput grow with them, and are tails short?

python -m benchmarks.engine.replicas
"""

from __future__ import annotations

import asyncio

from benchmarks.engine.drive import arguments, closed, offered, tell
from tests.engine.shelf import Shelf, photo_sized, running

from saccade.call import Answer, Call

DEVICE = {"ms": 50.0, "parallel": 1}


def main() -> None:
    given = arguments(__doc__ or "", seconds=15.0, most=8)
    tell("replicas", asyncio.run(measure(given.seconds, given.most)), given.json)


async def measure(seconds: float, most: int) -> dict[str, object]:
    """Full load for the throughput, then 70 % of it in even steps for the latencies."""
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
            part = await offered(one, 0.7 * full.rate, seconds)
            rates.append(full.rate)
            rows[str(count)] = {
                "per_s": round(full.rate, 1),
                "times_one": round(full.rate / rates[0], 2),
                "p50_ms_at_70": round(part.ms(0.5), 1),
                "p99_ms_at_70": round(part.ms(0.99), 1),
                "p99_over_p50": round(part.ms(0.99) / part.ms(0.5), 2),
                "failed": dict(full.errors + part.errors),
            }
        count *= 2
    return {"replicas": rows}


if __name__ == "__main__":
    main()

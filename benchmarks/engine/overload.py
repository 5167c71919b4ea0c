"""Three times the capacity is offered: how much is still answered, how fast is refused, is anything lost or late?

python -m benchmarks.engine.overload --seconds 60
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.engine.drive import arguments, closed, offered, tell
from tests.engine.shelf import Shelf, photo_sized, running

from saccade.call import Answer, Call
from saccade.results import Boxes

DEVICE_MS = 20.0


def main() -> None:
    given = arguments(__doc__ or "", seconds=60.0, times=3.0, timeout_s=2.0)
    tell("overload", asyncio.run(measure(given.seconds, given.times, given.timeout_s)), given.json)


async def measure(seconds: float, times: float, timeout_s: float) -> dict[str, object]:
    """A device of 20 ms, two at a time: 100 calls per second at most."""
    wrong = late = 0
    photos = [photo_sized(level) for level in range(200)]
    async with running(Shelf(m={"ms": DEVICE_MS, "parallel": 2}), isolate=True) as engine:

        async def one(number: int) -> Answer:
            nonlocal wrong, late
            level = number % 200
            deadline = time.monotonic() + timeout_s
            answer = await engine.predict(Call(model="m", media=photos[level], deadline=deadline))
            late += time.monotonic() > deadline
            assert isinstance(answer.result, Boxes)
            wrong += abs(float(answer.result.scores[0]) * 255 - level) > 1
            return answer

        await closed(one, 8, 100)
        capacity = await closed(one, 16, 500)
        busy = await offered(one, capacity.rate * times, seconds)
        refused = busy.errors.pop("Overloaded", 0)
        return {
            "capacity_per_s": round(capacity.rate, 1),
            "offered_per_s": round(capacity.rate * times, 1),
            "seconds": seconds,
            "goodput_per_s": round(busy.rate, 1),
            "goodput_of_capacity": round(busy.rate / capacity.rate, 3),
            "answered": busy.answered,
            "answer_p50_ms": round(busy.ms(0.5), 1),
            "answer_p99_ms": round(busy.ms(0.99), 1),
            "refused": refused,
            "refusal_p50_ms": round(busy.ms(0.5, busy.refusals), 3),
            "refusal_p99_ms": round(busy.ms(0.99, busy.refusals), 3),
            "accepted_and_lost": dict(busy.errors),
            "late": late,
            "wrong": wrong,
        }


if __name__ == "__main__":
    main()

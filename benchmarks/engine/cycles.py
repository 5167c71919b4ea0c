"""Models come and go: does the memory come back, and do descriptors and processes stay at what they were?

python -m benchmarks.engine.cycles --cycles 100
"""

from __future__ import annotations

import asyncio
import os

import psutil
from benchmarks.engine.drive import arguments, tell, tree_bytes
from tests.engine.shelf import Shelf, photo_sized, running

from saccade.call import Call


def main() -> None:
    given = arguments(__doc__ or "", cycles=100, models=5, mib=64)
    tell("load and unload", asyncio.run(measure(given.cycles, given.models, given.mib)), given.json)


async def measure(cycles: int, models: int, mib: int) -> dict[str, object]:
    """Each cycle loads one model, asks it something and unloads it."""
    photo = photo_sized()
    names = [f"m{number}" for number in range(models)]
    async with running(Shelf(**{name: {"mib": mib} for name in names}), isolate=True) as engine:

        async def cycle(name: str) -> int:
            await engine.predict(Call(model=name, media=photo))
            held = tree_bytes()
            await engine.unload(name)
            return held

        for name in names * 4:
            await cycle(name)
        before, files = tree_bytes(), len(os.listdir("/proc/self/fd"))
        after: list[int] = []
        loaded = 0
        for number in range(cycles):
            loaded = await cycle(names[number % models])
            after.append(tree_bytes())
        return {
            "cycles": cycles,
            "before_mib": round(before / 2**20, 1),
            "with_one_model_mib": round(loaded / 2**20, 1),
            "after_mib": round(after[-1] / 2**20, 1),
            "growth": round(after[-1] / before - 1, 4),
            "descriptors_before": files,
            "descriptors_after": len(os.listdir("/proc/self/fd")),
            "processes_left": len(psutil.Process().children(recursive=True)),
        }


if __name__ == "__main__":
    main()

"""Other clusters: how far away they are, and their endpoints behind our words."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from saccade.server.settings import Region

if TYPE_CHECKING:
    import httpx

PATIENCE_S = 5.0


async def measured(regions: Sequence[Region], attempts: int = 3) -> list[dict[str, Any]]:
    """Latency of each region's ``/health`` in milliseconds, nearest first; unreachable ones last with None."""
    import httpx

    async with httpx.AsyncClient(timeout=PATIENCE_S, follow_redirects=False, trust_env=False) as client:
        rows = await asyncio.gather(*(_row(client, region, attempts) for region in regions))
    return sorted(rows, key=lambda row: (row["mean_ms"] is None, row["mean_ms"] or 0.0))


async def _row(client: httpx.AsyncClient, region: Region, attempts: int) -> dict[str, Any]:
    import httpx

    spent: list[float] = []
    try:
        await client.get(f"{region.url.rstrip('/')}/health")  # opens the connection, which is not part of the latency
        for _ in range(attempts):
            started = time.perf_counter()
            answer = await client.get(f"{region.url.rstrip('/')}/health")
            answer.raise_for_status()
            spent.append((time.perf_counter() - started) * 1e3)
    except httpx.HTTPError:
        spent = []
    return {
        "name": region.name,
        "place": region.place,
        "url": region.url,
        "mean_ms": round(statistics.fmean(spent), 3) if spent else None,
        "sd_ms": round(statistics.pstdev(spent), 3) if spent else None,
        "min_ms": round(min(spent), 3) if spent else None,
        "max_ms": round(max(spent), 3) if spent else None,
    }

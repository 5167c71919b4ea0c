"""The figures of a whole cluster, kept in one place: every process that counts tells them here."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from pathlib import Path
from typing import Any

from saccade.endpoints.drawer import Drawer
from saccade.endpoints.figures import Figures, Line, Report

MOST_ENDPOINTS = 1024

KEEP_S = 15.0
"""How often what was told is written down; so much of it may be lost with the machine."""


class Ledger:
    """Figures by endpoint id, as several processes told them. Used from one event loop."""

    def __init__(self, folder: str) -> None:
        """``folder`` holds what was told before; a server on one machine keeps its own there, too."""
        self._drawer = Drawer(Path(folder))
        self._figures: OrderedDict[str, Figures] = OrderedDict()
        self._keeping: asyncio.Task[None] | None = None

    async def add(self, reports: dict[str, Report]) -> None:
        """Takes in what one process counted."""
        for id, report in reports.items():
            (await self._of(id)).add(report)
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep())

    async def metrics(self, id: str, span: str) -> dict[str, Any]:
        """See :meth:`Figures.metrics`."""
        return (await self._of(id)).metrics(span)

    async def sparkline(self, id: str) -> dict[str, Any]:
        """See :meth:`Figures.sparkline`."""
        return (await self._of(id)).sparkline()

    async def lines(self, id: str, limit: int, severity: str | None, before: float | None) -> list[Line]:
        """See :meth:`Figures.lines`."""
        return (await self._of(id)).lines(limit, severity, before)

    async def forget(self, id: str) -> None:
        """Called when an endpoint was removed."""
        self._figures.pop(id, None)
        await asyncio.to_thread(self._drawer.remove, id)

    async def leave(self, wait_s: float) -> None:
        """Writes everything down, because the cluster ends; there is nothing to wait for."""
        await self._write()

    async def _of(self, id: str) -> Figures:
        """Those of one endpoint; of too many, the one that was quiet for longest goes back to its file."""
        if id not in self._figures:
            kept = await asyncio.to_thread(self._drawer.read, id)
            if id not in self._figures:
                self._figures[id] = Figures()
                if kept is not None:
                    self._figures[id].add(kept)
        self._figures.move_to_end(id)
        figures = self._figures[id]
        if len(self._figures) > MOST_ENDPOINTS:
            await self._write()
            self._figures.popitem(last=False)
        return figures

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP_S)
            await self._write()

    async def _write(self) -> None:
        for id, figures in tuple(self._figures.items()):
            if figures.changed:
                await self._drawer.keep(id, figures)

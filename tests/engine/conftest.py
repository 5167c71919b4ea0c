"""Fixtures of the engine's tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest


@pytest.fixture(params=[False, True], ids=["in-process", "worker"])
def isolate(request: pytest.FixtureRequest) -> bool:
    """The engine's behaviour is the same in one process and with workers."""
    return bool(request.param)


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine to its end, within a minute."""

    def within(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(asyncio.wait_for(work, 60))

    return within

"""Many calls → few runs: admission, resident models, replicas, batches, cached answers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saccade.engine.engine import Engine
    from saccade.engine.rules import Rules

__all__ = ["Engine", "Rules"]


def __getattr__(name: str) -> Any:
    """The engine itself only where it is asked for: the processes of its workers do not need it."""
    if name in __all__:
        return getattr(import_module(f"{__name__}.{name.lower()}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

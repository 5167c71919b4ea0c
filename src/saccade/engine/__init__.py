"""Many calls → few runs: admission, resident models, replicas, batches, cached answers."""

from saccade.engine.engine import Engine
from saccade.engine.rules import Rules

__all__ = ["Engine", "Rules"]

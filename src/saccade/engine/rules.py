"""What an operator may choose about the engine, as one value; the server fills it from its settings."""

from __future__ import annotations

from typing import Literal

import msgspec

from saccade.media import Limits


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine works.

    ``threads`` 0: all that this process may use. ``memory_bytes`` is for resident models; 0: three fifths of what
    there is. ``queue_calls`` may wait for one model, ``queue_total`` for all. ``pins`` are loaded at the start, before
    the engine is ready, and stay. ``replicas`` of every model run side by side. ``isolate`` puts every replica into a
    process of its own; ``fork_workers``: as a copy of one that has imported what they need (Linux). ``max_batch`` 0:
    measured. ``decode_s`` is the longest time that one image may take to decode, ``hang_s`` how long a worker may be
    silent, ``check_s`` how often an idle moment is used to see whether a model still answers as it did when it was
    loaded (0: never). ``dry_run`` counts refusals instead of refusing.
    """

    precision: Literal["auto", "f32"] = "auto"
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 0
    memory_bytes: int = 0
    cache_dir: str | None = None
    limits: Limits = Limits()
    queue_calls: int = 64
    queue_total: int = 1024
    pins: tuple[str, ...] = ()
    replicas: int = 1
    isolate: bool = True
    fork_workers: bool = False
    lone: bool = True
    shapes: int = 4
    max_batch: int = 0
    cache_bytes: int = 64 << 20
    cache_ttl_s: float = 3600.0
    redis_url: str = ""
    request_timeout_s: float = 120.0
    video_timeout_s: float = 1800.0
    load_timeout_s: float = 300.0
    min_residency_s: float = 30.0
    decode_s: float = 20.0
    hang_s: float = 30.0
    check_s: float = 60.0
    worker_memory_bytes: int = 0
    dry_run: bool = False

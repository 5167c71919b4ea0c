"""How long the stages of one prediction took."""

from __future__ import annotations

import msgspec


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of each stage; ``load_ms`` is the wait for a model that was not in memory, ``preprocess_ms`` the
    family's prepare, without the decode."""

    load_ms: float = 0.0
    queue_ms: float = 0.0
    decode_ms: float = 0.0
    preprocess_ms: float = 0.0
    inference_ms: float = 0.0
    postprocess_ms: float = 0.0

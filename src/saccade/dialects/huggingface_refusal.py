"""Errors in the words of the Hugging Face Inference API.

Always a JSON object with one string under ``error``: clients of all ages crash on, or hide, anything else. The
phrases that programs look for ("is currently loading", "does not exist", "Rate limit reached", "Model too busy",
"cannot identify image file") stay verbatim.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from saccade import errors
from saccade.dialects.dialect import Incoming, Outgoing, status_of

BAD_CREDENTIALS = "Invalid credentials in Authorization header"
"""The Python client compares the X-Error-Message header with exactly this sentence."""

MAX_HEADER = 400
"""Length to which a message is cut when it goes into a header."""


def refusal(error: errors.Error, incoming: Incoming, model: str, *, about_picture: bool, may_load: bool) -> Outgoing:
    """The HTTP answer for an error. ``model`` is what the request named; ``about_picture`` whether a picture was read
    from the body (so that a BadInput speaks of it); ``may_load`` is false when the caller wanted no loading."""
    if isinstance(error, errors.StillLoading) and not may_load:
        return Outgoing(body=msgspec.json.encode({"error": "not loaded yet"}))
    status, text = status_of(error), error.message
    body: dict[str, Any] = {}
    extra: list[tuple[str, str]] = []
    match error:
        case errors.UnknownModel() if model:
            text = f"Model {model} does not exist"
            extra.append(("x-hf-warning", header_text(f"unknown-model; {error.message}")))
        case errors.NoKey():
            text = BAD_CREDENTIALS
            extra.append(("x-hf-warning", header_text(f"key; {error.message}")))
        case errors.TooLarge():
            # A picture of too many pixels, or one that decodes for ever, is a bad picture; 413 is about bytes.
            status = 400 if incoming.body and "bytes" not in text else 413
            if status == 413 and "Payload too large" not in text:
                text = f"Payload too large: {text}"
        case errors.BadInput() if about_picture and "cannot identify image file" not in text:
            text = f"cannot identify image file: {text}"
        case errors.QuotaSpent():
            text = text if text.startswith("Rate limit reached") else f"Rate limit reached. {text}"
            extra += _limits(error)
        case errors.StillLoading():
            text = f"Model {model} is currently loading" if model else "The default model is currently loading"
            body["estimated_time"] = max(1.0, _seconds(error.retry_after_s))
        case errors.Overloaded():
            text = f"Model too busy, unable to get response in less than 60 second(s). {text}"
        case errors.DeadlinePassed() if "timed out" not in text:
            text = f"The request timed out. {text}"
    text = text.replace("…", "...")  # no header holds it, and the Python client tells two texts that differ one by one
    if incoming.device:
        extra += [("x-compute-type", incoming.device), ("x-compute-time", f"{incoming.worked_s:.3f}")]
    if isinstance(error, errors.Busy):
        extra.append(("retry-after", str(max(1, math.ceil(_seconds(error.retry_after_s))))))
    return Outgoing(
        status=status,
        body=msgspec.json.encode({"error": text, **body}),
        headers=(("x-error-message", header_text(text)), *extra),
    )


def header_text(text: str) -> str:
    """A message that can stand in a header: one line of Latin-1."""
    line = re.sub(r"[\x00-\x1f\x7f]+", " ", text[:MAX_HEADER]).strip()
    return line.encode("latin-1", "replace").decode("latin-1")


def _limits(error: errors.QuotaSpent) -> list[tuple[str, str]]:
    """What the Python client turns into "Retry after 55 seconds (0/500 requests remaining …)"."""
    wait_s = max(1, math.ceil(_seconds(error.retry_after_s)))
    return [
        ("retry-after", str(wait_s)),
        ("ratelimit", f'"api";r={error.remaining};t={wait_s}'),
        ("ratelimit-policy", f'"sliding window";"api";q={error.limit};w={error.window_s}'),
    ]


def _seconds(value: float) -> float:
    return value if math.isfinite(value) else 1.0

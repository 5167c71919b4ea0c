"""An error's text for Ultralytics clients, and what they need beside it: when to come back, in a form they can read."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from saccade import errors, media

Headers = tuple[tuple[str, str], ...]


def told(error: errors.Error) -> str:
    """The error's message; these APIs take videos, too."""
    return media.with_videos(error.message)


def retry_headers(error: errors.Error, *, iso: bool) -> Headers:
    """``Retry-After`` in whole seconds for what passes, and for a spent quota how it stands.

    ``iso`` writes the reset as a date, as the Platform does; the older clients call ``int()`` on it, and break when any
    of the headers is missing.
    """
    if isinstance(error, errors.Busy):
        return (("Retry-After", str(seconds(error.retry_after_s))),)
    if not isinstance(error, errors.QuotaSpent):
        return ()
    reset = iso_time(error.reset_epoch_s) if iso else str(math.ceil(error.reset_epoch_s))
    return (
        ("Retry-After", str(seconds(error.retry_after_s))),
        ("X-RateLimit-Limit", str(error.limit)),
        ("X-RateLimit-Remaining", str(error.remaining)),
        ("X-RateLimit-Reset", reset),
    )


def seconds(wait_s: float) -> int:
    """Whole seconds, at least one, so that nobody comes back at once."""
    return max(1, math.ceil(wait_s))


def iso_time(epoch_s: float) -> str:
    """ISO 8601 in UTC with milliseconds, rounded up."""
    moment = datetime.fromtimestamp(math.ceil(epoch_s * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

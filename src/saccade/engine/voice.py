"""How every process of the server writes its lines into the log."""

from __future__ import annotations

import logging
import time


def formatter() -> logging.Formatter:
    """A line begins with the time in UTC, as those of the access log do."""
    made = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    made.converter = time.gmtime
    return made

"""One call on its way to a replica, and what comes back.

The same values go through a function call in one process and over the wire to another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from saccade.call import Answer, Clip, Options
from saccade.errors import Error


class Job(msgspec.Struct, frozen=True, kw_only=True, tag="job"):
    """What a replica needs of a call; the media travel beside it.

    ``left_s`` is the time to the deadline when the job was sent. A job with a ``clip`` is a video: it is answered by
    Frames and an End, ``credit`` of them ahead of what was asked for, the first ``skip`` frames left out (they were
    answered before a worker died).
    """

    id: int
    options: Options = Options()
    left_s: float | None = None
    annotate: bool = False
    clip: Clip | None = None
    credit: int = 0
    skip: int = 0


class Done(msgspec.Struct, frozen=True):
    """The answer to an image."""

    id: int
    answer: Answer


class Frame(msgspec.Struct, frozen=True):
    """The answer to one more frame of a video."""

    id: int
    answer: Answer


class End(msgspec.Struct, frozen=True):
    """The video is over, or a cancelled job was put away: nothing more comes for this job."""

    id: int


class Failed(msgspec.Struct, frozen=True):
    """Why a job has no answer; nothing more comes for it."""

    id: int
    error: Error


Reply: TypeAlias = Done | Frame | End | Failed
Answering: TypeAlias = Callable[[Reply], None]

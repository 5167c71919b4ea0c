"""Everything that can go wrong, as one tree.

Error
├ CallError     the caller can mend it          BadInput (UnknownFormat) · BadOptions (UnknownKey) · UnknownModel ·
│                                               WrongTask · TooLarge
├ AccessError   who, or how much                NoKey · Forbidden · QuotaSpent
├ Busy          the same call may succeed later Overloaded (OutOfMemory) · StillLoading · Stopped (Changed) ·
│                                               DeadlinePassed · Unreachable
├ ModelError    the model or its files          CorruptFiles · UnsupportedModel · RunFailed
└ SetupError    this installation               MissingExtra · BadSettings

A message says what was found, what was expected and what to do. It is shown to users as it stands, so it
never holds a traceback, a key or a path of the server.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Mapping
from typing import Any, TypeVar


class Error(Exception):
    """The root of all errors that saccade raises on purpose.

    ``message`` is the sentence that users read.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled whole, also where the class asks for more than a message: errors cross between machines."""
        return _made, (type(self), self.args, self.__dict__)


class CallError(Error):
    """The caller can mend it."""


class BadInput(CallError):
    """The image, video or request body cannot be read."""


class UnknownFormat(BadInput):
    """The body is of a kind that the API does not take at all."""


class BadOptions(CallError):
    """An option has the wrong name, type or range."""


class UnknownKey(BadOptions):
    """No access key has this id, name or beginning."""


class UnknownModel(CallError):
    """No store has a model of this name; ``offered`` is the name under which it could be fetched, if that is known."""

    offered = ""
    waits = True
    """Whether the caller waits while it is fetched, also where the rule is not to."""


class WrongTask(CallError):
    """The model exists but does another task than the one asked for."""


class TooLarge(CallError):
    """The body, the image or the video is over a limit."""


class AccessError(Error):
    """Who is calling, or how much they called."""


class NoKey(AccessError):
    """The key is missing, unknown, expired or revoked."""


class Forbidden(AccessError):
    """The key is valid, but not for this."""


class QuotaSpent(AccessError):
    """The key's quota is used up.

    ``limit`` calls were allowed in ``window_s`` seconds, of which ``remaining`` are left, too few for what was asked;
    more are possible in ``retry_after_s`` seconds; ``reset_epoch_s`` is that moment as seconds since 1970.
    """

    def __init__(
        self,
        message: str,
        *,
        limit: int,
        retry_after_s: float,
        reset_epoch_s: float,
        window_s: int = 3600,
        remaining: int = 0,
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.remaining = remaining
        self.window_s = window_s
        self.retry_after_s = retry_after_s
        self.reset_epoch_s = reset_epoch_s


class Busy(Error):
    """The same call may succeed later, in about ``retry_after_s`` seconds."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(Busy):
    """The queue is full."""


class OutOfMemory(Overloaded):
    """The system, or a graphics card, has no more memory now."""


class StillLoading(Busy):
    """The model is being opened; ``retry_after_s`` is the estimate."""


class Stopped(Busy):
    """The endpoint is stopped, or the server is shutting down."""


class Changed(Stopped):
    """The files of a model were replaced while it was opened, or since: what was opened may be either."""


class DeadlinePassed(Busy):
    """The call's deadline passed before it was answered."""


class Unreachable(Busy):
    """Another place that is needed does not answer: where a model is fetched from, or the database."""


class ModelError(Error):
    """The model or its files."""


class CorruptFiles(ModelError):
    """A model's files are damaged, incomplete or not what their checksum says."""


class UnsupportedModel(ModelError):
    """The files are sound, but no family or runtime can serve them."""


class RunFailed(ModelError):
    """The runtime failed while it ran the graph, or the worker that ran it died."""


class SetupError(Error):
    """This installation."""


class MissingExtra(SetupError):
    """An optional library is needed; ``extra`` names what to install."""

    def __init__(self, what: str, *, extra: str) -> None:
        super().__init__(f"{what} needs an optional part of saccade. Install it with: pip install 'saccade[{extra}]'")
        self.extra = extra


class BadSettings(SetupError):
    """A setting, flag or environment variable cannot be used."""


SHORT = {
    errno.EMFILE: "open files",
    errno.ENFILE: "open files",
    errno.EAGAIN: "threads or processes",
    errno.ENOMEM: "memory",
}
"""What there is too little of, by the system's number for it."""

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""A disk that takes nothing."""

NO_THREAD = ("can't start new thread", "Resource temporarily unavailable")
"""In the words of Python, and of libraries that know only RuntimeErrors."""

NO_MEMORY = (
    *("std::bad_alloc", "bad allocation", "Failed to allocate", "can't alloc", "failed to map segment"),
    "out of memory",
)
"""In the words of OpenVINO, ONNX Runtime and CUDA, and of the system that loads their libraries."""

NO_FOLDER = "No usable temporary directory"
"""In the words of Python's tempfile."""


def short_of(error: BaseException) -> Overloaded | None:
    """What a caller is told of an exception that rose because the system gives or takes no more; None for others."""
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        why = os.strerror(error.errno)
        return Overloaded(
            f"The server can write no files now ({why}). Try again once its operator has seen to it.", retry_after_s=30
        )
    if isinstance(error, OSError) and (error.strerror or "").startswith(NO_FOLDER):
        return Overloaded(
            "The server has no folder for temporary files. Try again once its operator has named one with TMPDIR.",
            retry_after_s=30,
        )
    what = SHORT.get(error.errno or 0) if isinstance(error, OSError) else None
    if isinstance(error, RuntimeError) and any(words in str(error) for words in NO_THREAD):
        what = SHORT[errno.EAGAIN]
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    ):
        what = SHORT[errno.ENOMEM]
    if what is None:
        return None
    return (OutOfMemory if what == SHORT[errno.ENOMEM] else Overloaded)(
        f"The system gives the server no more {what} now. Try again later; its operator may raise the limit.",
        retry_after_s=5,
    )


E = TypeVar("E", bound=BaseException)


def anew(error: E) -> E:
    """The same error without where it rose and what it came from.

    What is kept, to be raised again for whoever asks next, is raised anew: an error gathers the frames of each one to
    whom it is raised, with all that they hold.
    """
    return _made(type(error), error.args, error.__dict__)


def _made(kind: type[E], args: tuple[Any, ...], fields: Mapping[str, Any]) -> E:
    fresh = kind.__new__(kind, *args)
    fresh.__dict__.update(fields)
    return fresh


def let_go(error: BaseException) -> None:
    """Takes from an error that was dealt with the frames through which it rose, and from those that it came from.

    They hold all that was at hand there, a body of megabytes for instance, and often the error itself: such a circle
    stays in memory until the collector comes by.
    """
    known: BaseException | None = error
    while known is not None and known.__traceback__ is not None:
        known.__traceback__ = None
        known = known.__cause__ or known.__context__


def place(error: BaseException) -> str:
    """What an unexpected exception is and where it rose, for a log: kind, functions and lines; no text, no path."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return f"{type(error).__name__} in " + " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))


def first_line(error: Exception) -> str:
    """What a library's error says, in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__

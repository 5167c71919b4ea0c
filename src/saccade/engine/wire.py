"""What front and worker say to each other over their socket.

A frame is two little-endian numbers, the length of the head and of the body, then the head (msgpack, one of the types
below) and the body (the encoded image of a job, as it came; empty otherwise). Arrays inside a head are raw bytes. The
first frame of either side is a Hello; sides of different versions part at once.
"""

from __future__ import annotations

import struct
import time
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from saccade import errors, results
from saccade.call import Answer
from saccade.card import Card
from saccade.engine.job import Done, End, Failed, Frame, Job, Reply
from saccade.engine.replica import Duty
from saccade.errors import Error, RunFailed
from saccade.runtimes.session import Compute

VERSION = 1
PREFIX = struct.Struct("<II")
ARRAY = 1
"""The msgpack extension code of an array: type character, number of axes, lengths as u32, bytes."""

TYPES = {ord(char): np.dtype(char) for char in "?bBhHiIlLqQefd"}
SHAPES = tuple(struct.Struct(f"<{axes}I") for axes in range(9))


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Who speaks."""

    version: int
    pid: int


class Open(msgspec.Struct, frozen=True, tag="open"):
    """To the worker: which model to open, and how to work."""

    card: Card
    compute: Compute
    duty: Duty
    decode_s: float
    memory_bytes: int


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """To the worker: nobody wants this job any more."""

    id: int


class Grant(msgspec.Struct, frozen=True, tag="grant"):
    """To the worker: this video may go on by so many frames."""

    id: int
    frames: int


class Check(msgspec.Struct, frozen=True, tag="check"):
    """To the worker: look at the known picture."""


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """To the worker: finish what you have and leave."""


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """From the worker: the model is warm."""

    slots: int
    memory_bytes: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """From the worker: the model cannot be opened."""

    kind: str
    message: str


class Pulse(msgspec.Struct, frozen=True, tag="pulse"):
    """From the worker, several times a second: it is alive."""

    memory_bytes: int


class Checked(msgspec.Struct, frozen=True, tag="checked"):
    """From the worker: what is wrong with what it sees, or nothing."""

    wrong: str | None


class Guilty(msgspec.Struct, frozen=True, tag="guilty"):
    """From a worker that ends itself now: which job is to blame."""

    id: int
    kind: str
    message: str


class Told(msgspec.Struct, frozen=True, tag="told"):
    """From the worker: an answer (``more``: to one frame of several), in the form of :func:`packed_answer`."""

    id: int
    answer: msgspec.Raw
    more: bool = False


class Over(msgspec.Struct, frozen=True, tag="over"):
    """From the worker: nothing more comes for this job."""

    id: int


class Sorry(msgspec.Struct, frozen=True, tag="sorry"):
    """From the worker: why a job has no answer."""

    id: int
    kind: str
    message: str
    retry_after_s: float = 0.0


ToWorker: TypeAlias = Hello | Open | Job | Cancel | Grant | Check | Stop
FromWorker: TypeAlias = Hello | Opened | Refused | Pulse | Checked | Guilty | Told | Over | Sorry


KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        results.Labels,
        results.Boxes,
        results.OrientedBoxes,
        results.Keypoints,
        results.Masks,
        results.Depth,
    )
}
"""The results that can cross, by name."""


def packed(message: msgspec.Struct, body: bytes = b"") -> bytes:
    """The prefix and the head of a frame; the body is sent after it."""
    head = _encoder.encode(message)
    return PREFIX.pack(len(head), len(body)) + head


def to_worker(head: bytes | memoryview) -> ToWorker:
    """A head that the front sent. Raises msgspec.DecodeError."""
    message: ToWorker = _to_worker.decode(head)
    return message


def from_worker(head: bytes | memoryview) -> FromWorker:
    """A head that a worker sent. Raises msgspec.DecodeError."""
    message: FromWorker = _from_worker.decode(head)
    return message


def packed_answer(answer: Answer) -> bytes:
    """An answer as bytes, with the name of its result's type."""
    return _encoder.encode((type(answer.result).__name__, answer))


def unpacked_answer(data: bytes | memoryview | msgspec.Raw) -> Answer:
    """The answer again, its arrays read-only. Raises msgspec.DecodeError."""
    kind, rest = _outer.decode(data)
    decoder = _answers.get(kind)
    if decoder is None:
        raise msgspec.DecodeError(f"unknown result {kind!r}")
    typed = decoder.decode(rest)
    return Answer(**{name: getattr(typed, name) for name in Answer.__struct_fields__})


def of_reply(reply: Reply) -> Told | Over | Sorry:
    """A reply of the replica as it crosses."""
    if isinstance(reply, Done):
        return Told(reply.id, msgspec.Raw(packed_answer(reply.answer)))
    if isinstance(reply, Frame):
        return Told(reply.id, msgspec.Raw(packed_answer(reply.answer)), more=True)
    if isinstance(reply, End):
        return Over(reply.id)
    kind, message = named(reply.error)
    return Sorry(reply.id, kind, message, getattr(reply.error, "retry_after_s", 0.0))


def to_reply(message: Told | Over | Sorry) -> Reply:
    """The reply again."""
    if isinstance(message, Told):
        answer = unpacked_answer(message.answer)
        return Frame(message.id, answer) if message.more else Done(message.id, answer)
    if isinstance(message, Over):
        return End(message.id)
    return Failed(message.id, error_of(message.kind, message.message, message.retry_after_s))


def named(error: Error) -> tuple[str, str]:
    """An error as the name of its class and its message."""
    kind = next((base.__name__ for base in type(error).__mro__ if base.__name__ in _errors), "RunFailed")
    return kind, error.message


def error_of(kind: str, message: str, retry_after_s: float = 0.0) -> Error:
    """The error again; an unknown class becomes RunFailed."""
    cls = _errors.get(kind, RunFailed)
    error = cls.__new__(cls)
    # Some classes build their message from parts that did not cross; the message itself did.
    Error.__init__(error, message)
    if isinstance(error, errors.Busy):
        error.retry_after_s = retry_after_s or 1.0
    if isinstance(error, errors.QuotaSpent):
        # How much was allowed does not cross: quotas are counted before a call is on its way.
        error.limit, error.remaining, error.window_s = 0, 0, 0
        error.retry_after_s, error.reset_epoch_s = retry_after_s, time.time() + retry_after_s
    if isinstance(error, errors.MissingExtra):
        error.extra = message.partition("saccade[")[2].partition("]")[0]
    return error


def _array_out(value: object) -> msgspec.msgpack.Ext:
    if isinstance(value, np.ndarray):
        shape = SHAPES[value.ndim].pack(*value.shape)
        return msgspec.msgpack.Ext(ARRAY, bytes((ord(value.dtype.char), value.ndim)) + shape + value.tobytes())
    raise NotImplementedError(f"{type(value).__name__} cannot cross")


def _array_in(code: int, data: memoryview) -> NDArray[Any]:
    if code != ARRAY:
        raise msgspec.DecodeError("not an array")
    try:
        shape = SHAPES[data[1]]
        return np.ndarray(shape.unpack_from(data, 2), TYPES[data[0]], data, 2 + shape.size)
    except (LookupError, TypeError, ValueError, struct.error):
        raise msgspec.DecodeError("not an array that this version knows") from None


def _descendants(root: type[Error]) -> dict[str, type[Error]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            found |= _descendants(child)
    return found


def _answer_of(kind: type[Any]) -> type[Any]:
    """The Answer whose result is of one type, so that the decoder knows what to make."""
    return msgspec.defstruct(f"{kind.__name__}Answer", [("result", kind)], bases=(Answer,), frozen=True, kw_only=True)


_errors = _descendants(Error)
_encoder = msgspec.msgpack.Encoder(enc_hook=_array_out)
_outer = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])
_answers: dict[str, Any] = {
    name: msgspec.msgpack.Decoder(_answer_of(kind), ext_hook=_array_in) for name, kind in KINDS.items()
}
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)

"""What a dedicated endpoint is, and the words in which its life is told.

creating → deploying → ready ⇄ deploying (replace) → stopping → stopped → deploying (start) → ready; failed; removed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from saccade.call import Answer, Call
from saccade.card import Card
from saccade.errors import BadOptions

State: TypeAlias = Literal["creating", "deploying", "ready", "stopping", "stopped", "failed"]

PROBE = "health"
"""The caller of a call that only asks whether an endpoint answers; it keeps nobody awake."""

ASKED = "asked"
"""In the place of a region's id: there was none of this name, one was asked for, and no answer has come."""

NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
LONGEST_NAME = 128
MOST_REPLICAS = 64
MOST_MEMORY_BYTES = 1 << 50
MOST_IDLE_S = MOST_CALLS = (1 << 31) - 1


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asks for: how many replicas, how much memory, where, and when to sleep.

    ``min_replicas`` 0 lets the endpoint sleep: its replicas stop after ``idle_stop_s`` seconds without a call and
    come back with the next one (0: never). ``memory_bytes`` is for one replica; 0 means no limit of its own.
    ``calls_per_hour`` 0 means no limit. ``port`` 0 means none of its own. ``region`` "" is this cluster.
    """

    model: str
    min_replicas: int = 0
    max_replicas: int = 1
    memory_bytes: int = 0
    idle_stop_s: int = 600
    region: str = ""
    port: int = 0
    hostname: str = ""
    calls_per_hour: int = 0

    @property
    def may_sleep(self) -> bool:
        """Whether it stops by itself when nobody calls."""
        return not self.min_replicas and self.idle_stop_s > 0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as it is kept: what was asked for, and where it stands. Times are seconds since 1970.

    ``region_id`` is the id that the plan's region gave to what was started there for this endpoint: only that is this
    endpoint's, whatever else has its name. :data:`ASKED` while it is not known what became of the wish.
    ``unreached``: it failed because something elsewhere did not answer, and is tried again.
    ``claimed`` is when one of several servers last took it upon itself to bring the endpoint up. ``title``, ``project``
    and ``metadata`` are what the Platform's clients said about it.
    """

    id: str
    name: str
    plan: Plan
    state: State = "creating"
    reason: str = ""
    revision: str = ""
    region_id: str = ""
    unreached: bool = False
    created: float = 0.0
    started: float = 0.0
    claimed: float = 0.0
    title: str = ""
    project: str = ""
    metadata: dict[str, Any] = {}


class Records(Protocol):
    """Where endpoints are kept, so that they outlive the server."""

    def all(self) -> Iterable[Record]:
        """Every endpoint."""

    def save(self, record: Record) -> None:
        """Writes one, new or changed."""

    def remove(self, name: str) -> None:
        """Forgets one; nothing happens if it is not there."""


class Engine(Protocol):
    """The part of an engine that an endpoint needs."""

    async def start(self) -> None: ...

    async def predict(self, call: Call) -> Answer: ...

    def stream(self, call: Call) -> AsyncIterator[Answer]: ...

    async def load(self, ref: str) -> object: ...

    async def unload(self, ref: str) -> object: ...

    async def scale(self, ref: str, replicas: int) -> None: ...

    def info(self) -> Mapping[str, Any]: ...

    async def drain(self) -> None: ...

    async def close(self) -> None: ...


class Builder(Protocol):
    """Makes the engine of one endpoint; the server hands it in."""

    def __call__(self, card: Card, plan: Plan) -> Engine: ...


class Endpoint(Protocol):
    """A running endpoint, on this machine or elsewhere."""

    @property
    def revision(self) -> str:
        """The revision of the model that serves now."""

    @property
    def card(self) -> Card | None:
        """The Card of the model that serves now; None where that is known elsewhere only."""

    @property
    def region_id(self) -> str:
        """See :class:`Record`; "" on this machine or cluster. Also worth knowing when the start failed."""

    async def start(self, card: Card, plan: Plan) -> None:
        """Serves the model once it has answered a first call. Raises an Error with the reason."""

    async def recall(self, card: Card, plan: Plan) -> None:
        """Serves what was served when the server before this one ended; one that may sleep wakes with its next call.

        Raises an Error with the reason.
        """

    async def replace(self, card: Card, plan: Plan) -> None:
        """The new model takes over once it has answered; until then, and if it fails, the old one serves on."""

    async def stop(self) -> None:
        """Finishes the accepted calls and gives the memory back."""

    async def leave(self) -> None:
        """This server ends: what runs in its process stops, what runs elsewhere runs on."""

    async def remove(self) -> None:
        """Forgets it where it runs; called after :meth:`stop`, or on one that was never started."""

    async def predict(self, call: Call) -> Answer:
        """The endpoint's answer."""

    def stream(self, call: Call) -> AsyncIterator[Answer]:
        """An answer per frame."""

    def replicas(self) -> int:
        """How many replicas are up now."""

    def facts(self) -> Mapping[str, Any]:
        """What its engine tells of the model that serves; nothing where that is known elsewhere only, or it sleeps."""

    def load(self) -> tuple[float, float]:
        """What it uses of its processors and of its memory, each 0 to 1; 0 when unknown."""


def checked_name(name: str) -> str:
    """The name, if it can be part of a URL.

    Raises:
        BadOptions: it cannot; the message says what is allowed.
    """
    if len(name) <= LONGEST_NAME and NAME.fullmatch(name):
        return name
    raise BadOptions(
        f"The endpoint name '{name[:40]}' cannot be used: take lower-case letters and digits, with single hyphens "
        f"between them, at most {LONGEST_NAME} characters."
    )


def replicas(text: str) -> tuple[int, int]:
    """``"2"`` is 2 to 2 replicas, ``"0:4"`` 0 to 4.

    Raises:
        BadOptions: it is neither.
    """
    low, _, high = text[:20].partition(":")
    if low.isdecimal() and (not high or high.isdecimal()):
        least, most = int(low), int(high or low)
        if 0 <= least <= most and 1 <= most <= MOST_REPLICAS:
            return least, most
    raise BadOptions(f"replicas is '{text[:20]}'; expected N or MIN:MAX with 1 to {MOST_REPLICAS} at most.")

"""Who is calling, and may they: the gate that every call passes."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from saccade.call import Answer
from saccade.errors import Error, Forbidden, QuotaSpent


@dataclass(frozen=True, slots=True)
class Standing:
    """How a limited key stands: of ``limit`` calls in ``window_s`` seconds ``remaining`` are left.

    ``reset_epoch_s`` is when a used call comes back (now, when none was used).
    """

    limit: int
    remaining: int
    reset_epoch_s: float
    window_s: int

    def wait_s(self, now_s: float) -> float:
        """How long until then; never longer than the window, though a clock was set back meanwhile."""
        return min(float(self.window_s), max(0.0, self.reset_epoch_s - now_s))


def spent(standing: Standing, calls: int) -> QuotaSpent:
    """The refusal of so many calls to a key that stands like this."""
    wait_s = standing.wait_s(time.time())
    left = f"{standing.remaining} {'is' if standing.remaining == 1 else 'are'} left"
    many = f" ({calls} calls were asked for, {left})" if calls > 1 else ""
    advice = f"Try again in {max(1, math.ceil(wait_s))} seconds."
    if calls > standing.limit:
        advice = f"So many never fit: send at most {standing.limit} images with one request."
    return QuotaSpent(
        f"Rate limit reached: {standing.limit} calls in {standing.window_s} seconds{many}. {advice}",
        limit=standing.limit,
        retry_after_s=wait_s,
        reset_epoch_s=standing.reset_epoch_s,
        window_s=standing.window_s,
        remaining=standing.remaining,
    )


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling. ``id`` and ``name`` are a key's, never the key; ``models`` and ``endpoints`` are patterns."""

    id: str = "anonymous"
    name: str = ""
    admin: bool = True
    limited: bool = False
    models: tuple[str, ...] = ("*",)
    endpoints: tuple[str, ...] = ("*",)

    def may_use(self, endpoint: str) -> bool:
        """Whether a dedicated endpoint is open to this caller."""
        return self.admin or any(fnmatchcase(endpoint, pattern) for pattern in self.endpoints)


@dataclass(slots=True)
class Ticket:
    """Calls that were taken from a quota: kept when they succeed, given back when they fail."""

    caller: Caller
    standing: Standing | None = None
    token: str = ""
    models: tuple[str, ...] = ()
    window: str = ""
    """Where the calls were taken from, if not from the key's own window."""


class Gate(Protocol):
    """Decides who may call. All methods are quick or give way to the event loop."""

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Raises NoKey for a missing, unknown, expired or revoked key."""

    async def take(self, caller: Caller, models: Sequence[str]) -> Ticket:
        """Takes one call for each of the models from the caller's quota.

        Raises:
            Forbidden: the key is not for this model.
            QuotaSpent: the quota has too little left.
            NoKey: the key was revoked meanwhile.
        """

    async def take_from(self, window: str, limit: int, window_s: int, caller: Caller, models: Sequence[str]) -> Ticket:
        """Takes calls from a window that is no key's, such as a dedicated endpoint's. Raises QuotaSpent."""

    async def give_back(self, ticket: Ticket) -> Ticket:
        """Undoes :meth:`take` and :meth:`take_from`, for calls that failed."""

    async def standing(self, caller: Caller) -> Standing | None:
        """How the caller's quota stands, taking nothing; None where there is no limit."""

    async def standing_of(self, window: str, limit: int, window_s: int) -> Standing | None:
        """How a window stands that is no key's; None where nobody counts."""

    def count(self, ticket: Ticket, answers: Sequence[Answer]) -> None:
        """Adds to the usage that is shown; no answers means that the calls failed."""

    async def usage(self, caller: Caller, days: int = 30, everybody: bool = False) -> Mapping[str, object]:
        """What the caller used and has left, and its calls by day, as JSON; ``everybody`` is for admins."""

    async def close(self) -> None:
        """Writes out what was counted."""


class OpenGate:
    """Lets everybody in and counts nothing."""

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Anybody, whatever token they send: clients attach theirs to any address."""
        return ANYBODY

    async def take(self, caller: Caller, models: Sequence[str]) -> Ticket:
        """No quota."""
        return Ticket(caller)

    async def take_from(self, window: str, limit: int, window_s: int, caller: Caller, models: Sequence[str]) -> Ticket:
        """No window."""
        return Ticket(caller)

    async def give_back(self, ticket: Ticket) -> Ticket:
        """No quota."""
        return ticket

    async def standing(self, caller: Caller) -> Standing | None:
        """No quota."""
        return None

    async def standing_of(self, window: str, limit: int, window_s: int) -> Standing | None:
        """No window."""
        return None

    def count(self, ticket: Ticket, answers: Sequence[Answer]) -> None:
        """Nothing to count."""

    async def usage(self, caller: Caller, days: int = 30, everybody: bool = False) -> Mapping[str, object]:
        """No limit, nothing counted."""
        nothing = dict.fromkeys(("key", "limit", "window_s", "remaining", "reset"))
        return {**nothing, "used": 0, "days": []}

    async def close(self) -> None:
        """Nothing to write."""


def require_admin(caller: Caller) -> None:
    """Raises Forbidden for keys without admin rights."""
    if not caller.admin:
        raise Forbidden("This needs a key with admin rights. Create one with: saccade keys create NAME --admin")


def key_in(headers: Mapping[str, str]) -> str:
    """The key that a request carries, in any of the ways that clients send it, or ""."""
    named = headers.get("x-api-key", "").strip()
    if named:
        return named
    scheme, _, rest = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower().rstrip(":") in ("bearer", "token", "key"):
        return rest.strip()
    return "" if rest or ":" in scheme else scheme


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host.lower() == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


async def objection_to_page(gate: Gate, headers: Mapping[str, str], listens: str) -> str:
    """Why the page that a browser sends this for may change nothing; "" where it may, and for programs.

    A page of another site has no key to send, and a browser tells that it is of another site, at secure addresses at
    least. Where nobody needs a key, its ``Origin`` must be the ``Host``, and on a server that only this machine
    reaches both must be names of this machine: a page may reach it under a name of its own (DNS rebinding).
    """
    site, origin, host = headers.get("sec-fetch-site", ""), headers.get("origin", ""), headers.get("host", "")
    if site not in ("", "same-origin", "none"):
        return OTHER_SITES
    if not origin:
        return ""
    try:
        if await gate.caller(headers) is not ANYBODY:
            return ""
    except Error:
        return ""  # what it asks for refuses it in its own words
    page = origin.partition("://")[2]
    if site != "same-origin" and page != host:
        return (
            f"{OTHER_SITES} This one is at '{page[:80]}', and it called '{host[:80]}': a proxy between must pass Host."
        )
    if is_loopback(listens) and not all(is_loopback(PORT.sub("", one)) for one in (page, host)):
        return (
            "As long as there is no key, only pages at localhost may change something here, and this one is at "
            f"'{page[:80]}'. Make a key: saccade keys create NAME --admin"
        )
    return ""


ANYBODY = Caller()

PORT = re.compile(r":[0-9]*\Z")
"""Of an address; one in brackets has colons, too."""

OTHER_SITES = "Pages of other sites may change nothing here."

"""Keys over HTTP and for the command line: the same words for both."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from saccade import __version__
from saccade.errors import BadOptions, Forbidden, TooLarge
from saccade.server.access import Caller
from saccade.server.database import Database
from saccade.server.gate import KeyGate
from saccade.server.keys import Key, Keys
from saccade.server.settings import Settings

if TYPE_CHECKING:
    from saccade.server.app import App
    from saccade.server.pages import Pages

MOST_BODY_BYTES = 1 << 20
PATIENCE_S = 30.0
"""What a body of settings may hold, and how long it may take."""
QUOTA = re.compile(r"(\d{1,20})(?:\s*(?:/|per)\s*(\d{0,9})\s*(s|sec|second|m|min|minute|h|hour|d|day)s?)?")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /v1/keys``; ``limit`` None is the server's default, 0 none."""

    name: str
    scopes: tuple[str, ...] = ("models",)
    models: tuple[str, ...] = ("*",)
    endpoints: tuple[str, ...] = ("*",)
    limit: int | None = None
    window_s: int | None = None
    expires_days: float | None = None


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``PATCH /v1/keys/ID``; what is left out stays as it is."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    scopes: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    models: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    endpoints: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    limit: int | msgspec.UnsetType | None = msgspec.UNSET
    window_s: int | msgspec.UnsetType | None = msgspec.UNSET


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Keys]:
    """The keys of an installation, for the command line; works while a server runs, which notices at once."""
    database = Database(settings.database_url, settings.home)
    try:
        yield Keys(database)
    finally:
        database.close()


def quota_of(text: str) -> tuple[int, int | None]:
    """``100``, ``100/hour``, ``5000/2h`` or ``20 per minute`` as (calls, seconds); None is the server's window.

    Raises:
        BadOptions: it is something else.
    """
    found = QUOTA.fullmatch(text.strip().lower())
    if found is None:
        raise BadOptions(f"The limit is '{text[:30]}'; expected a number, or calls per time like 100/hour.")
    calls, many, unit = found.groups()
    return int(calls), None if unit is None else int(many or 1) * SECONDS[unit[0]]


def shown(key: Key) -> dict[str, Any]:
    """A key as JSON, without anything that opens a door."""
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": key.scopes,
        "models": key.models,
        "endpoints": key.endpoints,
        "limit": key.quota_calls,
        "window_s": key.quota_window_s,
        "created": key.created,
        "last_used": key.last_used,
        "expires": key.expires,
    }


class Keyring:
    """``/v1/keys`` for admins, ``/v1/session`` for everybody."""

    def __init__(self, app: App, pages: Pages) -> None:
        self._app = app
        self._pages = pages

    def routes(self) -> list[Route]:
        """For the house's router."""
        return [
            Route("/v1/session", self.session, methods=["GET"]),
            Route("/v1/keys", self.listed, methods=["GET"]),
            Route("/v1/keys", self.created, methods=["POST"]),
            Route("/v1/keys/{key_id}", self.changed, methods=["PATCH"]),
            Route("/v1/keys/{key_id}", self.revoked, methods=["DELETE"]),
        ]

    async def session(self, request: Request) -> Response:
        """Who the caller is, and what this server asks for."""

        async def facts(caller: Caller) -> Mapping[str, Any]:
            gate = self._app.gate
            return {
                "auth": "off" if not isinstance(gate, KeyGate) else "open" if await gate.is_open() else "key",
                "admin": caller.admin,
                "key": {"id": caller.id, "name": caller.name} if caller.name else None,
                "version": __version__,
                "device": self._app.desk.device(),
                "default_model": await self._app.desk.default(),
            }

        return await self._pages.asked(request, facts)

    async def listed(self, request: Request) -> Response:
        """All keys that are not revoked."""

        async def keys(caller: Caller) -> Any:
            gate = self._gate()
            return {"keys": [shown(key) for key in await gate.listed(gate.keys.all)]}

        return await self._pages.asked(request, keys, admin=True)

    async def created(self, request: Request) -> Response:
        """201, the key, and its secret for the only time."""

        async def create(caller: Caller) -> Any:
            gate, wish = self._gate(), await body(request, Wish)
            fields = msgspec.structs.asdict(wish)
            named = {"quota_calls": fields.pop("limit"), "quota_window_s": fields.pop("window_s")}
            key, secret = await gate.written(lambda: gate.keys.create(fields.pop("name"), **fields, **named))
            gate.forget()
            return {**shown(key), "key": secret}

        return await self._pages.asked(request, create, admin=True, status=201)

    async def changed(self, request: Request) -> Response:
        """The changed key."""

        async def change(caller: Caller) -> Any:
            gate, wish = self._gate(), await body(request, Change)
            names = {"limit": "quota_calls", "window_s": "quota_window_s"}
            given = {name: value for name, value in msgspec.structs.asdict(wish).items() if value is not msgspec.UNSET}
            fields = {names.get(name, name): value for name, value in given.items()}
            return shown(await gate.written(lambda: gate.keys.change(request.path_params["key_id"], **fields)))

        return await self._pages.asked(request, change, admin=True)

    async def revoked(self, request: Request) -> Response:
        """The key opens nothing any more, here and on every other front."""

        async def revoke(caller: Caller) -> Any:
            gate = self._gate()
            key = await gate.written(lambda: gate.keys.revoke(request.path_params["key_id"]))
            gate.forget()
            return {"revoked": key.id}

        return await self._pages.asked(request, revoke, admin=True)

    def _gate(self) -> KeyGate:
        if not isinstance(self._app.gate, KeyGate):
            raise Forbidden("This server was started with no_auth: it asks for no keys and keeps none.")
        return self._app.gate


async def _small(request: Request) -> bytes:
    content = bytearray()
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for part in request.stream():
                content += part
                if len(content) > MOST_BODY_BYTES:
                    raise TooLarge(f"Payload too large: the limit is {MOST_BODY_BYTES} bytes here.")
    except TimeoutError:
        raise BadOptions(f"The request body did not arrive within {PATIENCE_S:g} seconds.") from None
    except ClientDisconnect:
        raise BadOptions("The caller left before the request body was complete.") from None
    return bytes(content)


async def body(request: Request, kind: type[Any]) -> Any:
    """The JSON body as ``kind``.

    Raises:
        BadOptions: it is something else; the message names the field.
        TooLarge: it is far larger than anything that may be asked here.
    """
    try:
        return msgspec.json.decode(await _small(request), type=kind)
    except msgspec.ValidationError as error:
        raise BadOptions(f"The request body cannot be used: {error}.") from error
    except msgspec.DecodeError as error:
        raise BadOptions(f"The request body cannot be used: {error}. Expected a JSON object.") from error
    except UnicodeDecodeError as error:
        raise BadOptions("The request body is not UTF-8 text. Expected a JSON object.") from error
    except RecursionError as error:
        raise BadOptions("The request body is nested too deeply. Expected a JSON object.") from error

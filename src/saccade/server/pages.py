"""The house's own pages: health, metrics, facts, usage, documentation and the front page."""

from __future__ import annotations

import asyncio
import html
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Match, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from saccade import __version__
from saccade.dialects.dialect import Incoming, status_of
from saccade.dialects.inputs import boolean, integer
from saccade.engine.aside import aside
from saccade.errors import Error
from saccade.server import metrics, openapi
from saccade.server.access import Caller, require_admin
from saccade.server.answering import come_back, standing_headers
from saccade.server.console import Console
from saccade.server.deployments import Deployments
from saccade.server.desk import STARTER
from saccade.server.keyring import Keyring

if TYPE_CHECKING:
    from saccade.server.app import App

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data: blob:; media-src blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
GUARDED = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}

MOST_DAYS = 3660
STATIC = Path(__file__).parent / "static"


class Files(StaticFiles):
    """The console's files, asked for anew each time: after an upgrade no former one may run beside new ones."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """With the headers that the pages have; nothing but them if the browser has the file."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(GUARDED)
        return response


class Pages:
    """The routes that are no dialect's, as one ASGI application."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._writing = asyncio.Lock()
        self.router = Router(
            [
                Route("/", self.front, methods=["GET"]),
                Route("/health", self.health, methods=["GET"]),
                Route("/ping", self.health, methods=["GET"]),
                Route("/metrics", self.metrics, methods=["GET"]),
                Route("/info", self.info, methods=["GET"]),
                Route("/v1/usage", self.usage, methods=["GET"]),
                *([] if app.endpoint else Keyring(app, self).routes()),
                *self._inside(),
                Route("/openapi.json", self.contract, methods=["GET"]),
                Route("/docs", self.docs, methods=["GET"]),
                Mount("/static", Files(directory=STATIC)),
            ]
        )
        self._paths = frozenset(getattr(route, "path", "") for route in self.router.routes)
        starts = {"/".join(path.split("/", 3)[:3]) for path in self._paths}
        self._starts = tuple(starts - {"/"})

    def _inside(self) -> list[Route]:
        """What only the shared application has: the console's questions and the endpoints."""
        if self.app.fleet is None or self.app.dedicated is None:
            return []
        return [
            *Console(self.app, self).routes(),
            *Deployments(self.app, self.app.fleet, self.app.dedicated).routes(),
        ]

    def serves(self, method: str, path: str) -> bool:
        """Whether a request is for one of these pages."""
        # Most requests are predictions; trying each route costs more than all the rest of their way.
        if path != "/" and not path.startswith(self._starts):
            return False
        scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
        return any(route.matches(scope)[0] is Match.FULL for route in self.router.routes)

    def methods(self, path: str) -> set[str]:
        """The methods that these pages have at a path."""
        scope = {"type": "http", "method": "", "path": path, "root_path": "", "headers": []}
        routes = [route for route in self.router.routes if route.matches(scope)[0] is not Match.NONE]
        return {method for route in routes for method in getattr(route, "methods", None) or ()}

    async def front(self, request: Request) -> Response:
        """A page for people, a word for programs; caches on the way keep both."""
        await self.app.look()
        response = await self._greeting(request)
        response.headers["vary"] = "Accept"
        return response

    async def _greeting(self, request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            if self.app.fleet is not None:
                return FileResponse(STATIC / "index.html", headers=GUARDED)
            title = self.app.endpoint or "saccade"
            base_url = incoming(request).base_url
            status = self._status() if self.app.endpoint else 200
            return page(title, self._front(base_url, await self._model()), base_url, status)
        told = {"server": "saccade", "version": __version__, "docs": f"{incoming(request).base_url}/docs"}
        if not self.app.endpoint:
            return answer({"status": "ok", **told})
        facts = {"endpoint": self.app.endpoint, "model": await self._model()}
        if self._status() != 200:
            facts["error"] = f"Service Unavailable: the endpoint '{self.app.endpoint}' is {self.app.state}."
        return answer({"status": self.app.state, **facts, **told}, self._status())

    async def health(self, request: Request) -> Response:
        """200 when calls are answered, 503 while they are not: the server or the endpoint loads or stops."""
        await self.app.look()
        return answer({"status": self.app.state}, self._status())

    def _status(self) -> int:
        return 200 if self.app.state == "ok" else 503

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        self.app.metrics.inflight.set(self.app.inflight)
        others = [] if self.app.fronts is None else await self.app.fronts.families()
        async with self._writing:  # nobody needs a key for this
            info = self.app.metrics.info()
            text = await aside(lambda: self.app.metrics.text(others, info))
        return Response(text, media_type=metrics.MEDIA_TYPE)

    async def info(self, request: Request) -> Response:
        """What this server is and does, for people who run it."""

        async def facts(caller: Caller) -> Any:
            engine, fronts = self.app.engine.info(), self.app.fronts
            if fronts is not None:
                await fronts.settle()
            return {
                "server": "saccade",
                "version": __version__,
                "uptime_s": round(self.app.desk.uptime_s(), 3),
                "default_model": await self.app.desk.default(),
                "dialects": [dialect.name for dialect in self.app.dialects],
                "fronts": [] if fronts is None else fronts.info(),
                "engine": engine,
            }

        return await self.asked(request, facts)

    async def usage(self, request: Request) -> Response:
        """What the calling key used and has left; the numbers are those that are enforced."""

        async def used(caller: Caller) -> Any:
            days = integer("days", request.query_params.get("days", "30"), low=1, high=MOST_DAYS)
            everybody = boolean(request.query_params.get("all", ""), False)
            if everybody:
                require_admin(caller)
            if self.app.fronts is not None:
                await self.app.fronts.settle()
            return await self.app.gate.usage(caller, days, everybody)

        return await self.asked(request, used)

    async def _model(self) -> str:
        return await self.app.desk.default() or STARTER

    def _front(self, base_url: str, model: str) -> str:
        """A page for people at an address that has no console."""
        lines = html.escape(tries(base_url, model, self.app.endpoint))
        what = "This server finds things in pictures."
        if self.app.endpoint:
            what = f"A dedicated endpoint with the model <strong>{html.escape(model)}</strong>."
        state = "" if self.app.state == "ok" else f"<p><strong>It is {html.escape(self.app.state)}.</strong></p>"
        title, url = html.escape(self.app.endpoint or "saccade"), html.escape(base_url)
        return (
            f"<h1>{title}</h1><p>{what} It answers the Hugging Face and Ultralytics inference APIs.</p>{state}"
            f"<h2>Try it</h2><pre>{lines}</pre>"
            f'<p><a href="{url}/docs">The APIs</a> · <a href="{url}/info">What runs here</a> · '
            f'<a href="{url}/metrics">Metrics</a></p>'
        )

    async def contract(self, request: Request) -> Response:
        """The OpenAPI document."""
        return answer(openapi.document(self.app.dialects, incoming(request).base_url, self._paths))

    async def docs(self, request: Request) -> Response:
        """The OpenAPI document, readable."""
        base_url, endpoint = incoming(request).base_url, self.app.endpoint
        text = openapi.readable(
            self.app.dialects, base_url, tries(base_url, await self._model(), endpoint), self._paths
        )
        return page("saccade: the APIs", text, base_url)

    async def asked(
        self, request: Request, reply: Callable[[Caller], Any], *, admin: bool = False, status: int = 200
    ) -> Response:
        """The reply to a caller whom the gate lets in, or the refusal."""
        caller, later = None, dict[str, str]()
        try:
            caller = await self.app.gate.caller(incoming(request).headers)
            if admin:
                require_admin(caller)
            response = answer(await reply(caller), status)
        except Error as error:
            response, later = answer({"error": error.message}, status_of(error)), come_back(error)
        response.headers.update(await standing_headers(self.app.gate, caller) | later)
        return response


def incoming(request: Request) -> Incoming:
    """The request's head, as the app read it."""
    head: Incoming = request.scope["state"]["incoming"]
    return head


def answer(value: object, status: int = 200) -> Response:
    """JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def tries(base_url: str, model: str, endpoint: str) -> str:
    """Lines that predict a photo through each API."""
    if endpoint:
        return (
            f"curl --data-binary @photo.jpg {base_url}\n"
            f"curl -F file=@photo.jpg {base_url}\n"
            f"curl -F file=@photo.jpg {base_url}/predict"
        )
    return (
        f"curl --data-binary @photo.jpg {base_url}/models/{model}\n"
        f"curl -F image=@photo.jpg {base_url}/v1/predict/{model}\n"
        f"curl -F model={model} -F file=@photo.jpg {base_url}\n"
        f"curl -F file=@photo.jpg {base_url}/api/models/{model}/predict"
    )


def page(title: str, body: str, base_url: str, status: int = 200) -> Response:
    """A complete HTML page with our own style sheet and nothing from elsewhere."""
    files = html.escape(f"{urlsplit(base_url).path}/static")
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="{files}/icon.svg" type="image/svg+xml">'
        f'<link rel="stylesheet" href="{files}/plain.css"></head><body><main>{body}</main></body></html>'
    )
    return HTMLResponse(text, status, headers=GUARDED)

"""The house's own pages: health, metrics, facts, usage, documentation and the front page."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Match, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from saccade import __version__
from saccade.dialects.dialect import Incoming, status_of
from saccade.dialects.inputs import boolean
from saccade.errors import BadOptions, Error
from saccade.server import metrics, openapi
from saccade.server.access import Caller, require_admin
from saccade.server.console import Console
from saccade.server.deployments import Deployments
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

STATIC = Path(__file__).parent / "static"


class Pages:
    """The routes that are no dialect's, as one ASGI application."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.router = Router(
            [
                Route("/", self.front, methods=["GET"]),
                Route("/health", self.health, methods=["GET"]),
                Route("/ping", self.health, methods=["GET"]),
                Route("/metrics", self.metrics, methods=["GET"]),
                Route("/info", self.info, methods=["GET"]),
                Route("/v1/usage", self.usage, methods=["GET"]),
                *Keyring(app, self).routes(),
                *self._inside(),
                Route("/openapi.json", self.contract, methods=["GET"]),
                Route("/docs", self.docs, methods=["GET"]),
                Mount("/static", StaticFiles(directory=STATIC)),
            ]
        )
        self._rooms = {getattr(route, "path", "").split("/", 2)[1] for route in self.router.routes}

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
        if path.split("/", 2)[1] not in self._rooms:
            return False
        scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
        return any(route.matches(scope)[0] is Match.FULL for route in self.router.routes)

    async def front(self, request: Request) -> Response:
        """A page for people, a word for programs."""
        if "text/html" in request.headers.get("accept", ""):
            if self.app.fleet is not None:
                return FileResponse(STATIC / "index.html", headers=GUARDED)
            return page("saccade", _front(self.app.desk.default_model() or "", incoming(request).base_url))
        return answer({"status": "ok", "server": "saccade", "version": __version__, "docs": "/docs"})

    async def health(self, request: Request) -> Response:
        """200 when calls are answered, 503 while the server loads or stops."""
        state = "stopping" if self.app.draining else "ok" if self.app.ready else "loading"
        return answer({"status": state}, 200 if state == "ok" else 503)

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        self.app.metrics.inflight.set(self.app.inflight)
        others = [] if self.app.fronts is None else await self.app.fronts.families()
        return Response(self.app.metrics.text(others), media_type=metrics.MEDIA_TYPE)

    async def info(self, request: Request) -> Response:
        """What this server is and does, for people who run it."""

        async def facts(caller: Caller) -> Any:
            engine = self.app.engine.info()
            return {
                "server": "saccade",
                "version": __version__,
                "uptime_s": round(self.app.desk.uptime_s(), 3),
                "default_model": self.app.desk.default_model(),
                "dialects": [dialect.name for dialect in self.app.dialects],
                "fronts": [] if self.app.fronts is None else self.app.fronts.info(),
                "engine": engine,
            }

        return await self.asked(request, facts)

    async def usage(self, request: Request) -> Response:
        """What the calling key used and has left; the numbers are those that are enforced."""

        async def used(caller: Caller) -> Any:
            days = request.query_params.get("days", "30")
            if not days.isdigit() or not 1 <= int(days) <= 3660:
                raise BadOptions(f"days is '{days[:20]}'; expected a whole number from 1 to 3660.")
            everybody = boolean(request.query_params.get("all", ""), False)
            if everybody:
                require_admin(caller)
            if self.app.fronts is not None:
                await self.app.fronts.settle()
            return await self.app.gate.usage(caller, int(days), everybody)

        return await self.asked(request, used)

    async def contract(self, request: Request) -> Response:
        """The OpenAPI document."""
        return answer(openapi.document(self.app.dialects, incoming(request).base_url))

    async def docs(self, request: Request) -> Response:
        """The OpenAPI document, readable."""
        return page("saccade: the APIs", openapi.readable(self.app.dialects, incoming(request).base_url))

    async def asked(
        self, request: Request, reply: Callable[[Caller], Any], *, admin: bool = False, status: int = 200
    ) -> Response:
        """The reply to a caller whom the gate lets in, or the refusal."""
        try:
            caller = await self.app.gate.caller(incoming(request).headers)
            if admin:
                require_admin(caller)
            return answer(await reply(caller), status)
        except Error as error:
            return answer({"error": error.message}, status_of(error))


def incoming(request: Request) -> Incoming:
    """The request's head, as the app read it."""
    head: Incoming = request.scope["state"]["incoming"]
    return head


def answer(value: object, status: int = 200) -> Response:
    """JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def page(title: str, body: str) -> Response:
    """A complete HTML page with our own style sheet and nothing from elsewhere."""
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="/static/plain.css"></head><body><main>{body}</main></body></html>'
    )
    return HTMLResponse(text, headers=GUARDED)


def _front(model: str, base_url: str) -> str:
    line = html.escape(f"curl --data-binary @photo.jpg {base_url}/models/{model}")
    return (
        "<h1>saccade</h1><p>This server finds things in pictures. It answers the Hugging Face and Ultralytics "
        f"inference APIs.</p><h2>Try it</h2><pre>{line}</pre>"
        '<p><a href="/docs">The APIs</a> · <a href="/info">What runs here</a> · <a href="/metrics">Metrics</a></p>'
    )

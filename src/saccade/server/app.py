"""The ASGI application: it finds the dialect, asks the gate, and hands calls to the engine and answers back."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import math
import pkgutil
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import saccade.dialects
from saccade.call import Answer, Call
from saccade.card import Card
from saccade.dialects.dialect import Ask, Dialect, Incoming, Outgoing, status_of
from saccade.dialects.inputs import boolean, numbered
from saccade.engine.aside import aside
from saccade.errors import (
    BadInput,
    BadOptions,
    Busy,
    CallError,
    DeadlinePassed,
    Error,
    Forbidden,
    ModelError,
    Overloaded,
    QuotaSpent,
    StillLoading,
    Stopped,
    TooLarge,
    UnknownModel,
    let_go,
    place,
    short_of,
)
from saccade.media import kind
from saccade.results import Depth, Labels, Masks
from saccade.server import answering
from saccade.server.access import Caller, Gate, Standing, Ticket, objection_to_page, spent
from saccade.server.answering import HeaderList
from saccade.server.body import Body, Departed, Shelf
from saccade.server.desk import FrontDesk, NotHere, read
from saccade.server.journal import Journal
from saccade.server.metrics import Metrics
from saccade.server.paths import Candidate, Found, Paths, base_url_of, normalised, query_of
from saccade.server.settings import Settings
from saccade.server.watch import Watch

if TYPE_CHECKING:
    from saccade.endpoints.fleet import Fleet
    from saccade.server.dedicated import Dedicated, Nowhere
    from saccade.server.doors import Doors
    from saccade.server.elsewhere import Passing, Regions
    from saccade.server.fronts import Fronts

log = logging.getLogger("saccade.server")

DOTS = re.compile(r"/\.{1,2}(?:/|$)")
"""Parts of a path that lead elsewhere than they seem to."""

ORDER = ("platform", "hub", "yolo_v1", "huggingface")
"""Who is asked first on a path that several dialects share; the last takes what nobody claims."""

OFF_LOOP_BYTES = 1 << 20
"""Bodies over this size are parsed in a thread, so that other calls go on meanwhile."""

OFF_LOOP_ANSWERS = 16
"""More answers than this (video) are rendered in a thread."""

OFF_LOOP_PIXELS = 1 << 20
"""And so are maps and masks of larger pictures: the depth of 12 megapixels takes a third of a second to a whole one."""

SIDE_BY_SIDE = 8
"""How many images of one request are in the engine at one time."""

MOST_PRIORITY = 100

GRACE_S = 2.0
"""How long after its deadline a call is left to the engine, which knows better why it is late."""

COLD_PAUSE_S = 1.0
"""A pause before "try again" is answered to clients that repeat at once and for ever."""

HOT_CLIENT = "@huggingface/inference"
"""How the JavaScript client names itself; it repeats every 503 without a pause (474 times in a second, measured). In
Chrome it cannot: there a page's calls bear the browser's own name."""

UNSEEN = Answer(result=Labels(np.zeros(0, np.int32), np.zeros(0, np.float32), ()), image_hw=(0, 0), model="")
"""Stands in the counts for an answer that only another server has seen, and for one without entries."""

LISTS = ("accept", "x-forwarded-proto", "x-forwarded-prefix")
"""Headers whose lines add up (RFC 9110, 5.3): each proxy may add one of its own behind that of the one before it."""

AT_WORK = (BadInput, BadOptions, TooLarge, DeadlinePassed, ModelError)
"""What goes wrong when a call is at work on its model already."""

Fetch = Callable[[str], Awaitable[bytes]]


def installed() -> list[Dialect]:
    """All dialects of this installation, in the order in which they are asked on shared paths."""
    found: list[Dialect] = [point.load() for point in entry_points(group="saccade.dialects")]
    for module in pkgutil.iter_modules(saccade.dialects.__path__):
        dialect = getattr(importlib.import_module(f"saccade.dialects.{module.name}"), "DIALECT", None)
        if dialect is not None:
            found.append(dialect)
    return sorted(found, key=lambda dialect: ORDER.index(dialect.name) if dialect.name in ORDER else -1)


@dataclass(slots=True)
class Exchange:
    """One request on its way through the house, and what the log and the metrics will say of it."""

    head: Incoming
    received: float
    watch: Watch
    begun: float | None = None
    """When the call began to be read as one for a model."""
    dialect: str = ""
    caller: str = ""
    who: Caller | None = None
    standing: Standing | None = None
    answers: Sequence[Answer] = ()
    """All of them; of a streamed video the first, whose others nobody keeps."""
    streamed: int = 0
    """How many more answers were given than ``answers`` holds."""
    sent_bytes: int = 0
    """Of a stream, until now."""
    error: str = ""
    reason: str = ""
    broke: int = 0
    """The status of what ended a stream whose head had been sent; 0 while nothing did."""
    fetched_bytes: int = 0
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)


class App:
    """Wires dialects, gate and engine; ``house`` serves everything that is no dialect's (health, docs, console)."""

    def __init__(
        self,
        dialects: Sequence[Dialect],
        desk: FrontDesk,
        gate: Gate,
        settings: Settings,
        *,
        metrics: Metrics | None = None,
        journal: Journal | None = None,
        fetch: Fetch | None = None,
    ) -> None:
        self.dialects = tuple(dialects)
        self.paths = Paths(dialects)
        self.desk = desk
        self.engine = desk.engine
        self.gate = gate
        self.settings = settings
        self.metrics = metrics or Metrics()
        self.journal = journal or Journal(settings.access_log)
        self.fetch = fetch
        self.house: ASGIApp = _nobody
        self.is_house: Callable[[str, str], bool] = lambda method, path: False
        self.house_methods: Callable[[str], Iterable[str]] = lambda path: ()
        self.fleet: Fleet | None = None
        self.dedicated: Dedicated | None = None
        self.doors: Doors | None = None
        self.fronts: Fronts | None = None
        self.regions: Regions | None = None
        self.endpoint = ""
        self.shelf = Shelf(settings.max_inflight_bytes)
        self.ready = False
        self._draining = False
        self.inflight = 0
        self.watches: set[Watch] = set()
        self.fetching: dict[str, asyncio.Future[Card]] = {}

    @property
    def draining(self) -> bool:
        """Whether the server stops: accepted calls are finished, new ones refused."""
        return self._draining

    def drain(self) -> None:
        """From now on :attr:`draining`."""
        self._draining = True

    @property
    def state(self) -> str:
        """``ok`` when calls are answered, else why they are not: ``loading``, ``stopping`` …"""
        return "stopping" if self.draining else "ok" if self.ready else "loading"

    async def look(self) -> None:
        """Brings :attr:`state` up to date, where it depends on what lies on a disk."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request; nothing but a cancellation leaves here as an exception."""
        if scope["type"] != "http":
            return
        if "/." in scope["path"] and DOTS.search(scope["path"]):
            # Whoever hands the path on, to a region for instance, would be led astray.
            await self._nowhere(scope, send)
            return
        if self.dedicated is not None:
            found = await self.dedicated.find(scope)
            if found is not None:
                await self._at_endpoint(*found, scope, receive, send)
                return
        received = time.perf_counter()
        head = incoming_of(scope)
        extra: HeaderList = [(b"x-request-id", head.request_id.encode("latin-1"))]
        if head.method == "OPTIONS":
            wanted = head.headers.get("access-control-request-method", "GET")
            origins = () if self.is_house(wanted, head.path) else self.settings.cors_origins
            granted = answering.preflight(head.headers, origins)
            await answering.send_answer(send, Outgoing(status=204, media_type="text/plain"), extra + granted)
            self._log(head, received, 204, 0)
        elif self.is_house(head.method, head.path):
            await self._at_home(scope, receive, send, head, received, extra)
        else:
            self.inflight += 1
            watch = Watch(receive, scope)
            self.watches.add(watch)
            try:
                await self._serve(Exchange(head, received, watch), receive, send, extra)
            finally:
                self.inflight -= 1
                self.watches.discard(watch)

    def break_off(self) -> None:
        """Ends the calls that are still at work; their callers are told, also in the middle of a video."""
        for watch in tuple(self.watches):
            watch.give_up()

    def turn_away(self) -> None:
        """Refuses the calls whose bodies are still on their way: whole, they would be refused, too."""
        for watch in tuple(self.watches):
            if not watch.started:
                watch.give_up()

    async def _nowhere(self, scope: Scope, send: Send) -> None:
        head, received = incoming_of(scope), time.perf_counter()
        text = "There is nothing at this address: its path has '.' or '..' among its parts."
        extra: HeaderList = [(b"x-request-id", head.request_id.encode("latin-1"))]
        size = await answering.send_answer(send, Outgoing(404, msgspec.json.encode({"error": text})), extra)
        self.note_unserved(head, received, 404, size, "NoSuchPath")

    def note_unserved(self, head: Incoming, received: float, status: int, size: int, error: str) -> None:
        """One finished request of which no dialect learnt."""
        self.metrics.request("", "", status, time.perf_counter() - received, size, (), error)
        self._log(head, received, status, size, error)

    async def _at_endpoint(
        self, app: App | Passing | Nowhere, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Passes the request to the application of a dedicated endpoint, as that one sees it."""
        self.inflight += 1
        root = scope["path"].removesuffix(path).rstrip("/")
        try:
            await app({**scope, "path": path, "raw_path": path.encode(), "root_path": root}, receive, send)
        finally:
            self.inflight -= 1

    async def _at_home(
        self, scope: Scope, receive: Receive, send: Send, head: Incoming, received: float, extra: HeaderList
    ) -> None:
        """Passes the request to the house's own pages, with the request id; other sites' pages may change nothing."""
        changes = head.method not in ("GET", "HEAD")
        objection = await objection_to_page(self.gate, head.headers, self.settings.host) if changes else ""
        if objection:
            size = await answering.send_answer(send, Outgoing(403, msgspec.json.encode({"error": objection})), extra)
            self._log(head, received, 403, size)
            return
        status, size = 500, 0

        async def sending(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                challenge = [answering.CHALLENGE] if status == 401 else []
                message["headers"] = [*message.get("headers", []), *extra, *challenge]
            size += len(message.get("body", b""))
            await send(message)

        try:
            inside = {**scope, "path": head.path, "root_path": "", "state": {"incoming": head}}
            await self.house(inside, receive, sending)
        except Exception as error:
            found = bug(error, head.request_id)
            status, body = status_of(found), msgspec.json.encode({"error": found.message})
            later = tuple(answering.come_back(found).items())
            size = await answering.send_answer(send, Outgoing(status, body, headers=later), extra)
        finally:
            self._log(head, received, status, size)

    async def _serve(self, exchange: Exchange, receive: Receive, send: Send, extra: HeaderList) -> None:
        head = exchange.head
        watch = exchange.watch
        body = Body(receive, head.headers, self.shelf, self.settings.max_body_bytes, watch)
        status, size = 499, 0
        try:
            outgoing = await self._answer(exchange, body)
            extra = extra + self._headers(exchange)
            size = await answering.send_answer(send, outgoing, extra)
            status = outgoing.status
        except Departed:
            exchange.error = "Departed"
        except asyncio.CancelledError:
            # Who was given up while it took nothing of its answer cannot be told.
            exchange.error = "Departed" if watch.left else "Stopped"
            if not watch.left and not watch.resume():
                raise
        finally:
            size = 0 if head.method == "HEAD" else size or exchange.sent_bytes
            watch.stop()
            body.release()
            self.shelf.give(exchange.fetched_bytes)
            for close in exchange.closers:
                with contextlib.suppress(Exception):
                    await close()
            self._note(exchange, status, size)

    async def _answer(self, exchange: Exchange, body: Body) -> Outgoing:
        """What will be sent, success or refusal."""
        incoming = exchange.head
        found = self.paths.find(incoming.method, incoming.path)
        if not found.candidates:
            with contextlib.suppress(Exception):  # nobody needs a key to learn that nothing is here
                exchange.who = await self.gate.caller(incoming.headers)
            await self._look_at_standing(exchange)
            return self._no_route(exchange, found)
        candidate, incoming = chosen(found, incoming, b"")
        try:
            caller = await self.gate.caller(incoming.headers)
            exchange.caller, exchange.who = caller.id, caller
            content = await self._content(body, candidate, incoming)
            exchange.watch.start()
            candidate, incoming = chosen(found, incoming, content)
            exchange.dialect = candidate.dialect.name
            if candidate.route.action == "describe":
                await self._look_at_standing(exchange)
                return await read(self.desk, lambda desk: candidate.dialect.describe(incoming, desk))
            return await self._predict(exchange, candidate.dialect, incoming, caller)
        except Error as error:
            let_go(error)
            return await self._refusal(exchange, candidate, incoming, error)
        except asyncio.CancelledError:
            if not exchange.watch.resume():
                raise
            return await self._refusal(exchange, candidate, incoming, stopping())
        except Departed:
            raise
        except Exception as error:
            found_bug = bug(error, incoming.request_id)
            exchange.error = "Bug" if type(found_bug) is Error else type(found_bug).__name__
            exchange.reason = found_bug.message
            exchange.dialect = candidate.dialect.name
            await self._look_at_standing(exchange)
            refusal = candidate.dialect.refuse(found_bug, self._worked(exchange, incoming, found_bug))
            return await held_back(refusal, found_bug, incoming, self.settings)

    async def _refusal(self, exchange: Exchange, candidate: Candidate, incoming: Incoming, error: Error) -> Outgoing:
        free = exchange.standing is not None or candidate.route.action == "describe"
        await self._look_at_standing(exchange)
        if isinstance(error, CallError) and not free and exchange.standing and exchange.standing.remaining < 1:
            error = spent(exchange.standing, 1)  # that comes first, whatever else is wrong with the call
        exchange.dialect, exchange.error = candidate.dialect.name, type(error).__name__
        exchange.reason = error.message
        refusal = candidate.dialect.refuse(error, self._worked(exchange, incoming, error))
        return await held_back(refusal, error, incoming, self.settings)

    async def _content(self, body: Body, candidate: Candidate, incoming: Incoming) -> bytes:
        """The whole body.

        Raises:
            UnknownModel: the body is too large, and its path names no model that is here or can be fetched: that is
                told first.
            TooLarge, BadInput, Overloaded: see :meth:`Body.read`.
        """
        try:
            return await body.read(self.settings.body_timeout_s)
        except TooLarge:
            if candidate.route.action == "predict":
                try:
                    await self._parsed(candidate.dialect, incoming)
                except NotHere:  # nothing is fetched for a call that is refused
                    pass
                except UnknownModel:
                    raise
                except Error:  # Nothing was read, so anything else that is wrong is not the caller's doing.
                    pass
            raise

    def _worked(self, exchange: Exchange, incoming: Incoming, error: Error) -> Incoming:
        """The request with where and how long it was worked on, if that is how it failed."""
        if exchange.begun is None or not (isinstance(error, AT_WORK) or type(error) is Error):
            return incoming
        worked_s = time.monotonic() - exchange.begun
        return msgspec.structs.replace(incoming, device=self.desk.device(), worked_s=worked_s)

    async def _look_at_standing(self, exchange: Exchange) -> None:
        """For answers that took nothing from the caller's quota; every answer to a limited key tells how it stands."""
        if exchange.standing is None:
            exchange.standing = await answering.standing_of(self.gate, exchange.who)

    async def _predict(self, exchange: Exchange, dialect: Dialect, incoming: Incoming, caller: Caller) -> Outgoing:
        if self.draining:
            raise stopping()
        wish_s = patience_of(incoming.headers)
        exchange.begun = time.monotonic()
        ask = await self._parsed(dialect, incoming, caller, wish_s)
        video = any(call.clip is not None for call in ask.calls)
        most_s = self.settings.video_timeout_s if video else self.settings.request_timeout_s
        deadline = min(exchange.begun + wish_s, time.monotonic() + most_s)
        try:
            ticket = await self.gate.take(caller, [(await self.desk.find(call.model)).name for call in ask.calls])
        except QuotaSpent as spent:
            exchange.standing = Standing(spent.limit, spent.remaining, spent.reset_epoch_s, spent.window_s)
            raise
        exchange.standing = ticket.standing
        try:
            calls = []
            for index, call in enumerate(ask.calls):
                with numbered(index, len(ask.calls)):
                    calls.append(await self._completed(exchange, call, deadline))
            outgoing = await self._run_or_pass(exchange, dialect, ask, calls, incoming, deadline)
        except Exception:
            await self._failed(exchange, ticket)
            raise
        except asyncio.CancelledError:
            if exchange.watch.given_up:
                await self._failed(exchange, ticket)
            else:
                self.gate.count(ticket, (UNSEEN,))  # an abandoned call is not given back, so the usage has it, too
            raise
        if outgoing.status >= 400:  # in a region's words
            await self._failed(exchange, ticket)
        else:
            # A video of fewer frames than its stride has no entries, and is a call that succeeded all the same.
            self.gate.count(ticket, exchange.answers or (UNSEEN,))
        return outgoing

    async def _failed(self, exchange: Exchange, ticket: Ticket) -> None:
        try:
            exchange.standing = (await self.gate.give_back(ticket)).standing
        finally:  # its caller may leave just now
            self.gate.count(ticket, ())

    async def _run_or_pass(
        self, exchange: Exchange, dialect: Dialect, ask: Ask, calls: Sequence[Call], incoming: Incoming, deadline: float
    ) -> Outgoing:
        """Answers here, or sends the request to the nearest region, as the settings say."""
        if self.settings.forward == "nearest":
            passed = await self._passed(incoming, deadline)
            if passed is not None:
                return passed
        try:
            return await self._run(exchange, dialect, ask, calls, incoming, deadline)
        except Overloaded:
            if self.settings.forward != "when_busy":
                raise
            passed = await self._passed(incoming, deadline)
            if passed is None:
                raise
            return passed

    async def _passed(self, incoming: Incoming, deadline: float) -> Outgoing | None:
        return await self.regions.passed(incoming, deadline) if self.regions is not None else None

    async def _parsed(
        self, dialect: Dialect, incoming: Incoming, caller: Caller | None = None, patience_s: float = math.inf
    ) -> Ask:
        """The dialect's reading of the request; a model that must be fetched first is fetched, once, for a caller who
        may use it.

        Raises:
            NotHere: nobody is there for whom the model could be fetched.
            Forbidden, QuotaSpent: the caller may not call it, or not now.
            StillLoading: the caller does not wait for it, or not so long.
        """
        try:
            return await self.parse(dialect, incoming)
        except NotHere as missing:
            if missing.offered:
                if caller is None:
                    raise
                await self.gate.give_back(await self.gate.take(caller, [missing.offered]))
            waits = missing.waits or not self.settings.hf_cold_503
            await self.fetched(missing.ref, patience_s if waits else 0.0)
            return await self.parse(dialect, incoming)

    async def close(self) -> None:
        """Ends the engines and writes out what was collected."""
        if self.doors is not None:
            await self.doors.close()
        if self.fleet is not None:
            await self.fleet.close()
        if self.regions is not None:
            await self.regions.close()
        await self.engine.close()
        await self.gate.close()
        self.journal.flush()

    async def fetched(self, ref: str, patience_s: float = math.inf) -> None:
        """Brings a model of the catalogue to this machine; callers of one model wait for one fetch, which goes on when
        they do not wait any longer.

        Raises:
            UnknownModel: nobody knows it.
            StillLoading: it takes too long.
        """
        if ref not in self.fetching:
            card = self.desk.library.card
            self.fetching[ref] = asyncio.ensure_future(aside(lambda: card(ref, fetch=True)))
            self.fetching[ref].add_done_callback(lambda _: self.fetching.pop(ref, None))
            # All who wait may have left.
            self.fetching[ref].add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(min(self.settings.load_timeout_s, patience_s)):
                await asyncio.shield(self.fetching[ref])
        except TimeoutError:
            raise StillLoading(f"Model {ref} is currently loading", retry_after_s=20.0) from None

    async def parse(self, dialect: Dialect, incoming: Incoming) -> Ask:
        """The dialect's reading of the request, as far as the desk knows its models. Raises CallError."""
        threaded = len(incoming.body) > OFF_LOOP_BYTES
        return await read(self.desk, lambda desk: dialect.parse(incoming, desk), threaded)

    async def _completed(self, exchange: Exchange, call: Call, deadline: float) -> Call:
        """The call with what only the server knows: who, until when, and the media behind an address."""
        if call.media_url is not None and not call.media:
            call = await self._with_media(exchange, call, call.media_url, deadline)
            if call.clip is None:
                deadline = min(deadline, time.monotonic() + self.settings.request_timeout_s)
        kept = boolean(exchange.head.headers.get("x-use-cache"), True)
        return msgspec.structs.replace(
            call,
            deadline=deadline if call.deadline is None else min(call.deadline, deadline),
            caller=exchange.caller,
            priority=priority_of(exchange.head.headers, exchange.who),
            wait_for_model=call.wait_for_model or not self.settings.hf_cold_503,
            use_cache=call.use_cache and kept,
        )

    async def _with_media(self, exchange: Exchange, call: Call, address: str, deadline: float) -> Call:
        """The call with what lies at its address: held like a body, and a video only if it is one.

        Raises:
            BadInput, TooLarge: nothing that may be fetched lies there.
            BadOptions: a picture to draw on was asked for, and there is none.
            DeadlinePassed, Overloaded: it came too late, or the server holds too much already.
        """
        if self.fetch is None:
            raise BadInput(
                "This server does not fetch addresses. Send the image itself, or start the server with --allow-url."
            )
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                media = await self.fetch(address)
        except TimeoutError:
            raise DeadlinePassed("The address did not answer before the call's deadline: it timed out.") from None
        self.shelf.take(len(media))
        exchange.fetched_bytes += len(media)
        clip = call.clip if moves(media) else None
        if clip is not None and call.annotate:
            raise BadOptions("An annotated picture is made of an image, but the address holds a video or GIF.")
        return msgspec.structs.replace(call, media=media, clip=clip)

    async def _run(
        self, exchange: Exchange, dialect: Dialect, ask: Ask, calls: Sequence[Call], incoming: Incoming, deadline: float
    ) -> Outgoing:
        """Through the engine and back into the dialect's words."""
        if any(call.clip is not None for call in calls):
            return await self._run_video(exchange, dialect, ask, calls, incoming)
        try:
            with exchange.watch.within(deadline + GRACE_S - time.monotonic()):
                if len(calls) == 1:
                    exchange.answers = (await self.engine.predict(calls[0]),)
                else:
                    exchange.answers = await self._side_by_side(calls)
        except TimeoutError:
            raise DeadlinePassed("The call was not answered before its deadline: it timed out.") from None
        if any(is_large(answer) for answer in exchange.answers):
            return await asyncio.to_thread(dialect.render, ask, exchange.answers)
        return dialect.render(ask, exchange.answers)

    async def _side_by_side(self, calls: Sequence[Call]) -> list[Answer]:
        """All answers in order; the first failure ends the rest."""
        room = asyncio.Semaphore(SIDE_BY_SIDE)

        async def one(index: int, call: Call) -> Answer:
            async with room:
                with numbered(index, len(calls)):
                    return await self.engine.predict(call)

        tasks = [asyncio.create_task(one(index, call)) for index, call in enumerate(calls)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _run_video(
        self, exchange: Exchange, dialect: Dialect, ask: Ask, calls: Sequence[Call], incoming: Incoming
    ) -> Outgoing:
        frames = self._frames(exchange, calls)
        if not ask.streamed:
            answers = [answer async for answer in frames]
            exchange.answers = answers
            if len(answers) > OFF_LOOP_ANSWERS or any(is_large(answer) for answer in answers):
                return await asyncio.to_thread(dialect.render, ask, answers)
            return dialect.render(ask, answers)
        first = await anext(frames, None)
        exchange.answers = () if first is None else (first,)
        told = self._until_it_breaks(exchange, incoming, self._one_by_one(exchange, frames))
        entries = dialect.render_stream(ask, told)
        return Outgoing(
            media_type=ask.stream_type,
            headers=(("cache-control", "no-store, no-transform"),),  # packed on the way, it would come at its end
            stream=self._to_the_end(exchange, dialect, incoming, entries),
        )

    async def _frames(self, exchange: Exchange, calls: Sequence[Call]) -> AsyncIterator[Answer]:
        """The answers of all calls, one after another; images among videos yield one."""
        for call in calls:
            if call.clip is None:
                yield await self.engine.predict(call)
                continue
            stream = self.engine.stream(call)
            exchange.closers.append(stream.aclose)
            async for answer in stream:
                yield answer

    async def _one_by_one(self, exchange: Exchange, frames: AsyncIterator[Answer]) -> AsyncIterator[Answer]:
        """The first answer, which has come already, and the others, which are counted as they come."""
        for first in exchange.answers:
            yield first
            async for answer in frames:
                self.metrics.image(answer.model, answer)
                exchange.streamed += 1
                yield answer

    async def _until_it_breaks(
        self, exchange: Exchange, incoming: Incoming, answers: AsyncIterator[Answer]
    ) -> AsyncIterator[Answer]:
        """The answers. What ends them after the head was sent is noted, and an Error for the dialect to tell."""
        try:
            async for answer in answers:
                yield answer
            return
        except Error as problem:
            error = problem
        except asyncio.CancelledError:
            if not exchange.watch.resume():
                raise
            error = stopping()
        except Exception as problem:
            error = bug(problem, incoming.request_id)
        exchange.error = "Bug" if type(error) is Error else type(error).__name__
        exchange.reason, exchange.broke = error.message, status_of(error)
        raise error

    async def _to_the_end(
        self, exchange: Exchange, dialect: Dialect, incoming: Incoming, entries: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """The entries; an error that the dialect did not tell becomes a last entry in its words."""
        try:
            async for entry in entries:
                yield entry
                exchange.sent_bytes += len(entry)
        except Error as error:
            let_go(error)
            yield dialect.refuse(error, incoming).body + b"\n"
        except Exception as error:
            exchange.error = "Bug"
            yield dialect.refuse(bug(error, incoming.request_id), incoming).body + b"\n"

    def _no_route(self, exchange: Exchange, found: Found) -> Outgoing:
        """404, or 405 where the path exists with other methods, in the words of the nearest dialect."""
        head = exchange.head
        allowed = ", ".join(sorted({*found.allowed, *self.house_methods(head.path)}))
        if allowed:
            exchange.error = "WrongMethod"
            what = " POST an image to this address." if allowed == "POST" and found.allowed else ""
            text = f"{head.method} is not allowed here. Allowed: {allowed}.{what}"
        else:
            exchange.error = "NoSuchPath"
            text = "There is nothing at this address. The documentation at /docs lists what there is."
        exchange.reason = text
        dialect = self.paths.nearest(head.path)
        if dialect is None:
            outgoing = Outgoing(body=msgspec.json.encode({"error": text}))
        else:
            exchange.dialect = dialect.name
            outgoing = dialect.refuse(CallError(text), head)
        if not allowed:
            return replace(outgoing, status=404)
        return replace(outgoing, status=405, headers=(*outgoing.headers, ("allow", allowed)))

    def _headers(self, exchange: Exchange) -> HeaderList:
        """What every answer of a dialect carries besides its own headers."""
        extra = answering.cors_headers(exchange.head.headers.get("origin", ""), self.settings.cors_origins)
        if exchange.answers:
            total_ms = (time.perf_counter() - exchange.received) * 1e3
            extra.append((b"server-timing", answering.timing_header(exchange.answers, total_ms).encode()))
        if exchange.standing is not None:
            iso = exchange.dialect == "platform"
            pairs = answering.quota_headers(exchange.standing, time.time(), iso)
            extra += [(name.encode(), value.encode()) for name, value in pairs]
        if self.draining and exchange.error in ("", "Stopped"):  # the request was read, nothing of it is lost
            extra.append((b"connection", b"close"))
        return extra

    def address(self, path: str) -> str:
        """How the log calls a path of this application."""
        return path

    def _log(self, head: Incoming, received: float, status: int, size: int, error: str = "") -> None:
        """One finished request that was none of a dialect's."""
        seconds, sent = time.perf_counter() - received, 0 if head.method == "HEAD" else size
        self.journal.note(head.method, self.address(head.path), status, seconds, sent, head.request_id, error=error)

    def _note(self, exchange: Exchange, status: int, size: int) -> None:
        head, seconds = exchange.head, time.perf_counter() - exchange.received
        model = exchange.answers[0].model if exchange.answers else ""
        self.metrics.request(exchange.dialect, model, status, seconds, size, exchange.answers, exchange.error)
        self.journal.note(
            head.method,
            self.address(head.path),
            status,
            seconds,
            size,
            head.request_id,
            model=model,
            caller="" if exchange.caller == "anonymous" else exchange.caller,
            error=exchange.error,
        )


def moves(data: bytes) -> bool:
    """Whether fetched media are answered frame by frame: videos, and GIFs even of one frame."""
    return data[:4] == b"GIF8" or kind(data) == "video"


def is_large(answer: Answer) -> bool:
    """Whether it takes so long to render that others should be served meanwhile."""
    return isinstance(answer.result, Depth | Masks) and math.prod(answer.image_hw) > OFF_LOOP_PIXELS


def incoming_of(scope: Scope) -> Incoming:
    """The request without its body."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    if len(headers) < len(scope["headers"]):
        headers |= _joined(scope)
    return Incoming(
        method=scope["method"],
        path=normalised(scope["path"]),
        query=query_of(scope.get("query_string", b"")),
        headers=headers,
        request_id=answering.request_id(headers),
        base_url=base_url_of(headers, scope),
    )


def _joined(scope: Scope) -> dict[str, str]:
    """The headers of several lines that are lists; of all others the last line counts."""
    said: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        said.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return {name: ", ".join(said[name]) for name in LISTS if name in said}


def host_of(scope: Scope) -> str:
    """The host name that was called, in small letters, without the port and a dot at its end."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    return (host.rpartition(":")[0] or host).lower().rstrip(".")


async def held_back(refusal: Outgoing, error: Error, incoming: Incoming, settings: Settings) -> Outgoing:
    """The refusal, after a pause where the caller may be one that repeats a 503 at once and for ever."""
    if refusal.status == 503 and hot(error, incoming, settings):
        await asyncio.sleep(COLD_PAUSE_S)
    return refusal


def hot(error: Error, incoming: Incoming, settings: Settings) -> bool:
    """Whether the caller may be one that repeats a 503 at once and for ever, so that it must be slowed down."""
    if isinstance(error, StillLoading) and settings.hf_cold_503:
        return True
    may_be = incoming.headers.get("user-agent", "").startswith(HOT_CLIENT) or "origin" in incoming.headers
    return isinstance(error, Busy) and may_be


def patience_of(headers: Mapping[str, str]) -> float:
    """How many seconds the caller is willing to wait.

    Raises:
        BadOptions: the header says something else.
    """
    given = headers.get("x-request-timeout")
    if given is None:
        return float("inf")
    with contextlib.suppress(ValueError):
        if float(given) > 0:
            return float(given)
    raise BadOptions(f"X-Request-Timeout is '{given[:40]}'; expected a number of seconds above 0.")


def priority_of(headers: Mapping[str, str], who: Caller | None) -> int:
    """Before or after whom the call waits. Everybody may step back; stepping forward is for those who may do anything.

    Raises:
        BadOptions: the header says something else.
        Forbidden: the key may not go before others.
    """
    given = headers.get("x-request-priority")
    if given is None:
        return 0
    if not re.fullmatch(r"[+-]?\d{1,3}", given) or abs(int(given)) > MOST_PRIORITY:
        raise BadOptions(
            f"X-Request-Priority is '{given[:40]}'; expected a whole number from -{MOST_PRIORITY} (last) to "
            f"{MOST_PRIORITY} (first)."
        )
    if int(given) > 0 and not (who is not None and who.admin):
        raise Forbidden("X-Request-Priority above 0 needs an admin key; every key may send one below 0.")
    return int(given)


def chosen(found: Found, head: Incoming, body: bytes | None = None) -> tuple[Candidate, Incoming]:
    """The first candidate that claims the request, else the last; with its path parameters and the body put in."""
    body = head.body if body is None else body
    for candidate in found.candidates[:-1]:
        incoming = completed(head, body, candidate.match)
        if candidate.dialect.claims(incoming):
            return candidate, incoming
    last = found.candidates[-1]
    return last, completed(head, body, last.match)


def completed(head: Incoming, body: bytes, match: Mapping[str, str]) -> Incoming:
    """The request with these (``dataclasses.replace`` costs four times as much, at every request)."""
    return Incoming(head.method, head.path, head.query, head.headers, body, match, head.request_id, head.base_url)


def stopping() -> Stopped:
    """What a caller is told who comes while the server stops, or whose call would take longer than that may take."""
    return Stopped("The server is shutting down. Try again shortly.", retry_after_s=5)


def bug(error: Exception, request_id: str) -> Error:
    """What a caller is told of an unexpected exception; the log gets its kind and place under the same id."""
    shortage = short_of(error)
    if shortage is not None:
        log.warning("%s id=%s", shortage.message, request_id)
        return shortage
    log.error("internal error id=%s %s", request_id, place(error))
    let_go(error)
    return Error(f"Unhandled server error. Please report it with this id: {request_id}")


async def _nobody(scope: Scope, receive: Receive, send: Send) -> None:
    """The house before its pages were put in."""

"""What the console asks for beyond the public APIs: models as they stand, fetching with progress, uploads, regions."""

from __future__ import annotations

import asyncio
import errno
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from saccade.card import Card
from saccade.dialects.dialect import status_of
from saccade.drafts import draft
from saccade.engine.aside import aside
from saccade.errors import BadInput, BadOptions, CorruptFiles, Error, TooLarge
from saccade.server.access import Caller
from saccade.server.keyring import PATIENCE_S
from saccade.server.records import check_unused
from saccade.server.regions import measured
from saccade.server.settings import HERE
from saccade.stores import ultralytics
from saccade.stores.local import PICKLES

if TYPE_CHECKING:
    from saccade.server.app import App
    from saccade.server.pages import Pages

MOST_UPLOAD_BYTES = 4 << 30
MOST_UNPACKED_BYTES = 8 << 30
MOST_FILES = 2000
LONGEST_PART_BYTES, LONGEST_PATH_BYTES = 255, 1000
"""Of names in a zip: what file systems take, with room for the folder that they are unpacked into."""
MOST_LISTED_BYTES = 4 << 20
"""Of a zip's list of files: twice what so many names of that length take. It is read at once, and each entry of 47
bytes becomes an object of 370."""
LONGEST_STEM, LONGEST_SUFFIX = 60, 20
SUFFIXES = (".onnx", ".tflite", ".zip")
PULSE_S = 0.2
"""Progress is told this often."""


class Console:
    """The routes; changes need admin rights."""

    def __init__(self, app: App, pages: Pages) -> None:
        self._app = app
        self._pages = pages

    def routes(self) -> list[Route]:
        """For the house's router."""
        one = "/v1/console/models/{name:path}"
        return [
            Route("/v1/console/models", self.models, methods=["GET"]),
            Route(f"{one}/pull", self.pull, methods=["POST"]),
            Route(f"{one}/load", self.load, methods=["POST"]),
            Route(f"{one}/unload", self.unload, methods=["POST"]),
            Route(one, self.model, methods=["GET"]),
            Route(one, self.upload, methods=["PUT"]),
            Route(one, self.remove, methods=["DELETE"]),
            Route("/v1/regions", self.regions, methods=["GET"]),
        ]

    async def models(self, request: Request) -> Response:
        """Every model that is here or can be fetched, and what lies here but cannot be served."""

        async def listed(caller: Caller) -> Any:
            library: Any = self._app.desk.library
            cards = await self._app.desk.all()
            problems = await aside(library.problems)
            names = {card.name for card in cards}
            broken = [name for name in sorted(problems) if name not in names]
            removable = await aside(lambda: library.removable((*names, *broken)))
            states = self._states()
            rows = [self._row(card, states, removable) for card in cards]
            for row in rows:
                if row["reason"] is None and row["name"] in problems:
                    row["reason"] = f"Its new files are not used: {problems[row['name']].message}"
            names.update(broken)
            rows += [self._row(offer, states) for offer in library.offers() if offer.name not in names]
            unserved = [
                {"name": name, "reason": problems[name].message, "removable": name in removable} for name in broken
            ]
            return {"models": rows, "unserved": unserved, "memory_bytes": sum(row["memory_bytes"] for row in rows)}

        return await self._pages.asked(request, listed)

    async def model(self, request: Request) -> Response:
        """One model, with its labels."""

        async def shown(caller: Caller) -> Any:
            name = request.path_params["name"]
            library: Any = self._app.desk.library
            offer = next((one for one in library.offers() if one.name == name), None)
            card = await aside(lambda: library.here(name) if offer is not None else library.card(name))
            if card is None:
                return {**self._row(offer, {}), "labels": [], "runtime": "–", "revision": ""}
            facts = {
                "labels": [card.labels[number] for number in sorted(card.labels)],
                "runtime": card.runtime,
                "revision": card.revision,
                "input_hw": card.input_hw,
                "dynamic": card.dynamic,
                "source": card.source,
            }
            removable = await aside(lambda: library.removable([card.name]))
            return {**self._row(card, self._states(), removable), **facts}

        return await self._pages.asked(request, shown)

    async def load(self, request: Request) -> Response:
        """Brings a model into memory."""

        async def loaded(caller: Caller) -> Any:
            await self._app.engine.load(request.path_params["name"])
            return {"state": self._app.engine.state(request.path_params["name"])}

        return await self._pages.asked(request, loaded, admin=True)

    async def unload(self, request: Request) -> Response:
        """Gives a model's memory back."""

        async def unloaded(caller: Caller) -> Any:
            engine: Any = self._app.engine
            await engine.unload(request.path_params["name"])
            return {"state": self._app.engine.state(request.path_params["name"])}

        return await self._pages.asked(request, unloaded, admin=True)

    async def pull(self, request: Request) -> Response:
        """Fetches a model; a line of JSON for every step until it is here."""

        async def started(caller: Caller) -> Any:
            return None

        refusal = await self._pages.asked(request, started, admin=True)
        if refusal.status_code != 200:
            return refusal
        return StreamingResponse(self._pulling(request.path_params["name"]), media_type="application/x-ndjson")

    async def upload(self, request: Request) -> Response:
        """Adds the file in the body under a name; ``x-filename`` says what it was called."""

        async def added(caller: Caller) -> Any:
            stem, suffix = _called(request.headers.get("x-filename", ""))
            library: Any = self._app.desk.library
            await asyncio.to_thread(library.check_free, request.path_params["name"])
            with draft(library.home, ".upload-") as folder:
                file = folder / f"{stem}{suffix}"
                await _received(request, file)
                if suffix == ".zip":
                    file = await asyncio.to_thread(_unpacked, file, folder / "unpacked" / stem)
                try:
                    card = await asyncio.to_thread(library.add, request.path_params["name"], file)
                except CorruptFiles as error:  # the caller's own file, not one of this server's
                    raise BadInput(error.message) from error
            return self._row(card, self._states(), frozenset([card.name]))

        return await self._pages.asked(request, added, admin=True)

    async def remove(self, request: Request) -> Response:
        """Deletes an added or fetched model that no endpoint uses."""

        async def removed(caller: Caller) -> Any:
            name, engine, library = request.path_params["name"], self._app.engine, self._app.desk.library
            taken: Any = library
            await asyncio.to_thread(check_unused, taken, name, self._app.fleet.records() if self._app.fleet else ())
            unload: Any = getattr(engine, "unload", None)
            if unload is not None and engine.state(name) == "warm":
                await unload(name)
            await asyncio.to_thread(taken.remove, name)
            return {"removed": name}

        return await self._pages.asked(request, removed, admin=True)

    async def regions(self, request: Request) -> Response:
        """This cluster and the others, nearest first."""

        async def known(caller: Caller) -> Any:
            others = self._app.settings.regions
            if not others:
                return {"regions": []}
            here = {"name": HERE, "place": "this server", "here": True, "mean_ms": 0.0}
            return {"regions": [here, *await measured(others)]}

        return await self._pages.asked(request, known)

    async def _pulling(self, name: str) -> AsyncIterator[bytes]:
        library: Any = self._app.desk.library
        step: dict[str, Any] = {"what": "starting", "done": 0, "total": None}

        def progress(what: str, done: int, total: int | None) -> None:
            step.update(what=what, done=done, total=total)

        work = asyncio.ensure_future(aside(lambda: library.pull(name, progress)))
        try:
            while not work.done():
                yield msgspec.json.encode(step) + b"\n"
                await asyncio.wait({work}, timeout=PULSE_S)
            card: Card = work.result()
            yield msgspec.json.encode({"what": "done", "done": 1, "total": 1, "model": card.name}) + b"\n"
        except Error as error:
            yield msgspec.json.encode({"error": error.message, "status": status_of(error)}) + b"\n"

    def _row(self, thing: Any, states: Mapping[str, Any], removable: frozenset[str] | None = None) -> dict[str, Any]:
        """``removable`` are the names of models that can be deleted; None for what is not here yet."""
        fetched, known = removable is not None, states.get(thing.name, {})
        state = self._app.engine.state(thing.name) if fetched else "cold"
        # Of a model that failed, its files may have changed since.
        reason = known["reason"] if state == "failed" and known.get("revision") == thing.revision else None
        if state == "warm" and known.get("reason"):
            reason = f"Its new files are not used: {known['reason']}"
        return {
            "name": thing.name,
            "task": thing.task,
            "family": thing.family,
            "licence": thing.licence,
            "size_bytes": thing.size_bytes,
            "aliases": list(thing.aliases),
            "source": thing.source,
            "fetched": fetched,
            "state": "cold" if state == "failed" and reason is None else state,
            "reason": reason,
            "memory_bytes": int(known.get("memory_bytes", 0)),
            "removable": removable is not None and thing.name in removable,
        }

    def _states(self) -> dict[str, dict[str, Any]]:
        """What the engine tells of the models in memory, and of those that failed."""
        info = self._app.engine.info()
        return {row["name"]: row for row in (*info.get("models", ()), *info.get("failed_models", ()))}


async def _received(request: Request, file: Path) -> None:
    """Writes the body to a file as it comes.

    Raises:
        TooLarge: it is over the limit.
        BadOptions: it stopped in the middle.
    """
    size, parts = 0, request.stream()
    with file.open("wb") as target:
        while True:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    chunk = await anext(parts, None)
            except TimeoutError:
                raise BadOptions(f"Nothing more of the upload came for {PATIENCE_S:g} seconds.") from None
            except ClientDisconnect:
                raise BadOptions("The caller left before the upload was complete.") from None
            if chunk is None:
                return
            size += len(chunk)
            if size > MOST_UPLOAD_BYTES:
                raise TooLarge(f"The upload is over {MOST_UPLOAD_BYTES >> 30} GiB. Use 'saccade add' on the server.")
            await asyncio.to_thread(target.write, chunk)


def _called(name: str) -> tuple[str, str]:
    """What the user calls an uploaded file, without and with its ending; fit to be a file's name here and in texts.

    Raises:
        BadOptions: the ending is that of no model, or of one that is uploaded otherwise.
    """
    file = PureWindowsPath(unquote(name))  # knows both kinds of slashes
    suffix = file.suffix.lower()
    stem = "".join(sign for sign in file.stem if sign.isprintable()).strip(". ")[:LONGEST_STEM] or "upload"
    if suffix in PICKLES:
        raise BadOptions(ultralytics.how_to(f"{stem}{suffix}"))
    if suffix not in SUFFIXES:
        found = "".join(sign for sign in suffix if sign.isprintable())[:LONGEST_SUFFIX]
        raise BadOptions(
            f"The file's ending is '{found}'; expected one of {', '.join(SUFFIXES)}. A model of several files, such as "
            "OpenVINO's .xml and .bin or a folder of the Hugging Face Hub, is uploaded as a zip of them."
        )
    return stem, suffix


def _unpacked(archive: Path, target: Path) -> Path:
    """The folder or single file inside a zip.

    Raises:
        BadInput: it is no zip, is empty, holds too much, or has names that cannot be unpacked.
    """
    unreadable = BadInput("The upload is no zip that can be read. Pack the model's folder as a plain zip.")
    try:
        with _Portions(io.FileIO(archive)) as file, zipfile.ZipFile(file) as packed:
            entries = [entry for entry in packed.infolist() if not entry.is_dir()]
            _check(entries)
            packed.extractall(target, entries)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError) as error:
        raise unreadable from error
    except (NotImplementedError, RuntimeError, ValueError) as error:  # ways of packing that are not known; odd names
        raise unreadable from error
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # bz2's word for broken data; a place before the beginning
            raise unreadable from error
        raise
    inside = [child for child in target.iterdir() if not child.name.startswith(("__MACOSX", "."))]
    return inside[0] if len(inside) == 1 else target


class _Portions(io.BufferedReader):
    """A zip of which nothing is read in one piece that is longer than its list of files may be."""

    def read(self, size: int | None = -1, /) -> bytes:
        """What it has; raises BadInput for more."""
        portion = super().read(MOST_LISTED_BYTES + 1 if size is None or size < 0 else min(size, MOST_LISTED_BYTES + 1))
        if len(portion) > MOST_LISTED_BYTES:
            raise _too_much()
        return portion


def _check(entries: Sequence[zipfile.ZipInfo]) -> None:
    """Raises BadInput: the files of a zip are none, too many or too large, or cannot lie in one folder."""
    if not entries:
        raise BadInput("The zip is empty. Pack the model's file or folder into it.")
    if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_UNPACKED_BYTES:
        raise _too_much()
    names = [tuple(part for part in entry.filename.split("/") if part not in ("", ".")) for entry in entries]
    if any(entry.filename.startswith(("/", "\\")) for entry in entries) or any(".." in name for name in names):
        raise BadInput("The zip holds names that lead outside of it.")
    for name in names:
        if len("/".join(name).encode()) > LONGEST_PATH_BYTES or any(_long(part) for part in name):
            raise BadInput(
                f"The zip holds the name '{'/'.join(name)[:30]}…', which is too long: expected at most "
                f"{LONGEST_PART_BYTES} bytes for a file or folder. Give it a shorter one."
            )
    files = set(names)
    for name in names:
        folder = next((name[:depth] for depth in range(len(name)) if name[:depth] in files), None)
        if not name or folder is not None:
            raise BadInput(
                f"The zip holds '{'/'.join(folder or name)[:60]}' both as a file and as a folder. Pack the model's "
                "folder anew."
            )


def _too_much() -> BadInput:
    return BadInput("The zip holds more files or bytes than one model needs.")


def _long(part: str) -> bool:
    return len(part.encode()) > LONGEST_PART_BYTES

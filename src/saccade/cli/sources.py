"""From what the user typed (files, folders, globs, ``-``, a camera) to the things to look at."""

from __future__ import annotations

import errno
import glob
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from saccade.errors import BadInput, BadOptions

SUFFIXES = frozenset(
    ".avif .bmp .gif .heic .heif .ico .jfif .jp2 .jpe .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp "
    ".asf .avi .m4v .mkv .mov .mp4 .mpeg .mpg .ts .webm .wmv".split()
)
"""Names that a folder is searched for; a file that is named outright is read whatever its name."""
CAMERA = re.compile(r"[0-9]{1,2}|(?:rtsps?|rtmps?|rtp|srt|tcp|udp)://.+", re.IGNORECASE)
"""A camera of this machine, by its number, or one with an address."""
DEVICE = re.compile(r"/dev/video[0-9]+")
FETCHED = ("http://", "https://", "ftp://", "ftps://", "file://")
"""Addresses that curl can read."""
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True, slots=True)
class Source:
    """One image or video: ``name`` is what the user calls it, ``path`` None is standard input, ``problem`` says why
    there is nothing behind the name.

    Of a camera ``name`` holds nothing secret; ``camera`` is its number, its device or its whole address.
    """

    name: str
    path: Path | None
    problem: str = ""
    camera: int | str | None = field(default=None, repr=False)

    def read(self) -> bytes:
        """The encoded bytes.

        Raises:
            BadInput: it cannot be read; the message names it and says why.
        """
        if self.problem:
            raise BadInput(self.problem)
        if self.camera is not None:
            raise BadInput("a camera has no end up to which it could be read; name a picture or a video")
        if self.path is None:
            if sys.stdin is None:
                raise BadInput("cannot read standard input: it is closed")
            return sys.stdin.buffer.read()
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise BadInput(f"cannot read {self.name}: {error.strerror or 'unknown error'}") from error

    @property
    def may_wait(self) -> bool:
        """Whether it is no file that lies there: a terminal, a pipe or a device may give its bytes late or never."""
        return self.path is None or (self.path.exists() and not self.path.is_file())

    @property
    def stem(self) -> str:
        """A file name without its ending, for what is saved beside it."""
        if self.camera is not None:
            host = re.split(r"[/?]", self.name.partition("://")[2] or self.name.rpartition("/")[2])[0]
            return f"camera-{re.sub(r'[^A-Za-z0-9.-]+', '-', host).strip('-')}"
        return self.path.stem if self.path is not None else "stdin"


def expand(words: Sequence[str], album: Path | None = None) -> list[Source]:
    """Every source behind the words, in order, folders sorted by name; a folder that holds ``album``, where pictures
    are saved, is searched without it, and without what is hidden. A word behind which there is nothing is a source
    that cannot be read.

    Raises:
        BadInput: there is nothing behind any word, or one is empty.
        BadOptions: there is a camera and something else.
    """
    if "" in words:
        raise BadInput("One of the sources is an empty text. Name an image, a video, a folder or a pattern.")
    found: list[Source] = []
    problems: list[BadInput] = []
    for word in words:
        try:
            found += _behind(word, album)
            continue
        except OSError as error:  # a folder on the way may not be entered, or the name is too long
            problem = BadInput(f"{word}: cannot be looked up: {error.strerror or 'unknown error'}")
        except BadInput as error:
            problem = error
        problems.append(problem)
        found.append(Source(word, None, problem.message.removeprefix(f"{word}: ")))
    cameras = [source.name for source in found if source.camera is not None]
    if cameras and len(found) > 1:
        raise BadOptions(
            f"{cameras[0]} is a camera, which is looked at until it is stopped. Name it alone, and call saccade "
            "predict again for each other source."
        )
    if problems and len(problems) == len(found):
        raise problems[0]
    return found


def _behind(word: str, album: Path | None) -> Iterator[Source]:
    if word == "-":
        yield Source("-", None)
        return
    if not os.path.exists(word):
        if CAMERA.fullmatch(word):
            yield _camera(int(word) if word.isdecimal() else word)
            return
        if word.lower().startswith(FETCHED):
            raise BadInput(
                f"{word}: addresses are not fetched. Download it first: curl -L {shlex.quote(word)} | saccade predict -"
            )
        if ADDRESS.match(word):
            raise BadInput(f"{word}: addresses are not fetched. Download it first, and name the file.")
    spelt = os.path.expanduser(word)
    path = Path(spelt)
    if path.is_dir():
        found = sorted(child for child in _children(path, album) if child.suffix.lower() in SUFFIXES)
        if not found:
            raise BadInput(f"{word}: the folder holds no image or video. Name a file, or a folder with images.")
        yield from (Source(str(child), child) for child in found)
    elif path.is_char_device() and DEVICE.fullmatch(os.path.realpath(path)):
        yield _camera(str(path))
    elif path.exists():
        yield Source(word, path)
    elif not glob.has_magic(spelt):
        raise BadInput(f"cannot read {word}: {os.strerror(errno.ENOENT)}")
    else:
        matches = [match for match in sorted(glob.glob(spelt, recursive=True)) if os.path.isfile(match)]
        if not matches:
            raise BadInput(f"{word}: no file matches this pattern. Check the spelling, or quote the pattern.")
        yield from (Source(match, Path(match)) for match in matches)


def _camera(address: int | str) -> Source:
    from saccade.media.camera import shown

    return Source(shown(address), None, camera=address)


def _children(folder: Path, album: Path | None) -> Iterator[Path]:
    """The files below a folder, but hidden ones (macOS lays a ``._photo.jpg`` beside every photo on a stick), and those
    in an album that lies in it."""
    root = folder.resolve()
    saved = album.resolve() if album and root in album.resolve().parents else None
    for child in folder.rglob("*"):
        below = child.relative_to(folder)
        hidden = any(part.startswith(".") for part in below.parts)
        if not hidden and child.is_file() and not (saved and (root / below).is_relative_to(saved)):
            yield child

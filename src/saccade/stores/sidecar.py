"""Facts that a person or a catalogue writes beside a model: ``NAME.toml`` or ``NAME.json`` next to the file or folder.

They win over what the model says of itself.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import msgspec

from saccade.card import Task
from saccade.errors import CorruptFiles
from saccade.stores.labels import LISTS


class Sidecar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """All optional. ``labels`` is a list, a table from class id to name, or the name of a shared list ("coco-80").

    ``imgsz`` is (height, width) or one side.

    ``config`` holds facts for the family, such as how the picture is prepared. ``sha256`` maps file names to sums;
    they are written by ``saccade pull``.
    """

    task: Task | None = None
    family: str | None = None
    runtime: str | None = None
    labels: tuple[str, ...] | dict[str, str] | str | None = None
    imgsz: tuple[int, int] | int | None = None
    dynamic: bool | None = None
    stride: int | None = None
    keypoint_shape: tuple[int, int] | None = None
    licence: str | None = None
    source: str | None = None
    revision: str | None = None
    aliases: tuple[str, ...] = ()
    config: dict[str, Any] = {}
    sha256: dict[str, str] = {}


EMPTY = Sidecar()


def read(path: Path | None) -> Sidecar:
    """The facts of one file; no file, no facts.

    Raises:
        CorruptFiles: a key or a value is not one of :class:`Sidecar`'s, or the file is none.
    """
    if path is None:
        return EMPTY
    if path.exists() and not path.is_file():  # a pipe would be waited for, and a device read without end
        raise CorruptFiles(f"'{path.name}' is no file. Write the model's facts into a file of that name, or remove it.")
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        if path.suffix == ".toml":
            return msgspec.toml.decode(data, type=Sidecar)
        return msgspec.json.decode(data, type=Sidecar)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        known = ", ".join(Sidecar.__struct_fields__)
        raise CorruptFiles(f"'{path.name}' cannot be used: {error}. It may hold: {known}.") from error


def labels(sidecar: Sidecar) -> dict[int, str] | None:
    """Class id → name, or None if the sidecar names none.

    Raises:
        CorruptFiles: a key is not a whole number, or no shared list has that name.
    """
    if sidecar.labels is None:
        return None
    if isinstance(sidecar.labels, str):
        if sidecar.labels not in LISTS:
            raise CorruptFiles(f"There is no list of labels '{sidecar.labels}'. Known are {', '.join(LISTS)}.")
        return dict(enumerate(LISTS[sidecar.labels]))
    if isinstance(sidecar.labels, tuple):
        return dict(enumerate(sidecar.labels))
    try:
        return {int(number): name for number, name in sidecar.labels.items()}
    except ValueError as error:
        raise CorruptFiles("The keys of a 'labels' table are class ids, whole numbers from 0.") from error


def input_hw(sidecar: Sidecar) -> tuple[int, int] | None:
    return (sidecar.imgsz, sidecar.imgsz) if isinstance(sidecar.imgsz, int) else sidecar.imgsz

"""The models that are known by name: ``catalog.toml``, as data."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any

import msgspec

from saccade.card import Task
from saccade.stores.sidecar import Sidecar


class Piece(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file inside one archive of a package registry.

    ``suffix`` is what the file is called here, behind the model's name; ``path`` is its name in the archive, exactly.
    """

    suffix: str
    project: str
    archive: str
    path: str
    sha256: str
    size: int
    registry: str = "python"


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that can be fetched, or that is only known (no ``pieces``).

    ``labels`` is a list or the name of a shared one; ``labels_from`` is a text file with one ``number name`` a line.
    ``verified`` says what was measured with these very files.
    """

    name: str
    title: str
    task: Task
    family: str
    licence: str
    aliases: tuple[str, ...] = ()
    labels: tuple[str, ...] | str | None = None
    labels_from: Piece | None = None
    imgsz: tuple[int, int] | None = None
    dynamic: bool | None = None
    keypoint_shape: tuple[int, int] | None = None
    config: dict[str, Any] = {}
    pieces: tuple[Piece, ...] = ()
    verified: str = ""

    @property
    def source(self) -> str:
        """Where it comes from, in words."""
        return ", ".join(dict.fromkeys(f"{piece.archive} of {piece.project}" for piece in self.pieces))

    @property
    def size_bytes(self) -> int:
        return sum(piece.size for piece in self.pieces)

    def sidecar(self, labels: tuple[str, ...] | None) -> Sidecar:
        """The facts that are written beside the fetched files."""
        return Sidecar(
            task=self.task,
            family=self.family,
            labels=labels or self.labels,
            imgsz=self.imgsz,
            dynamic=self.dynamic,
            keypoint_shape=self.keypoint_shape,
            licence=self.licence,
            source=self.source,
            aliases=self.aliases,
            config=self.config,
            sha256={self.name + piece.suffix: piece.sha256 for piece in self.pieces},
        )


class Catalogue(msgspec.Struct, frozen=True):
    """Offers by name; ``model`` is the name of the table in the file."""

    model: tuple[Offer, ...] = ()

    def find(self, ref: str) -> Offer | None:
        """By name or alias, in any case of letters, with or without the suffix of a checkpoint or an export."""
        wanted = ref.strip().lower()
        plain = wanted.removesuffix(".pt").removesuffix(".onnx")
        for offer in self.model:
            if {wanted, plain} & {offer.name.lower(), *(alias.lower() for alias in offer.aliases)}:
                return offer
        return None


@functools.cache
def built_in() -> Catalogue:
    """The catalogue that comes with saccade."""
    written = files("saccade.stores").joinpath("catalog.toml").read_bytes()
    return msgspec.toml.decode(written, type=Catalogue)

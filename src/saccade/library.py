"""All models by name: those in the user's folders, those added or fetched, and those that could be fetched."""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from saccade.card import Card
from saccade.convert import Converter
from saccade.drafts import draft
from saccade.errors import BadOptions, ModelError, UnknownModel
from saccade.stores.catalogue import Catalogue, Offer
from saccade.stores.hub import Hub, ref_of
from saccade.stores.local import EXPORTS, PARTNERS, Local, entry_files
from saccade.stores.packages import Packages
from saccade.stores.store import Progress, Store, alone, silent

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,2}")
LONGEST = 200
"""Characters in a name; a file system takes 255 in a file's, which has an ending and, in the making, a prefix, too."""

WEIGHTS = (".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".pt", ".pth", ".safetensors")


class Library:
    """Finds, fetches, adds and removes models. Thread-safe."""

    def __init__(
        self,
        home: Path,
        folders: Sequence[Path] = (),
        sources: Sequence[Store] | None = None,
        converter: Converter | None = None,
    ) -> None:
        """``home`` keeps what is added and fetched; ``folders`` are the user's own and win over it; ``sources`` are
        asked in turn by :meth:`pull`; None stands for the catalogue and the Hub with their defaults."""
        self.converter = Converter(home) if converter is None else converter
        self.home = home / "models"
        self.folders = Local(folders)
        self.own = Local([self.home])
        self.sources = (Packages(self.home), Hub(self.home)) if sources is None else tuple(sources)

    def card(self, ref: str, *, fetch: bool = False) -> Card:
        """The Card of a model on this machine; with ``fetch``, a model of the catalogue is fetched first.

        A checkpoint's is that of its graph once there is one; :meth:`ready` makes it.

        Raises:
            UnknownModel: nothing has this name; the message tells the ways to add it.
            CorruptFiles, UnsupportedModel: it is here, but cannot be served.
        """
        found = self.here(ref)
        if found is not None:
            return found
        ref = self._meant(ref)
        source = self.source(ref)
        if fetch and source is not None and source.on_use:
            return source.pull(ref)
        raise self.unknown(ref)

    def here(self, ref: str) -> Card | None:
        """The Card of a model on this machine, or None. Touches no network."""
        ref = self._meant(ref)
        for store in (self.folders, self.own, *self.sources):
            found = store.find(ref)
            if found is not None:
                return self.converter.find(found) or found
        return None

    def ready(self, card: Card, progress: Progress = silent) -> Card:
        """The Card whose files can be opened at once; a checkpoint is converted for it, which may take minutes.

        Raises:
            MissingExtra: that needs torch and transformers, which are not installed.
            CorruptFiles, RunFailed: it cannot be converted.
        """
        return self.converter.convert(card, progress)

    def cards(self) -> list[Card]:
        """Everything that can be served now, by name."""
        found: dict[str, Card] = {}
        for store in (self.folders, self.own):
            for card in store.cards():
                found.setdefault(card.name, self.converter.find(card) or card)
        return sorted(found.values(), key=lambda card: card.name)

    def problems(self) -> dict[str, ModelError]:
        """Name → why a model that lies here cannot be served, or goes on as it was before its files changed."""
        taken = self.folders.finder()
        hidden = {name: problem for name, problem in self.own.problems().items() if taken(name) is None}
        return {**hidden, **self.folders.problems()}

    def offers(self) -> list[Offer]:
        """What can be fetched by name, whether it is here already or not."""
        return [offer for source in self.sources for offer in source.offered()]

    def pull(self, ref: str, progress: Progress = silent) -> Card:
        """Fetches a model, verified, makes it :meth:`ready` and returns its Card.

        Raises:
            UnknownModel: no source has it.
            CorruptFiles: what arrived is not what the checksum says; or what lies here under this name is damaged.
        """
        ref = self._meant(ref)
        source = self.source(ref)
        if source is None:
            self.here(ref)  # says what is wrong with it
            raise self.unknown(ref)
        return self.ready(source.pull(ref, progress), progress)

    def _meant(self, ref: str) -> str:
        """What lies here under this very name goes before what an address of the Hub's pages means."""
        page = ref_of(ref)
        here = page == ref or self.folders.entry(ref) is not None or self.own.entry(ref) is not None
        return ref if here else page

    def source(self, ref: str) -> Store | None:
        """Where this model could be fetched from."""
        ref = self._meant(ref)
        return next((source for source in self.sources if source.offers(ref)), None)

    def add(self, name: str, path: Path) -> Card:
        """Copies a model file or folder into the library under a name.

        Raises:
            BadOptions: the name cannot be used or is taken, or nothing lies at ``path``.
            CorruptFiles, UnsupportedModel: it is no model that can be served.
        """
        self.check_free(name)
        if not path.exists():
            raise BadOptions(f"There is nothing at '{path}'.")
        source = Local([path])
        entries = source.entries()
        if not entries:
            raise BadOptions(
                f"'{path.name}' is no model that saccade reads: .onnx, .xml with its .bin, .pdmodel with its "
                f".pdiparams, .tflite, .pt, or a folder as on the Hugging Face Hub. {instead(path)}"
            )
        if len(entries) > 1:
            names = ", ".join(entry.path.name for entry in entries[:5]) + (", …" if len(entries) > 5 else "")
            raise BadOptions(f"'{path.name}' holds {len(entries)} models ({names}). Add one of them.")
        card = source.card(entries[0])
        with alone(self.home.with_name("making") / name.replace("/", "--")):
            self.check_free(name)  # who was quicker has it
            with draft(self.home, ".adding-") as room:
                copied(entries[0].path, entries[0].sidecar, card, self.home / name, room)
        return self.card(name)

    def check_free(self, name: str) -> None:
        """Raises BadOptions: the name cannot be used or is taken. Worth asking before long work for a model."""
        if not NAME.fullmatch(name):
            raise BadOptions(
                f"'{name}' cannot be a model's name. Use letters, digits, '.', '_' and '-', first a letter or digit; "
                "with '/' between, up to three such words."
            )
        if len(name) > LONGEST:
            raise BadOptions(f"The name has {len(name)} characters; a model's name may have {LONGEST}.")
        if self.folders.entry(name) is not None:
            raise BadOptions(
                f"The name '{name}' is taken by a file of a models folder (--models), which would be served instead. "
                "Choose another name, or take that file out of its folder."
            )
        if self.own.entry(name) is not None:
            raise BadOptions(f"There is a model '{name}' already. Remove it first with: saccade remove {name}")

    def removable(self, names: Iterable[str]) -> frozenset[str]:
        """Those of the models that :meth:`remove` would take away: they are saccade's own, no files of the user's."""
        taken, own = self.folders.finder(), self.own.finder()
        return frozenset(name for name in names if taken(name) is None and own(name) is not None)

    def remove(self, ref: str) -> None:
        """Deletes an added or fetched model from this machine.

        Raises:
            UnknownModel: it is not here.
            BadOptions: it lies in a folder of the user's.
        """
        ref = self._meant(ref)
        entry = self.own.entry(ref)
        if entry is None:
            if self.folders.entry(ref) is not None:
                raise BadOptions(f"'{ref}' lies in a folder of yours; delete it there, saccade only removes its own.")
            raise UnknownModel(f"There is no model '{ref}' to remove. 'saccade models' lists those that are here.")
        if not entry.kind:
            self.forget(ref)
            shutil.rmtree(entry.path)
        elif any(entry.path.parent.name.endswith(end) for end in EXPORTS):
            shutil.rmtree(entry.path.parent)
        else:
            for file in entry_files(entry):
                file.unlink(missing_ok=True)
        if entry.sidecar is not None:
            entry.sidecar.unlink(missing_ok=True)

    def takes(self, ref: str, other: str) -> bool:
        """Whether :meth:`remove` of ``ref`` takes away the model that is called ``other``."""
        entry = self.own.entry(self._meant(ref))
        return entry is not None and self.own.entry(other) == entry and self.folders.entry(other) is None

    def forget(self, ref: str) -> None:
        """Deletes the graph that was made of a checkpoint."""
        try:
            card = self.own.find(ref)
        except ModelError:
            return
        if card is not None:
            self.converter.forget(card)

    def unknown(self, ref: str) -> UnknownModel:
        """An UnknownModel that tells what to do."""
        source = self.source(ref)
        if source is not None:
            where = "is not on this machine yet" if source.on_use else "is not on this machine"
            whence = "" if source.on_use else ", if the Hugging Face Hub has it,"
            missing = UnknownModel(f"The model '{ref}' {where}. Fetch it{whence} with: saccade pull {ref}")
            if source.on_use:
                offer = Catalogue(tuple(source.offered())).find(ref)
                missing.offered = offer.name if offer is not None else ref
            return missing
        if ":/" in ref:
            return UnknownModel(
                f"'{ref}' is an address, from which saccade fetches nothing. Download the file, and add it with "
                "'saccade add NAME FILE'; models of the Hugging Face Hub are called owner/name."
            )
        names = {card.name for card in self.cards()} | {offer.name for offer in self.offers()}
        if ref in names:
            return UnknownModel(
                f"The model '{ref}' is here, and was not fetched from anywhere: there is nothing to pull."
            )
        close = difflib.get_close_matches(ref, sorted(names), n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        return UnknownModel(
            f"There is no model '{ref}'.{hint} Add one with 'saccade add NAME FILE', put its file into a folder that "
            "is served with --models, or see 'saccade models' for those that can be fetched."
        )


def copied(path: Path, notes: Path | None, card: Card, target: Path, room: Path) -> None:
    """Copies a model's files under a new name; the graph comes last, so that nobody finds half a model. ``room`` is a
    folder for what is not whole yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    files = [Path(file) for file in card.files]
    # An ONNX graph names the files that hold its weights, so that they cannot be called otherwise.
    alike = path.is_dir() or (
        all(file.stem == path.stem for file in files) and (len(files) == 1 or path.suffix.lower() in PARTNERS)
    )
    folder = target.parent if alike else target.with_name(target.name + EXPORTS[-1])
    folder.mkdir(exist_ok=True)
    if notes is not None:
        placed(notes, folder / ((target.name if alike else path.stem) + notes.suffix), room)
    if path.is_dir():
        placed(path, target, room, files)
        return
    for file in reversed(files):
        placed(file, folder / (target.name + file.suffix if alike else file.name), room)


def placed(source: Path, target: Path, room: Path, files: Sequence[Path] = ()) -> None:
    """A copy that appears under its name when it is whole; of a folder, with these ``files`` of the model."""
    copy = room / target.name
    if source.is_dir():
        shutil.copytree(source, copy, ignore=unneeded(files))
        for folder in (copy, *filter(Path.is_dir, copy.rglob("*"))):  # of a read-only one nothing can be removed
            folder.chmod(folder.stat().st_mode | 0o700)
    else:
        shutil.copyfile(source, copy)
    copy.rename(target)


def instead(path: Path) -> str:
    """What to do with a file that is no model."""
    if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
        return "Unpack it, and add what is in it."
    if path.suffix.lower() == ".safetensors":
        return "Add the folder in which it lies, with its config.json."
    return "Export it to ONNX where it was made."


def unneeded(files: Sequence[Path]) -> Callable[[str, list[str]], list[str]]:
    """What a copy of a model's folder goes without: weights that are not the model's, and folders without any of its
    files, such as the checkpoints of a training and what git keeps."""
    kept = {path for file in files for path in (file, *file.parents)}

    def left_out(folder: str, names: list[str]) -> list[str]:
        others = [path for name in names if (path := Path(folder, name)) not in kept]
        return [path.name for path in others if path.is_dir() or path.suffix in WEIGHTS]

    return left_out

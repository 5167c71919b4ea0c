"""Checkpoints made into fast graphs: once, in another process, checked before use, and kept.

A checkpoint is a Card of the runtime "torch". :class:`Converter` turns it into a Card of the runtime "openvino" with
the same family; a checkpoint that does not convert stays what it is, and torch runs it.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast
from urllib.parse import quote

import msgspec

import saccade
from saccade import errors, families
from saccade.card import Card, Json
from saccade.convert.job import CERTAIN, Job, Line, Outcome, Report, files_of, texted
from saccade.drafts import draft
from saccade.errors import MissingExtra, RunFailed, SetupError, UnsupportedModel
from saccade.stores.store import Progress, alone, silent

VERSION = 2
"""Of the way of converting: another one, and graphs are made anew."""
REPORT = "report.json"
CHECKPOINT = "torch"
OWN_PROCESSOR = "transformers"
"""The family that leaves pictures and answers to the checkpoint's own processor."""
START = (
    "import sys, importlib.util as u; "
    "s = u.spec_from_file_location('saccade', sys.argv[1] + '/__init__.py', submodule_search_locations=[sys.argv[1]]); "
    "m = u.module_from_spec(s); sys.modules['saccade'] = m; s.loader.exec_module(m); "
    "from saccade.kin import die_with; die_with(int(sys.argv[2])); "
    "from saccade.convert.transformers import main; main()"
)
"""Runs this saccade in an interpreter that may have none or another one installed; it ends with a parent."""


FAULTS = (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)
CRASHES = {int(fault): fault.name for fault in FAULTS}
"""Signals that a library's own fault brings about."""

log = logging.getLogger("saccade.convert")


class Crashed(RunFailed):
    """A way of converting took its process with it."""

    def __init__(self, message: str, way: str) -> None:
        super().__init__(message)
        self.way = way


class Converter:
    """Knows where graphs are kept and which Python converts. Thread-safe and safe between processes: a graph appears
    under its name when it is whole, and of two that are made at once, one is kept."""

    def __init__(
        self,
        home: Path,
        python: str | None = None,
        images: Sequence[str] = (),
        threads: int = 0,
        certain: float = CERTAIN,
    ) -> None:
        """``python`` is an interpreter with torch and transformers, by default this one; ``images`` are pictures on
        which graphs are compared with their checkpoints; ``threads`` 0 takes all cores; ``certain`` is the share of
        answers that must agree for the fast precision to be used by itself."""
        self.home = home / "graphs"
        self.python = python or sys.executable
        self.images = tuple(images)
        self.threads = threads
        self.certain = certain

    def find(self, card: Card) -> Card | None:
        """The graph of a checkpoint if it was made before; what is no checkpoint is returned as it is."""
        if card.runtime != CHECKPOINT or card.family == OWN_PROCESSOR:
            return card
        folder = self.folder(card)
        outcome = reported(folder)
        if outcome is None:
            return None
        if outcome.report is None and outcome.version != saccade.__version__:
            return None
        if outcome.report is None:
            return marked(readable(card, outcome), {"unconverted": outcome.message})
        files = files_of(folder, outcome.report.texts)
        return graph_card(card, outcome.report, folder) if all(file.is_file() for file in files) else None

    def convert(self, card: Card, progress: Progress = silent) -> Card:
        """The Card of the graph, made now if need be; who wants it while another thread or process makes it waits for
        that one. A checkpoint that does not convert is returned with the reason under "unconverted" in its config;
        torch runs it.

        Raises:
            MissingExtra: this interpreter has no torch or transformers.
            SetupError: another one has none, or cannot be started.
            CorruptFiles: the checkpoint cannot be opened.
            RunFailed: the converting process died.
        """
        found = self.find(card)
        if found is not None:
            return found
        folder = self.folder(card)
        with alone(self.home.with_name("making") / folder.name):
            return self.find(card) or self._made(card, folder, progress)

    def _made(self, card: Card, folder: Path, progress: Progress) -> Card:
        log.info("a graph is to be made of the checkpoint '%s', which may take minutes", card.name)
        self.forget(card)
        with draft(self.home, ".making-") as made_in:
            job = Job(card=card, folder=str(made_in), images=self.images, threads=self.threads, certain=self.certain)
            outcome = self.attempt(job, progress)
            if outcome.error is not None and outcome.error != UnsupportedModel.__name__:
                raise self._lacking(card, outcome.extra) if self._is_lacking(outcome.error) else error_of(outcome, card)
            outcome = msgspec.structs.replace(outcome, origin=card.files[0])
            (made_in / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=2))
            made_in.rename(folder)
        for old in self.outdated(card):
            shutil.rmtree(old, ignore_errors=True)
        made = self.find(card)
        if made is None:
            raise RunFailed(f"The graph of '{card.name}' was made but cannot be found. Is the disk full?")
        return made

    def forget(self, card: Card) -> None:
        """Deletes the graph of a checkpoint."""
        shutil.rmtree(self.folder(card), ignore_errors=True)

    def outdated(self, card: Card) -> list[Path]:
        """The graphs of what the files of this model were before; another of its name, which lies elsewhere, keeps its
        own."""
        written = re.compile(re.escape(card.name.replace("/", "--")) + r"-[0-9a-f]{12}-\d+")
        others = [path for path in self.home.iterdir() if written.fullmatch(path.name) and path != self.folder(card)]
        return [path for path in others if (old := reported(path)) is not None and old.origin == card.files[0]]

    def folder(self, card: Card) -> Path:
        """Where the graph of a checkpoint lies; a revision may be what somebody wrote beside it, and is no path."""
        revision = quote(card.revision, safe="") or "local"
        return self.home / f"{card.name.replace('/', '--')}-{revision}-{VERSION}"

    def attempt(self, job: Job, progress: Progress) -> Outcome:
        """One converting process, and another one without the way of converting in which the first one crashed."""
        while job.ways:
            try:
                return self.run(job, progress)
            except Crashed as crash:
                left = tuple(way for way in job.ways if way != crash.way)
                job = msgspec.structs.replace(job, ways=left, tried=(*job.tried, f"{crash.way}: {crash.message}"))
        message = f"'{job.card.name}' could not be converted into a graph ({'; '.join(job.tried)})."
        return Outcome(error=UnsupportedModel.__name__, message=message)

    def run(self, job: Job, progress: Progress) -> Outcome:
        """One converting process from start to end."""
        package = str(Path(saccade.__file__).parent)
        outcome: Outcome | None = None
        way = ""
        with tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(
                    [self.python, "-c", START, package, str(os.getpid())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=said,
                )
            except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
                raise SetupError(f"The Python of 'converter_python' cannot be started: {error.strerror}.") from error
            given, told = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
            try:
                with given:
                    given.write(msgspec.json.encode(job))
                for written in told:
                    line = msgspec.json.decode(written, type=Line)
                    way = line.way
                    if line.outcome is not None:
                        outcome = line.outcome
                    else:
                        progress(line.what, line.done, line.total)
                code = process.wait()
            except (BrokenPipeError, msgspec.MsgspecError):
                process.kill()
                process.wait()
                code = 0
            except BaseException:
                process.kill()
                process.wait()
                raise
            if outcome is None and way and -code in CRASHES:
                raise Crashed(f"the process crashed ({CRASHES[-code]})", way)
            if outcome is None:
                said.seek(0)
                words = failed(job.card, code, said.read().decode(errors="replace"))
                raise self._lacking(job.card) if self._is_lacking(words) else RunFailed(words)
        return outcome

    def _is_lacking(self, words: str) -> bool:
        """Whether another interpreter than this one has ended over a library that it has not."""
        return self.python != sys.executable and (
            words == MissingExtra.__name__ or ModuleNotFoundError.__name__ in words
        )

    def _lacking(self, card: Card, extra: str | None = None) -> SetupError:
        return SetupError(
            f"The Python of 'converter_python' has not all that converting '{card.name}' needs. Install it there, in a "
            f"checkout of saccade: pip install '.[{extra or 'transformers'}]'"
        )


def reported(folder: Path) -> Outcome | None:
    """What came of a checkpoint whose graph would lie in this folder, if that is known."""
    try:
        return msgspec.json.decode((folder / REPORT).read_bytes(), type=Outcome)
    except (OSError, msgspec.MsgspecError):
        return None


def failed(card: Card, code: int, said: str) -> str:
    """Why there is no outcome; the process's last line often tells."""
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    if code == -9:
        last = "it was killed, perhaps because memory ran out"
    return f"The process that converts '{card.name}' ended early: {last[:300]}"


def error_of(outcome: Outcome, card: Card) -> errors.Error:
    """The error that the process met, as one of ours."""
    if outcome.error == MissingExtra.__name__:
        return MissingExtra(f"Converting '{card.name}'", extra=outcome.extra or "transformers")
    kind = getattr(errors, str(outcome.error), RunFailed)
    made: errors.Error = kind(outcome.message)
    return made


def graph_card(card: Card, report: Report, folder: Path) -> Card:
    """The checkpoint's Card with the graph's facts."""
    files = files_of(folder, report.texts)
    found = msgspec.structs.replace(
        card,
        runtime="openvino",
        files=tuple(map(str, files)),
        dynamic=report.dynamic,
        input_hw=report.input_hw,
        size_bytes=sum(file.stat().st_size for file in files),
        labels=report.labels or card.labels,
    )
    if report.texts is not None:
        found = texted(found, report.texts, folder)
    certificate: Json = msgspec.to_builtins(report)
    return marked(found, {"precision": report.precision, "certificate": certificate})


def readable(card: Card, outcome: Outcome) -> Card:
    """The card with the family that can read it: its own, unless that does not know how the pictures are prepared."""
    if card.task == "zero-shot-classify":
        return card  # without graphs nobody can; its family tells
    if outcome.unfed:
        return msgspec.structs.replace(card, family=OWN_PROCESSOR)
    try:
        families.find(card.family)(card)
    except UnsupportedModel:
        return msgspec.structs.replace(card, family=OWN_PROCESSOR)
    return card


def marked(card: Card, facts: dict[str, Json]) -> Card:
    return msgspec.structs.replace(card, config={**card.config, **facts})

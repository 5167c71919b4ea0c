"""PyTorch checkpoints of Ultralytics models, exported to ONNX by Ultralytics' own program in its own environment.

A checkpoint is a pickle: whoever opens it runs whatever it holds. saccade therefore never opens one. It runs the
command ``yolo export`` (AGPL-3.0) as a separate program, in an environment that the user installed on purpose, with
none of saccade's own environment variables, and takes from it nothing but the exported graph.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from saccade.errors import BadSettings, UnsupportedModel
from saccade.stores.store import Progress, alone, silent

REQUIREMENTS: Final = ("ultralytics>=8.4", "onnx>=1.17")
TORCH: Final = ("torch", "torchvision")
CPU_INDEX: Final = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own builds for processors. The usual ones bring CUDA along: 5 GB that an export has no use for."""

OWN_INDEX: Final = ("index-url", "extra-index-url", "find-links", "no-index")
"""Where pip is told any of these, nobody but those places is asked."""

CHECK: Final = (
    "import onnx, torch, torchvision; from ultralytics import YOLO; "
    "torchvision.ops.nms(torch.zeros(1, 4), torch.ones(1), 0.5)"
)
"""What an export begins with; it fails where two of the packages do not fit together."""

NO_DISPLAY: Final = ("libGL", "libgthread", "libEGL", "libxcb")
"""Libraries of the desktop. OpenCV's usual build wants them, and machines without a screen often have none."""

CHECKED: Final = "saccade-checked"
"""A file in the environment, written last: without it the environment is not whole."""

EXPORT_LIMIT_S: Final = 1800
INSTALL_LIMIT_S: Final = 3600
BEAT_S: Final = 1.0
FAREWELL_S: Final = 5.0


class Exporter:
    """Turns checkpoints into graphs; ``interpreter`` is the Python of an environment that has ultralytics, or None
    for the one that :meth:`install` makes under ``home``."""

    def __init__(self, home: Path, interpreter: Path | None = None, cpu_index: str = CPU_INDEX) -> None:
        self._own = home / "ultralytics"
        self._interpreter = interpreter
        self._cpu_index = cpu_index

    def program(self) -> Path | None:
        """The ``yolo`` command of the environment, or None when there is none that works."""
        if self._interpreter is None and not ((self._own / CHECKED).is_file() and self._python.exists()):
            return None
        command = self._python.parent / "yolo"
        return command if os.access(command, os.X_OK) else None

    @property
    def _python(self) -> Path:
        return self._interpreter.absolute() if self._interpreter else self._own / "bin" / "python"

    def install(self, progress: Progress = silent) -> None:
        """Makes the environment: Ultralytics' package and PyTorch, from the package index that pip is configured with.

        One that is there and whole is kept. An attempt that fails or is broken off leaves nothing.

        Raises:
            BadSettings: it cannot be installed here.
        """
        with alone(self._own.parent):
            if self.program() is not None:
                return
            try:
                self._make(progress)
            except BaseException:
                shutil.rmtree(self._own, ignore_errors=True)
                raise

    def _make(self, progress: Progress) -> None:
        with _step(progress, "making an environment for ultralytics (AGPL-3.0)"):
            made = _run([sys.executable, "-m", "venv", "--clear", str(self._own)], self._own, INSTALL_LIMIT_S)
        if made.code != 0:
            raise BadSettings(f"An environment for ultralytics cannot be made here: {made.last_line}.")
        self._fill(progress)
        with _step(progress, "trying whether ultralytics starts"):
            checked = self._checked()
            if checked.code != 0 and any(name in checked.words for name in NO_DISPLAY):
                self._pip("uninstall", "--yes", "opencv-python")
                self._pip("install", "opencv-python-headless")
                checked = self._checked()
        if checked.code != 0:
            raise BadSettings(
                f"Ultralytics was installed, but does not start: {checked.last_line}. Nothing of it was kept. The "
                "index's packages do not fit together on this machine, or a library of the system is missing. "
                f"{OR_YOURS}"
            )
        (self._own / CHECKED).write_text("made by saccade\n")

    def _fill(self, progress: Progress) -> None:
        def beat() -> None:
            progress("installing ultralytics and PyTorch", _bytes_under(self._own), None)

        if sys.platform == "linux" and not self._has_own_index():
            # Where this index cannot be reached, the usual build of the next step does as well.
            self._pip("install", "--index-url", self._cpu_index, "--retries", "1", "--timeout", "15", *TORCH, beat=beat)
        installed = self._pip("install", *REQUIREMENTS, beat=beat)
        if installed.code != 0:
            raise BadSettings(
                f"Ultralytics could not be installed: {installed.last_line}. Nothing of it was kept. See that pip's "
                "package index can be reached (PIP_INDEX_URL, a proxy) and that there are 10 GB of room, then run the "
                f"same command again. {OR_YOURS}"
            )
        size = _bytes_under(self._own)
        progress("installing ultralytics and PyTorch", size, size)

    def _has_own_index(self) -> bool:
        told = self._pip("config", "list").words
        return any(line.partition("=")[0].endswith(OWN_INDEX) for line in told.splitlines())

    def _pip(self, *words: str, beat: Callable[[], None] = lambda: None) -> Ended:
        order, *rest = words
        quiet = ("--no-input", "--disable-pip-version-check", "--progress-bar=off") if order == "install" else ()
        return _run([str(self._python), "-m", "pip", order, *quiet, *rest], self._own, INSTALL_LIMIT_S, beat=beat)

    def _checked(self) -> Ended:
        """Whether the program would start, tried as it is started for an export."""
        with tempfile.TemporaryDirectory(prefix="saccade-check-") as folder:
            return _run([str(self._python), "-c", CHECK], Path(folder), EXPORT_LIMIT_S, _bare(Path(folder)))

    def export(self, checkpoint: Path, target: Path, progress: Progress = silent) -> None:
        """Writes the graph of a checkpoint to ``target``, for inputs of any size.

        Raises:
            BadSettings: the environment that was named has no such program.
            UnsupportedModel: there is no environment that could do it, or its program could not.
        """
        command = self.program()
        if command is None and self._interpreter is not None:
            raise BadSettings(
                f"There is no program 'yolo' beside '{self._interpreter}'. Install ultralytics and onnx there "
                f"({self._interpreter} -m pip install ultralytics onnx), or name another Python with --ultralytics."
            )
        if command is None:
            raise UnsupportedModel(how_to(str(checkpoint), target.stem))
        with (
            _step(progress, f"exporting {checkpoint.name} with ultralytics"),
            tempfile.TemporaryDirectory(prefix="saccade-export-") as folder,
        ):
            work = Path(folder)
            # A neutral name, because a name such as "yolo11n.pt" would let the program fetch its own file of that name.
            shutil.copyfile(checkpoint, work / "checkpoint.pt")
            export = [str(command), "export", "model=checkpoint.pt", "format=onnx", "dynamic=True"]
            done = _run(export, work, EXPORT_LIMIT_S, _bare(work))
            graph = work / "checkpoint.onnx"
            if done.code != 0 or not graph.is_file():
                raise UnsupportedModel(f"Ultralytics could not export '{checkpoint.name}': {done.last_line}")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(graph, target)


OR_YOURS: Final = (
    "Or install ultralytics and onnx in an environment of your own and name it: --ultralytics /path/to/its/python"
)


def how_to(path: str, name: str = "") -> str:
    """What to do with the checkpoint at ``path``, to be served as ``name``, when nothing is installed that could read
    it."""
    file = Path(path)
    name = name or file.stem
    told = (
        f"'{file.name}' is a PyTorch checkpoint: a pickle, which can run any code when it is opened, so saccade never "
        "opens it. "
    )
    if file.suffix.lower() == ".pth":  # Ultralytics' program opens none of these, either
        return f"{told}Export it to ONNX with the program that made it, and add {file.stem}.onnx."
    return (
        f"{told}Let it run Ultralytics' own program (AGPL-3.0, with PyTorch) as a separate process, in an "
        f"environment of its own that this installs once: saccade add {shlex.quote(name)} {shlex.quote(path)} "
        f"--install-ultralytics; or export it where you have Ultralytics (yolo export model={shlex.quote(file.name)} "
        f"format=onnx dynamic=True) and add {file.stem}.onnx."
    )


@contextmanager
def _step(progress: Progress, what: str) -> Iterator[None]:
    """Something of which only the beginning and the end can be told."""
    progress(what, 0, None)
    yield
    progress(what, 1, 1)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, and all that it said."""

    code: int
    words: str

    @property
    def last_line(self) -> str:
        """Its last words, without folders of this machine."""
        lines = [line.strip() for line in self.words.splitlines() if line.strip()]
        words = (lines[-1] if lines else "it said nothing").split()
        return " ".join(word for word in words if "/" not in word)[:300].rstrip(".")


def _bare(folder: Path) -> dict[str, str]:
    """The environment of a program that runs what it is given: none of our settings, a home of its own, and no reason
    to fetch or to report anything."""
    own = {"HOME": str(folder), "YOLO_CONFIG_DIR": str(folder), "YOLO_AUTOINSTALL": "False", "YOLO_OFFLINE": "True"}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "ORT_DISABLE_TELEMETRY": "1", **own}


def _run(
    command: Sequence[str],
    folder: Path,
    limit_s: int,
    variables: Mapping[str, str] | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Ended:
    """Runs a program in ``folder``, with a beat now and then; one that takes too long is ended and counts as failed.

    Whatever ends the waiting, a Ctrl-C too, ends the program.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + limit_s
    with tempfile.TemporaryFile() as said:
        try:
            child = subprocess.Popen(
                command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
            )
        except OSError as error:
            return Ended(1, error.strerror or "it cannot be started")
        try:
            while time.monotonic() < end:
                try:
                    code = child.wait(BEAT_S)
                except subprocess.TimeoutExpired:
                    beat()
                    continue
                said.seek(0)
                return Ended(code, said.read().decode(errors="replace"))
            return Ended(1, f"it took longer than {limit_s} s")
        finally:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(FAREWELL_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _bytes_under(folder: Path) -> int:
    """What a folder holds; files may come and go meanwhile."""
    total, left = 0, [str(folder)]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total

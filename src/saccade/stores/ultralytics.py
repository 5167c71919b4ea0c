"""PyTorch checkpoints of Ultralytics models, exported to ONNX by Ultralytics' own program in its own environment.

A checkpoint is a pickle: whoever opens it runs whatever it holds. saccade therefore never opens one. It runs the
command ``yolo export`` (AGPL-3.0) as a separate program, in an environment that the user installed on purpose, with
none of saccade's own environment variables, and takes from it nothing but the exported graph.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from saccade.errors import BadSettings, UnsupportedModel
from saccade.stores.store import Progress, silent

REQUIREMENTS = ("ultralytics>=8.4", "onnx>=1.17")
SUFFIX = ".pt"
EXPORT_LIMIT_S = 1800
INSTALL_LIMIT_S = 3600


class Exporter:
    """Turns checkpoints into graphs; ``interpreter`` is the Python of an environment that has ultralytics, or None
    for the one that :meth:`install` makes under ``home``."""

    def __init__(self, home: Path, interpreter: Path | None = None) -> None:
        self._own = home / "ultralytics"
        self._interpreter = interpreter

    def program(self) -> Path | None:
        """The ``yolo`` command of the environment, or None when there is none."""
        folder = self._interpreter.absolute().parent if self._interpreter else self._own / "bin"
        command = folder / "yolo"
        return command if os.access(command, os.X_OK) else None

    def install(self, progress: Progress = silent) -> None:
        """Makes the environment: Ultralytics' package and PyTorch, from the package index that pip is configured with.

        Raises:
            BadSettings: it cannot be installed here.
        """
        progress("making an environment for ultralytics (AGPL-3.0)", 0, 2)
        _run([sys.executable, "-m", "venv", "--clear", str(self._own)], self._own.parent, INSTALL_LIMIT_S)
        progress("installing ultralytics and PyTorch", 1, 2)
        pip = [str(self._own / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", *REQUIREMENTS]
        done = _run(pip, self._own, INSTALL_LIMIT_S)
        if done.returncode != 0:
            shutil.rmtree(self._own, ignore_errors=True)
            raise BadSettings(f"Ultralytics could not be installed: {_last_line(done)}")
        progress("ultralytics is installed", 2, 2)

    def export(self, checkpoint: Path, target: Path, progress: Progress = silent) -> None:
        """Writes the graph of a checkpoint to ``target``, for inputs of any size.

        Raises:
            UnsupportedModel: there is no environment that could do it, or its program could not.
        """
        command = self.program()
        if command is None:
            raise UnsupportedModel(how_to(checkpoint.name))
        progress(f"exporting {checkpoint.name} with ultralytics", 0, 1)
        with tempfile.TemporaryDirectory(prefix="saccade-export-") as folder:
            work = Path(folder)
            # A neutral name, because a name such as "yolo11n.pt" would let the program fetch its own file of that name.
            shutil.copyfile(checkpoint, work / "checkpoint.pt")
            export = [str(command), "export", "model=checkpoint.pt", "format=onnx", "dynamic=True"]
            done = _run(export, work, EXPORT_LIMIT_S, _bare(work))
            graph = work / "checkpoint.onnx"
            if done.returncode != 0 or not graph.is_file():
                raise UnsupportedModel(f"Ultralytics could not export '{checkpoint.name}': {_last_line(done)}")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(graph, target)
        progress(f"exported {checkpoint.name}", 1, 1)


def how_to(name: str) -> str:
    """What to do with a checkpoint when nothing is installed that could read it."""
    stem = name.removesuffix(SUFFIX)
    return (
        f"'{name}' is a PyTorch checkpoint: a pickle, which can run any code when it is opened, so saccade never opens "
        f"it. Export it where Ultralytics is installed (yolo export model={name} format=onnx dynamic=True) and add "
        f"{stem}.onnx; or let saccade run that program (AGPL-3.0) as a separate process in an environment of its own: "
        f"saccade add {stem} {name} --install-ultralytics"
    )


def _bare(folder: Path) -> dict[str, str]:
    """The environment of a program that runs what it is given: none of our settings, a home of its own."""
    own = {"HOME": str(folder), "YOLO_CONFIG_DIR": str(folder), "YOLO_AUTOINSTALL": "False"}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **own}


def _run(
    command: Sequence[str], folder: Path, limit_s: int, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a program in ``folder``; one that takes too long is ended and counts as failed."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, errors="replace", timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"it took longer than {limit_s} s")
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", error.strerror or "it cannot be started")


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The program's last words, without folders of this machine."""
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    words = (lines[-1] if lines else "it said nothing").split()
    return " ".join(word for word in words if "/" not in word)[:300]

"""Environments of foreign clients: each lives on its own under ``.envs`` and is only ever run as another process.

Clients may have licences and dependencies that saccade does not want in its own environment. An environment is made
once, from the package index that pip is configured with, and kept; a changed list of requirements makes it anew.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MARKER = "saccade-requirements.txt"


def environment(
    name: str, *requirements: str, alone: tuple[str, ...] = (), modules: dict[str, str] | None = None
) -> Path:
    """The interpreter of a virtual environment that holds exactly these requirements.

    ``alone`` are packages that come without their dependencies; ``modules`` maps file names under its site-packages to
    source text (a stub of a library that has no wheel here).
    The calling test is skipped when the package index cannot be reached.
    """
    home = ROOT / ".envs" / name
    python = home / "bin" / "python"
    wanted = "\n".join([*requirements, *alone, *(f"{path}\n{text}" for path, text in sorted((modules or {}).items()))])
    with alone_in(home):
        if not (python.exists() and _holds(home, wanted)):
            _make(home, python, requirements, alone, modules or {})
            (home / MARKER).write_text(wanted)
    return python


@contextlib.contextmanager
def alone_in(home: Path) -> Iterator[None]:
    """Nobody else makes what lies there meanwhile: tests run in several processes."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _holds(home: Path, wanted: str) -> bool:
    return (home / MARKER).exists() and (home / MARKER).read_text() == wanted


def _make(
    home: Path, python: Path, requirements: tuple[str, ...], alone: tuple[str, ...], modules: dict[str, str]
) -> None:
    if home.exists():
        shutil.rmtree(home)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, capture_output=True)
    for packages, options in ((requirements, ()), (alone, ("--no-deps",))):
        said = _installed(python, *options, *packages) if packages else ""
        if said:
            shutil.rmtree(home)
            pytest.skip(f"cannot install {' '.join(packages)}: {said}")
    site = next((home / "lib").glob("python*/site-packages"))
    for path, text in modules.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).unlink(missing_ok=True)  # uv's files are links into its cache
        (site / path).write_text(text)


def _installed(python: Path, *words: str) -> str:
    """Installs packages; "", or what pip said last when they cannot be installed.

    uv does in seconds what takes pip most of a minute, and what it cannot do, with settings that it has no name for, is
    left to pip.
    """
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), *words]
    variables = {**_settings_of_pip(), "UV_CACHE_DIR": str(ROOT / ".cache" / "uv")}
    if subprocess.run(uv, capture_output=True, timeout=1800, env={**os.environ, **variables}).returncode == 0:
        return ""
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    pip += ["--quiet", "--disable-pip-version-check", "--no-compile", *words]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=1800)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["pip failed"])[-1]


@functools.cache
def _settings_of_pip() -> dict[str, str]:
    """Where pip was told to look, in uv's words: it reads none of pip's files."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    settings: dict[str, list[str]] = {}
    for line in listed.splitlines():  # a variable comes last and wins
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = str(ast.literal_eval(value)).split()
    told = {
        "UV_DEFAULT_INDEX": settings.get("index-url"),
        "UV_INDEX": settings.get("extra-index-url"),
        "UV_FIND_LINKS": settings.get("find-links"),
        "UV_CONSTRAINT": settings.get("constraint"),
        "SSL_CERT_FILE": settings.get("cert"),
    }
    places = {name: ("," if name == "UV_FIND_LINKS" else " ").join(value) for name, value in told.items() if value}
    return {"UV_INDEX_STRATEGY": "unsafe-best-match", **places}


def run(python: Path, script: str, *arguments: str, timeout_s: float = 300, **variables: str) -> str:
    """What a script prints in that environment; a failing script fails the test with its own last words."""
    done = subprocess.run(
        [str(python), "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "PYTHONPATH": "", "NO_PROXY": "*", "no_proxy": "*", **variables},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def node_folder(name: str, *packages: str) -> Path:
    """A folder of its own in which Node finds exactly these npm packages.

    The calling test is skipped where Node is not installed or the package registry cannot be reached.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js with npm is not installed here")
    home = ROOT / ".envs" / name
    wanted = "\n".join(packages)
    with alone_in(home):
        if not _holds(home, wanted):
            _make_node(home, packages)
            (home / MARKER).write_text(wanted)
    return home


def _make_node(home: Path, packages: tuple[str, ...]) -> None:
    if home.exists():
        shutil.rmtree(home)
    home.mkdir(parents=True)
    (home / "package.json").write_text('{"type": "module", "private": true}')
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--save-exact", *packages],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    if done.returncode != 0:
        shutil.rmtree(home)
        pytest.skip(f"cannot install {' '.join(packages)}: {done.stderr.strip().splitlines()[-1:]}")


def run_node(home: Path, script: str, *arguments: str, timeout_s: float = 300) -> str:
    """What a module prints when Node runs it in that folder; a failing script fails the test with its last words."""
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", script, "--", *arguments],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "NO_PROXY": "*", "no_proxy": "*"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout

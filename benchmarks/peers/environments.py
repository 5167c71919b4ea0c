"""Environments of the peers: each has one of its own under ``.envs``, with the versions that ``requirements`` pins.

What stands under the line ``# without their own requirements:`` is installed without them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PINNED = Path(__file__).resolve().parent / "requirements"
ALONE = "# without their own requirements:\n"
MARKER = "requirements.txt"

TORCHVISION = {
    "torchvision/__init__.py": "from . import ops\n__version__ = '0.28.0'\n",
    "torchvision/ops/__init__.py": (
        "import torch\n"
        "def nms(boxes, scores, iou_threshold):\n"
        "    order = scores.sort(descending=True, stable=True).indices\n"
        "    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])\n"
        "    keep = []\n"
        "    while order.numel():\n"
        "        i, order = order[0], order[1:]\n"
        "        keep.append(i)\n"
        "        low = torch.maximum(boxes[i, :2], boxes[order, :2])\n"
        "        high = torch.minimum(boxes[i, 2:], boxes[order, 2:])\n"
        "        inside = (high - low).clamp(min=0).prod(1)\n"
        "        order = order[inside / (area[i] + area[order] - inside) <= iou_threshold]\n"
        "    return torch.stack(keep) if keep else order\n"
    ),
    "torchvision-0.28.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n",
}
"""No wheel of torchvision loads beside the CPU build of torch; ultralytics needs this one function of it."""

LOCKS = {
    "sitecustomize.py": (
        "import threading\n"
        "if not hasattr(threading.RLock(), '_recursion_count'):\n"
        "    threading.RLock = threading._PyRLock\n"
    )
}
"""PyTriton brings an interpreter of its own, older than some 3.11 whose library it then reads."""

MODULES = {"ultralytics": TORCHVISION, "triton": LOCKS}


class Missing(Exception):
    """A peer cannot be installed here; the text says why."""


def interpreter(name: str) -> Path:
    """The Python of a peer's environment, which is made first where it is not there or not of these versions.

    Raises:
        Missing: the package index cannot be reached, or has not these versions.
    """
    home = ROOT / ".envs" / f"peer-{name}"
    python, pinned = home / "bin" / "python", (PINNED / f"{name}.txt").read_text()
    wanted = pinned + "".join(f"# {path}\n{text}" for path, text in MODULES.get(name, {}).items())
    if python.exists() and (home / MARKER).exists() and (home / MARKER).read_text() == wanted:
        return python
    print(f"making the environment of {name} ...", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, capture_output=True)
    whole, _, alone = pinned.partition(ALONE)
    for text, words in ((whole, ()), (alone, ("--no-deps",))):
        _install(python, home, text, *words)
    for path, text in MODULES.get(name, {}).items():
        file = next((home / "lib").glob("python*/site-packages")) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (home / MARKER).write_text(wanted)
    return python


def version(name: str, package: str) -> str:
    """The pinned version of a package in a peer's environment."""
    for line in (PINNED / f"{name}.txt").read_text().splitlines():
        found, _, pinned = line.partition("==")
        if found == package:
            return pinned
    raise KeyError(package)


def _install(python: Path, home: Path, requirements: str, *words: str) -> None:
    if not requirements.strip():
        return
    file = home / "asked.txt"
    file.write_text(requirements)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *words, "--requirement", str(file)], capture_output=True, text=True, timeout=1800)
    if done.returncode != 0:
        shutil.rmtree(home)
        last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise Missing(last[-1].removeprefix("ERROR: ")[:200])

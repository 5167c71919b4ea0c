"""Graphs of checkpoints for tests, made by the converter in an environment of its own."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tests.clients.environments import ROOT, alone_in, environment, run

from saccade.card import Card
from saccade.convert import Converter
from saccade.stores.local import Local

REQUIREMENTS = (
    "torch==2.13.0",
    "transformers==5.23.0",
    "safetensors",
    "openvino==2026.4.1",
    "pillow",
    "pi-heif",
    "onnx",
    "onnxscript",
    "opencv-python-headless",
    "msgspec",
    "simplejpeg",
    "pybase64",
    "scipy",
    "sentencepiece",
)


ALONE = ("torchvision==0.28.0", "timm==1.0.31", "pyyaml")
WITHOUT_CUDA = {"torchvision/_meta_registrations.py": ""}
"""The torchvision of the index is built for CUDA; without its compiled part, which nothing here needs, it loads beside
any torch."""


def python() -> Path:
    """An interpreter with torch and transformers."""
    return environment("transformers", *REQUIREMENTS, alone=ALONE, modules=WITHOUT_CUDA)


class Graphs:
    """Converts each checkpoint once in a test session."""

    def __init__(self, home: Path) -> None:
        self.converter = Converter(home, python=str(python()), threads=2)

    def card(self, folder: Path) -> Card:
        """The checkpoint's own Card."""
        found = Local([folder]).find(folder.name)
        assert found is not None
        return found

    def converted(self, folder: Path) -> Card:
        return self.converter.convert(self.card(folder))


def towers(data: Path) -> Path:
    """A folder of small zero-shot classifiers and what their pipelines answer, made once by ``towers.py``."""
    script = Path(__file__).with_name("towers.py")
    made = ROOT / ".cache" / f"towers-{hashlib.sha1(script.read_bytes(), usedforsecurity=False).hexdigest()[:12]}"
    with alone_in(made):
        if not made.exists():
            draft = made.with_suffix(f".{os.getpid()}")
            photos = [str(data / "images" / "tiny" / name) for name in ("a.png", "b.png")]
            start = (
                f"import runpy, sys; sys.argv[0] = {str(script)!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
            )
            run(python(), start, str(draft), *photos, timeout_s=600)
            draft.rename(made)
    return made

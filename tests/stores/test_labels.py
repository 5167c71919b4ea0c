"""Names of classes that a model does not write out."""

from __future__ import annotations

from pathlib import Path

import pytest

from saccade.stores.local import Local
from stores.toy import DETECTOR, onnx_file


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({0: "n01440764", 1: "n02012849"}, {0: "tench", 1: "crane_(bird)"}),
        ({0: "n01440764", 1: "my own"}, {0: "tench", 1: "my own"}),
        ({0: "n00000000"}, {0: "n00000000"}),
        ({0: "nail", 1: "nut"}, {0: "nail", 1: "nut"}),
    ],
)
def test_imagenets_folder_names_become_words(tmp_path: Path, names: dict[int, str], expected: dict[int, str]) -> None:
    onnx_file(tmp_path / "m.onnx", [(1, len(names))], {**DETECTOR, "task": "classify", "names": str(names)}, (224, 224))
    card = Local([tmp_path]).find("m")
    assert card is not None
    assert card.labels == expected

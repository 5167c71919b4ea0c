"""Names of classes that a model does not write out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saccade.errors import CorruptFiles
from saccade.stores.local import Local
from stores.toy import DETECTOR, hub_folder, onnx_file


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


def test_a_detector_of_80_classes_that_names_none_knows_those_of_coco(tmp_path: Path) -> None:
    onnx_file(tmp_path / "coco.onnx", [(1, 84, 8400)])
    onnx_file(tmp_path / "other.onnx", [(1, 83, 8400)])
    found = {card.name: card.labels for card in Local([tmp_path]).cards()}
    assert (found["coco"][0], found["coco"][79]) == ("person", "toothbrush")
    assert (found["other"][0], found["other"][78]) == ("class0", "class78")


def test_a_few_bytes_that_promise_millions_of_classes_get_no_names_made(tmp_path: Path) -> None:
    (hub_folder(tmp_path / "a") / "config.json").write_text(
        json.dumps({"architectures": ["ViTForImageClassification"], "num_labels": 2_000_000})
    )
    onnx_file(tmp_path / "b.onnx", [(1, 2_000_000, 8400)])
    onnx_file(tmp_path / "c.onnx", [(1, 8400, 2_000_000)])
    local = Local([tmp_path])
    for name in ("a", "b", "c"):
        with pytest.raises(CorruptFiles, match="classes and names none; expected at most 100000"):
            local.find(name)

"""Checkpoints that run in torch, without a graph: the same answers as their pipelines, from either reader.

The server's process must have torch for this; the test runs it as a script in the environment that has.
"""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from tests.clients.environments import ROOT, run
from tests.convert.graphs import python
from tests.convert.test_golden import compare, options

from saccade.results import Boxes, Depth, Grid, Labels, Masks

pytestmark = pytest.mark.heavy

SCRIPT = """
import base64, json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import msgspec
from saccade import media
from saccade.call import Options
from saccade.model import Model
from saccade.runtimes.session import Compute
from saccade.stores.local import Local

folder, picture, family, asked = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], json.loads(sys.argv[5])
card = Local([folder]).find(folder.name)
assert card.runtime == "torch"
model = Model(msgspec.structs.replace(card, family=family or card.family), Compute(threads=2))
image = media.decode(picture.read_bytes()).rgb
for words in asked:
    found = model.predict(image, msgspec.convert(words, Options)).result
    print(json.dumps({
        "names": getattr(found, "names", ()),
        "scores": [float(score) for score in getattr(found, "scores", ())],
        "boxes": found.boxes_xyxy.tolist() if hasattr(found, "boxes_xyxy") else [],
        "pngs": [base64.b64encode(png).decode() for png in getattr(found, "pngs", ())],
        "depth": found.depth.tolist() if hasattr(found, "depth") else [],
        "kind": type(found).__name__,
    }))
"""


@pytest.mark.parametrize("family", ["", "transformers"])
@pytest.mark.parametrize("name", ["vit", "detr", "rt-detr", "mask2former-swin", "segformer"])
def test_a_checkpoint_answers_in_torch_as_its_pipeline(name: str, family: str, data: Path) -> None:
    golden = json.loads((data / "golden" / "transformers" / "tiny" / f"{name}.json").read_text())
    answers = golden["images"]["b.png"]["answers"]
    asked = [options(golden["task"], key, expected) for key, expected in answers.items()]
    words = [msgspec.to_builtins(one) for one in asked]
    said = run(
        python(),
        SCRIPT,
        str(ROOT / "src"),
        str(data / "models" / "hf-tiny" / name),
        str(data / "images" / "tiny" / "b.png"),
        family,
        json.dumps(words),
        timeout_s=600,
    )
    for line, (key, expected) in zip(said.splitlines(), answers.items(), strict=True):
        compare(result(json.loads(line)), expected, key)


def test_an_image_processor_asks_nobody_for_the_names_of_classes(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(data / "models" / "hf-tiny" / "maskformer-swin", folder)
    classes = {"class_info_file": "a.json", "repo_path": "owner/classes"}
    told = {"image_processor_type": "OneFormerImageProcessor", **classes}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    words = [str(ROOT / "src"), str(folder), str(data / "images" / "tiny" / "b.png"), "transformers", "[{}]"]
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    with pytest.raises(AssertionError, match="which saccade does not ask of its own accord"):
        run(python(), SCRIPT, *words, **nobody)


def result(told: dict[str, object]) -> Labels | Boxes | Masks | Depth:
    """The result that the script printed, as far as the comparison needs it."""
    found = SimpleNamespace(**told)
    names, scores = tuple(found.names), np.array(found.scores, np.float32)
    numbers, boxes = np.zeros(len(names), np.int32), np.array(found.boxes, np.float32).reshape(-1, 4)
    if found.kind == "Depth":
        return Depth(np.array(found.depth, np.float32))
    if found.kind == "Labels":
        return Labels(numbers, scores, names)
    if found.kind == "Boxes":
        return Boxes(boxes, scores, numbers, names)
    grid = Grid(1, 1, 1.0, 1.0, 0.0, 0.0, (1, 1))
    pngs = tuple(base64.b64decode(png) for png in found.pngs)
    return Masks(boxes, scores, numbers, names, "semantic", grid, numbers, form="png", pngs=pngs)

"""Small checkpoints of many architectures: converted (or run in torch), and compared with their pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.clients.environments import run
from tests.convert.graphs import Graphs, python
from tests.convert.test_published import asked, compare

from saccade import media
from saccade.model import Model
from saccade.results import Depth
from saccade.runtimes.session import Compute

pytestmark = pytest.mark.exhaustive

SCRIPT = Path(__file__).with_name("zoo.py")
NAMES = (
    "beit_semantic",
    "clip",
    "conditional_detr",
    "convnextv2",
    "d_fine",
    "dab_detr",
    "deformable_detr",
    "depth_anything",
    "dinov2_registers",
    "dpt",
    "dpt_semantic",
    "efficientnet",
    "eomt",
    "glpn",
    "hiera",
    "levit",
    "mask2former_resnet",
    "mobilenet_v1",
    "mobilevit",
    "mobilevit_semantic",
    "poolformer",
    "pvt_v2",
    "regnet",
    "swinv2",
    "table_transformer",
    "upernet_swin",
)


@pytest.fixture(scope="module")
def zoo(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints and answers."""
    home = tmp_path_factory.mktemp("zoo")
    photos = [str(data / "images" / "tiny" / name) for name in ("a.png", "b.png")]
    script = f"import runpy, sys; sys.argv[0] = {str(SCRIPT)!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    run(python(), script, str(home), *photos, timeout_s=1800)
    return home


@pytest.mark.parametrize("name", NAMES)
def test_an_architecture_answers_as_its_pipeline(name: str, zoo: Path, graphs: Graphs) -> None:
    refused = zoo / f"{name}.txt"
    assert not refused.exists(), refused.read_text()
    card = graphs.converted(zoo / name)
    assert card.runtime == "openvino", card.config.get("unconverted")
    model = Model(card, Compute(precision="f32", threads=2))
    try:
        for answer in json.loads((zoo / f"{name}.answers").read_text()):
            image_rgb = media.decode(Path(answer["photo"]).read_bytes()).rgb
            found = model.predict(image_rgb, asked(answer["parameters"])).result
            if isinstance(found, Depth):
                same_depth(found, answer["entries"])
            else:
                compare(found, answer["entries"])
    finally:
        model.close()


def same_depth(found: Depth, entries: list[dict[str, Any]]) -> None:
    expected = np.array(entries[0]["depth"]).reshape(found.depth.shape)
    assert np.allclose(found.depth, expected, atol=1e-4 * max(1.0, float(np.ptp(expected))))

"""Every architecture of the three tasks, and of depth: converted (or run in torch), and compared with its pipeline.

Which there are says transformers itself: those of ``test_golden.py``, these here, and what its own pipelines cannot ask
either (``ELSEWHERE``).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.clients.environments import ROOT, run
from tests.convert.graphs import Graphs, python
from tests.convert.test_fallback import SCRIPT as IN_TORCH_SCRIPT
from tests.convert.test_fallback import result
from tests.convert.test_published import asked, compare

from saccade import media
from saccade.card import Card
from saccade.errors import BadOptions, UnsupportedModel
from saccade.model import Model
from saccade.results import Depth, OrientedBoxes, Result
from saccade.runtimes.openvino_graph import core
from saccade.runtimes.openvino_tokens import with_full_steps
from saccade.runtimes.session import Compute
from saccade.stores import architectures, repository

SCRIPT = Path(__file__).with_name("zoo.py")
HEAVY = ("conditional_detr_padded", "oneformer", "rf_detr_instance")
"""They guard what is special about converting: second inputs, and numbers instead of bytes."""
HEAVY_IN_TORCH = "depth_pro"
"""Guards that depth is read by the checkpoint's own processor, which here takes a second output, too."""
GRAPHS = (
    "beit_semantic", "bit", "clip", "conditional_detr", "conditional_detr_padded", "convnextv2", "cvt", "d_fine",
    "dab_detr", "data2vec", "data2vec_semantic", "deformable_detr", "deformable_detr_padded", "deimv2", "deit",
    "depth_anything", "detr_masks_padded", "detr_padded", "dinov2_registers", "dpt", "dpt_semantic", "efficientnet",
    "eomt", "eomt_dinov3", "focalnet", "glpn", "hgnet_v2", "hiera", "ijepa", "levit", "levit_alone", "lw_detr",
    "mask2former_resnet", "maskformer_resnet", "metaclip_2", "mobilenet_v1", "mobilenet_v2",
    "mobilenet_v2_semantic", "mobilevit", "mobilevit_semantic", "mobilevitv2", "mobilevitv2_semantic", "oneformer",
    "perceiver_conv", "perceiver_fourier", "perceiver_learned", "poolformer", "pp_lcnet", "pp_ocrv5_mobile_det",
    "pp_ocrv5_server_det", "pp_ocrv6_medium_det", "pp_ocrv6_small_det", "pvt", "pvt_v2", "regnet", "rf_detr",
    "rf_detr_instance", "sapiens2_semantic", "segformer", "siglip", "siglip2", "swiftformer", "swinv2",
    "table_transformer", "textnet", "timm", "tipsv2_depth", "tipsv2_semantic", "upernet_swin", "vit_msn",
)  # fmt: skip
IN_TORCH = (
    "chmv2", "deimv2_dinov3", "depth_pro", "donut_swin", "dpt_padded", "imagegpt", "pp_doclayout_v2", "pp_doclayout_v3",
    "pp_doclayout_v4", "prompt_depth_anything", "zoedepth",
)  # fmt: skip
"""No graph can be made of them, or their pictures are prepared by their own processor."""
ELSEWHERE = {
    "DinatForImageClassification": "needs natten, a library that must be built for the machine",
    "ShieldGemma2ForImageClassification": "judges a picture by a rule written as text",
    "VideomtForUniversalSegmentation": "takes videos",
}
"""What transformers' own pipelines cannot ask either."""
TEXTUAL = (
    "GroundingDinoForObjectDetection", "MMGroundingDinoForObjectDetection", "OmDetTurboForObjectDetection",
    "OwlViTForObjectDetection", "Owlv2ForObjectDetection",
)  # fmt: skip
"""Zero-shot detection, which is none of the tasks."""
FREE = 96
"""Pixels of a side that is free, where graphs are compared."""
PART = 0.8
"""So many texts of maps that are noise must be found alike; one pixel more or less joins or parts them."""


def made(names: str, data: Path, home: Path) -> Path:
    """A folder of checkpoints and answers."""
    photos = [str(data / "images" / "tiny" / name) for name in ("a.png", "b.png")]
    script = f"import runpy, sys; sys.argv[0] = {str(SCRIPT)!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    run(python(), script, str(home), names, *photos, timeout_s=1800)
    return home


@pytest.fixture(scope="module")
def zoo(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("all", data, tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="module")
def cages(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(",".join((*HEAVY, HEAVY_IN_TORCH)), data, tmp_path_factory.mktemp("cages"))


@pytest.mark.heavy
@pytest.mark.parametrize("name", HEAVY)
def test_a_special_architecture_answers_as_its_pipeline(name: str, cages: Path, graphs: Graphs) -> None:
    same_as_graph(name, cages, graphs)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", GRAPHS)
def test_an_architecture_answers_as_its_pipeline(name: str, zoo: Path, graphs: Graphs) -> None:
    same_as_graph(name, zoo, graphs)


def same_as_graph(name: str, zoo: Path, graphs: Graphs) -> None:
    card = checkpoint(name, zoo, graphs)
    assert card.runtime == "openvino", card.config.get("unconverted")
    model = Model(card, Compute(precision="f32", threads=2))
    try:
        for answer in json.loads((zoo / f"{name}.answers").read_text()):
            image_rgb = media.decode(Path(answer["photo"]).read_bytes()).rgb
            if "Subtask" in answer.get("refused", ""):
                with pytest.raises(BadOptions, match="Subtask"):
                    model.predict(image_rgb, asked(answer["parameters"]))
            elif "entries" in answer:
                same(model.predict(image_rgb, asked(answer["parameters"])).result, answer["entries"])
    finally:
        model.close()
    more_tokens_change_nothing(card)


def more_tokens_change_nothing(card: Card) -> None:
    """Wherever tokens can be added they are, also where that does not pay."""
    plain = core().read_model(card.files[0])
    shapes = {port: port.partial_shape for port in plain.inputs}
    plain.reshape({port: [FREE if size.is_dynamic else size for size in shape] for port, shape in shapes.items()})
    fuller = with_full_steps(plain, fewest=1, most=1 << 20, enough=1)
    chance = np.random.default_rng(5)
    given = [(4 * chance.random(tuple(port.shape))).astype(port.element_type.to_dtype()) for port in plain.inputs]
    expected, found = (
        core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(given) for graph in (plain, fuller)
    )
    for mine, theirs in zip(found.values(), expected.values(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4 * max(1.0, float(np.abs(theirs).max())))


def checkpoint(name: str, zoo: Path, graphs: Graphs) -> Card:
    refused = zoo / f"{name}.txt"
    assert not refused.exists(), refused.read_text()
    graphs.converter.forget(graphs.card(zoo / name))
    return graphs.converted(zoo / name)


def same(found: Result, entries: list[dict[str, Any]]) -> None:
    match found:
        case Depth():
            expected = np.array(entries[0]["depth"]).reshape(found.depth.shape)
            assert np.allclose(found.depth, expected, atol=1e-4 * max(1.0, float(np.ptp(expected))))
        case OrientedBoxes():
            assert alike_texts(found, entries) >= PART * max(len(found.scores), len(entries))
        case _:
            compare(found, entries)


def alike_texts(found: OrientedBoxes, entries: list[dict[str, Any]]) -> int:
    """How many have a partner with nearly the same corners and score."""
    theirs = [(entry["score"], np.array(entry["corners"])) for entry in entries]
    count = 0
    for score, corners in zip(found.scores.tolist(), found.corners_xy, strict=True):
        for place, (other, quad) in enumerate(theirs):
            distance = np.abs(corners.clip(0, quad.max(axis=0))[:, None] - quad[None]).max(axis=2).min(axis=1).max()
            if abs(score - other) < 0.02 and distance <= 4:
                count += 1
                del theirs[place]
                break
    return count


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", IN_TORCH)
def test_an_architecture_without_a_graph_answers_in_torch(name: str, zoo: Path, graphs: Graphs) -> None:
    same_in_torch(name, zoo, graphs)


@pytest.mark.heavy
def test_depth_that_only_its_own_processor_reads_is_that_of_its_pipeline(cages: Path, graphs: Graphs) -> None:
    same_in_torch(HEAVY_IN_TORCH, cages, graphs)


def same_in_torch(name: str, zoo: Path, graphs: Graphs) -> None:
    card = checkpoint(name, zoo, graphs)
    assert card.runtime == "torch"
    for answer in json.loads((zoo / f"{name}.answers").read_text()):
        words = json.dumps([msgspec.to_builtins(asked(answer["parameters"]))])
        said = run(python(), IN_TORCH_SCRIPT, str(ROOT / "src"), str(zoo / name), answer["photo"], card.family, words)
        same(result(json.loads(said)), answer["entries"])


LISTED = """
import json
from transformers.models.auto import modeling_auto as auto
words = ("IMAGE_CLASSIFICATION", "OBJECT_DETECTION", "IMAGE_SEGMENTATION", "SEMANTIC_SEGMENTATION",
         "INSTANCE_SEGMENTATION", "UNIVERSAL_SEGMENTATION", "DEPTH_ESTIMATION")
found = []
for word in words:
    for names in getattr(auto, f"MODEL_FOR_{word}_MAPPING_NAMES").values():
        found += names if isinstance(names, tuple) else (names,)
print(json.dumps(found))
"""


@pytest.mark.exhaustive
def test_every_class_of_the_tasks_is_compared_or_said_to_be_elsewhere(zoo: Path, data: Path) -> None:
    tiny = list((data / "models" / "hf-tiny").iterdir())
    graphs = architectures_of([*tiny, *(zoo / name for name in GRAPHS)])
    in_torch = architectures_of([zoo / name for name in IN_TORCH])
    assert set(json.loads(run(python(), LISTED))) <= graphs | in_torch | set(ELSEWHERE)
    assert documented("as a graph") == graphs
    assert documented("in torch") == in_torch
    assert documented("not") == {*ELSEWHERE, *TEXTUAL}


def architectures_of(folders: list[Path]) -> set[str]:
    return {json.loads((folder / "config.json").read_text())["architectures"][0] for folder in folders}


def documented(served: str) -> set[str]:
    """The classes that the documentation lists as served in this way."""
    lines = (ROOT / "docs" / "models.md").read_text().splitlines()
    return {name for line in lines if line.startswith(f"| {served}") for name in re.findall(r"`(\w+For\w+)`", line)}


def test_what_is_refused_says_why() -> None:
    assert {*TEXTUAL} <= set(architectures.REFUSED) <= {*ELSEWHERE, *TEXTUAL}
    for name, why in architectures.REFUSED.items():
        with pytest.raises(UnsupportedModel, match=f"{name}, which {why}"):
            repository.architecture({"architectures": [name]}, "made/up")

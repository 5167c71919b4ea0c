"""The models that the Hub's own documents recommend, at real size: converted, and compared with their pipelines.

The weights are random where the Hub cannot be reached (see ``published.py``); minutes and some gigabytes each.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.clients.environments import run
from tests.convert.graphs import Graphs, python

from saccade import media
from saccade.call import Options
from saccade.card import Card
from saccade.model import Model
from saccade.results import Boxes, Labels, Masks
from saccade.runtimes.session import Compute

pytestmark = pytest.mark.exhaustive

NAMES = (
    "google/vit-base-patch16-224",
    "facebook/deit-base-distilled-patch16-224",
    "microsoft/beit-base-patch16-224-pt22k-ft22k",
    "facebook/detr-resnet-50",
    "facebook/detr-resnet-50@main",
    "openmmlab/upernet-convnext-small",
    "facebook/mask2former-swin-large-coco-panoptic",
)
PHOTOS = ("000000261888.jpg", "000000011813.jpg")
SCORE, PIXELS, IOU, STRAY = 1e-4, 1, 0.995, 3
"""Largest differences of scores and box corners, least overlap of masks; so many stray pixels are no difference."""
SCRIPT = Path(__file__).with_name("published.py")


@pytest.fixture(scope="module", params=NAMES)
def published(
    request: pytest.FixtureRequest, data: Path, graphs: Graphs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Card, list[dict[str, Any]]]]:
    """A converted model and what its pipeline says to two photos."""
    home = tmp_path_factory.mktemp("published")
    folder, answers = home / re.sub("[/@]", "--", request.param), home / "answers.json"
    photos = [str(data / "images" / "coco" / photo) for photo in PHOTOS]
    script = f"import runpy, sys; sys.argv[0] = {str(SCRIPT)!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    run(python(), script, request.param, str(folder), str(answers), *photos, timeout_s=1800)
    card = graphs.converted(folder)
    yield card, json.loads(answers.read_text())
    graphs.converter.forget(graphs.card(folder))
    shutil.rmtree(home)


def test_a_recommended_model_answers_as_its_pipeline(published: tuple[Card, list[dict[str, Any]]]) -> None:
    card, answers = published
    assert card.runtime == "openvino", card.config.get("unconverted")
    model = Model(card, Compute(precision="f32", threads=2))
    try:
        for answer in answers:
            image_rgb = media.decode(Path(answer["photo"]).read_bytes()).rgb
            compare(model.predict(image_rgb, asked(answer["parameters"])).result, answer["entries"])
    finally:
        model.close()


def asked(parameters: dict[str, Any]) -> Options:
    return Options(
        conf=parameters.get("threshold"),
        subtask=parameters.get("subtask"),
        mask_threshold=parameters.get("mask_threshold"),
        overlap_threshold=parameters.get("overlap_mask_area_threshold"),
        mask_form="png",
    )


def compare(found: Any, entries: list[dict[str, Any]]) -> None:
    assert isinstance(found, Labels | Boxes | Masks)
    assert list(found.names) == [entry["label"] for entry in entries]
    for index, entry in enumerate(entries):
        if entry["score"] is not None:
            assert float(found.scores[index]) == pytest.approx(entry["score"], abs=SCORE)
        if isinstance(found, Boxes):
            corners = [entry["box"][key] for key in ("xmin", "ymin", "xmax", "ymax")]
            assert np.abs(np.trunc(found.boxes_xyxy[index]) - corners).max() <= PIXELS
        if isinstance(found, Masks):
            expected = mask(base64.b64decode(entry["mask"]))
            assert alike(mask(found.pngs[index]), expected), entry["label"]


def mask(png: bytes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray(Image.open(io.BytesIO(png))) > 0


def alike(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    differing = int((one ^ other).sum())
    return differing <= STRAY or int((one & other).sum()) >= IOU * int((one | other).sum())

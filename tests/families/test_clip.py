"""Zero-shot classification: the numbers of transformers' pipeline, and what a caller may say.

``golden/clip.json`` holds the features of a picture and of texts, and what the pipeline made of them.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from PIL import Image as Pillow
from tests.families import colours

from saccade.call import Options
from saccade.errors import BadOptions, CorruptFiles, RunFailed, UnsupportedModel
from saccade.families.clip import Clip
from saccade.media import decode
from saccade.model import Model
from saccade.ops.resize import Frame
from saccade.results import ByteArray, Labels
from saccade.runtimes.session import Compute

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "clip.json").read_text())["rows"]
FRAME = Frame((8, 8), (8, 8))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    opened = Model(colours.card(tmp_path_factory.mktemp("colours")), Compute(threads=1))
    yield opened
    opened.close()


def plain(red: int, green: int, blue: int) -> ByteArray:
    return np.full((20, 30, 3), (red, green, blue), np.uint8)


def told(model: Model, image: ByteArray, *labels: str, **more: Any) -> list[tuple[str, float]]:
    found = model.predict(image, Options(candidate_labels=labels, **more)).result
    assert isinstance(found, Labels)
    return list(zip(found.names, found.scores.tolist(), strict=True))


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["model_type"])
def test_scores_are_those_of_the_pipeline(row: dict[str, Any], tmp_path: Path) -> None:
    card = colours.card(tmp_path)
    family = Clip(msgspec.structs.replace(card, config={**card.config, "config": {"model_type": row["model_type"]}}))
    outputs = [
        np.array([row["picture"]], np.float32),
        np.array(row["texts"], np.float32),
        np.full(len(row["texts"]), row["shift"], np.float32),
    ]
    options = Options(candidate_labels=tuple(row["labels"]))
    found = family.read(outputs, FRAME, options)
    assert list(found.names) == [entry["label"] for entry in row["entries"]]
    assert found.scores == pytest.approx([entry["score"] for entry in row["entries"]], abs=1e-6)
    assert [row["labels"][number] for number in found.class_ids] == list(found.names)
    assert len(family.read(outputs, FRAME, msgspec.structs.replace(options, top_k=2)).names) == 2


def test_what_is_clear_in_a_picture_is_shown_to_the_model_as_white(model: Model) -> None:
    buffer = io.BytesIO()
    Pillow.new("RGB", (30, 20), (200, 0, 0)).save(buffer, "PNG", transparency=(200, 0, 0))
    image = decode(buffer.getvalue())
    assert (model.shown(image) == 255).all()
    assert model.shown(replace(image, format="JPEG")) is image.rgb
    for converts in (True, False, None):  # by a processor from transformers
        other = copy(model)
        other.family = cast(Any, SimpleNamespace(processor=SimpleNamespace(do_convert_rgb=converts)))
        assert (other.shown(image) == 255).all() == bool(converts)


@pytest.mark.parametrize(("kind", "alone"), [("clip", False), ("siglip", True), ("siglip2", True)])
def test_siglip_judges_each_label_on_its_own(kind: str, alone: bool, tmp_path: Path) -> None:
    card = colours.card(tmp_path)
    family = Clip(msgspec.structs.replace(card, config={**card.config, "config": {"model_type": kind}}))
    outputs = [np.array([[1, 0]], np.float32), np.array([[2, 0], [2, 0]], np.float32), np.zeros(2, np.float32)]
    found = family.read(outputs, FRAME, Options(candidate_labels=("cat", "cat")))
    assert (found.scores > 0.8).all() if alone else found.scores.sum() == pytest.approx(1)


def test_numbers_that_are_not_finite_are_no_answer(tmp_path: Path) -> None:
    outputs = [np.array([[1, np.nan]], np.float32), np.array([[2, 0], [2, 0]], np.float32), np.zeros(2, np.float32)]
    with pytest.raises(RunFailed):
        Clip(colours.card(tmp_path)).read(outputs, FRAME, Options(candidate_labels=("cat", "dog")))


def test_the_label_that_fits_wins_whatever_its_place(model: Model) -> None:
    for labels in (("red", "green", "blue"), ("blue", "green", "red")):
        assert told(model, plain(250, 10, 10), *labels)[0][0] == "red"
        assert told(model, plain(10, 10, 250), *labels)[0][0] == "blue"


def test_labels_share_one_whole(model: Model) -> None:
    found = told(model, plain(200, 120, 10), "red", "green", "blue")
    assert [name for name, _ in found] == ["red", "green", "blue"]
    assert sum(score for _, score in found) == pytest.approx(1)
    assert told(model, plain(200, 120, 10), "blue") == [("blue", 1.0)]


def test_a_texts_features_do_not_depend_on_its_company(model: Model) -> None:
    """Longer texts beside it pad it; the mask makes the padding nothing."""
    alone = told(model, plain(9, 200, 9), "red", "green")
    with_long = told(model, plain(9, 200, 9), "red", "green", "not seen in here")
    assert dict(with_long)["red"] / dict(with_long)["green"] == pytest.approx(
        dict(alone)["red"] / dict(alone)["green"], rel=1e-4
    )


def test_the_template_says_where_the_label_goes(model: Model) -> None:
    once, twice = (
        dict(told(model, plain(250, 100, 10), "red", "green", hypothesis_template=template))
        for template in ("{}", "{}, I say {}")
    )
    said = [math.log(scores["red"] / scores["green"]) for scores in (once, twice)]
    assert said[1] == pytest.approx(2 * said[0], rel=1e-3)
    assert model.family.texts(Options(candidate_labels=("cat",))) == ("This is a photo of cat.",)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (Options(), "looks for what it is told. Tell it with candidate_labels"),
        (Options(candidate_labels=()), "looks for what it is told"),
        (Options(candidate_labels=("cat", "  ")), "candidate_labels is empty"),
        (Options(candidate_labels=("x",) * 1001), "has 1001 labels; at most 1000 are allowed"),
        (Options(candidate_labels=("x" * 1001,)), "is longer than 1000 characters"),
        (Options(candidate_labels=("cat",), hypothesis_template="a photo"), "'a photo' has no {} where the label goes"),
        (
            Options(candidate_labels=("a", "word"), hypothesis_template="{}" * 5000),
            "a text of 20000 characters in the hypothesis template; at most 2000 are allowed",
        ),
        (
            Options(candidate_labels=("cat",), hypothesis_template="{}" * 667),
            "a text of 2001 characters in the hypothesis template",
        ),
        (
            Options(candidate_labels=("cat", "a b c d e f g h i j k", "dog")),
            "'This is a photo of a b c d e f g h i j k.*has 17 tokens; the model takes 12 at most",
        ),
        (Options(candidate_labels=("a b c d e f g",)), "has 13 tokens"),
    ],
    ids=[
        "no words",
        "no labels",
        "empty",
        "many",
        "long",
        "template",
        "many times",
        "a character too many",
        "tokens",
        "a token too many",
    ],
)
def test_what_cannot_be_looked_for_is_refused_before_the_picture_is(model: Model, options: Options, why: str) -> None:
    with pytest.raises(BadOptions, match=why):
        model.prepare(plain(0, 0, 0), options)


@pytest.mark.parametrize("label", ["a b c d e f", "x" * 1000])
def test_a_label_may_be_just_as_long_as_the_limits_say(model: Model, label: str) -> None:
    model.prepare(plain(0, 0, 0), Options(candidate_labels=(label,) * 1000))


def test_braces_of_a_template_are_text_and_never_evaluated(model: Model) -> None:
    texts = model.family.texts(  # type: ignore[attr-defined]
        Options(candidate_labels=("cat",), hypothesis_template="{0.__class__} {x:>99999999999} {}")
    )
    assert texts == ("{0.__class__} {x:>99999999999} cat",)


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    card = colours.card(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CorruptFiles, match=r"tokenizer\.json is not a tokenizer"):
        Model(card, Compute())


def test_a_model_without_its_second_graph_says_what_it_needs(tmp_path: Path) -> None:
    card = colours.card(tmp_path)
    with pytest.raises(UnsupportedModel, match=r"only as two graphs made of its safetensors"):
        Clip(msgspec.structs.replace(card, files=card.files[:2]))

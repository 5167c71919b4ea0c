from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.families.made import FRAME, GOLDEN, card, summary, wave

from saccade.call import Options
from saccade.errors import BadOptions
from saccade.families.semantic import Semantic
from saccade.ops.resize import Frame


@pytest.mark.parametrize("row", GOLDEN["semantic"], ids=lambda row: str(row["shape"]))
def test_classes_at_each_pixel_are_those_of_transformers(row: dict[str, Any]) -> None:
    classes, height, width = row["shape"]
    family = Semantic(card("segment", "semantic", "Segformer", classes))
    found = family.read([wave((1, classes, height, width), 0.13)], Frame(tuple(row["hw"]), (64, 64)), Options())
    assert [[number, area, places] for number, _, area, places in summary(found)] == row["segments"]
    assert found.kind == "semantic"
    assert set(found.scores.tolist()) == {1.0}


def test_graphs_with_their_channels_last_say_the_same() -> None:
    plain = card("segment", "semantic", "Segformer", 4)
    turned = msgspec.structs.replace(plain, config={**plain.config, "layout": "NHWC"})
    logits = wave((1, 4, 11, 8), 0.7, 4.0)
    found = Semantic(turned).read([logits.transpose(0, 2, 3, 1)], FRAME, Options())
    assert summary(found) == summary(Semantic(plain).read([logits], FRAME, Options()))
    assert Semantic(turned).pixels()[""].layout == "NHWC"


def test_other_subtasks_are_refused_in_the_words_of_transformers() -> None:
    family = Semantic(
        card(
            "segment",
            "semantic",
            "Segformer",
            3,
            architectures=["SegformerForSemanticSegmentation"],
            model_type="segformer",
        )
    )
    with pytest.raises(BadOptions) as caught:
        family.read([wave((1, 3, 4, 4), 0.1)], Frame((8, 8), (64, 64)), Options(subtask="panoptic"))
    assert caught.value.message == (
        "Subtask panoptic is not supported for model "
        "<class 'transformers.models.segformer.modeling_segformer.SegformerForSemanticSegmentation'>"
    )

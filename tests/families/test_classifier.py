from __future__ import annotations

import msgspec
import numpy as np
import pytest
from tests.families.made import FRAME, card

from saccade.call import Options
from saccade.errors import BadOptions, RunFailed
from saccade.families.classifier import Classifier

FINISHED = {"activation": "none"}
LOGITS = np.array([[1.0, 3.0, -2.0, 3.0, 0.0, 2.0]], np.float32)


def family(**config: object) -> Classifier:
    return Classifier(card("classify", "classifier", "ViT", 6, **config))


def test_labels_come_best_first_and_equal_ones_by_number() -> None:
    found = family().read([LOGITS], FRAME, Options())
    assert found.class_ids.tolist() == [1, 3, 5, 0, 4]
    expected = np.exp(LOGITS[0]) / np.exp(LOGITS[0]).sum()
    assert found.scores.tolist() == pytest.approx(expected[found.class_ids].tolist(), abs=1e-6)


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (6, 6), (100, 6), (0, 0), (None, 5)])
def test_as_many_labels_as_asked_for(top_k: int | None, count: int) -> None:
    assert len(family().read([LOGITS], FRAME, Options(top_k=top_k)).names) == count


def test_the_activation_is_chosen_by_the_kind_of_problem() -> None:
    assert family(problem_type="regression").read([LOGITS], FRAME, Options()).scores[0] == 3.0
    several = family(problem_type="multi_label_classification").read([LOGITS], FRAME, Options())
    assert several.scores[0] == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert family().read([LOGITS], FRAME, Options(activation="SIGMOID")).scores[0] == several.scores[0]
    lone = Classifier(card("classify", "classifier", "ViT", 1)).read([LOGITS[:, 1:2]], FRAME, Options())
    assert lone.scores.tolist() == pytest.approx(several.scores[:1].tolist()), "alone it would always be sure"


def test_an_unknown_activation_is_refused_in_the_words_of_transformers() -> None:
    with pytest.raises(BadOptions, match="bogus is not a valid ClassificationFunction, please select one of"):
        family().read([LOGITS], FRAME, Options(activation="bogus"))


def test_scores_that_the_graph_has_finished_are_not_softened_again() -> None:
    finished = Classifier(msgspec.structs.replace(card("classify", "classifier", "ViT", 3), config=FINISHED))
    scores = [np.array([[0.1, 0.7, 0.2]], np.float32)]
    for chosen in (None, "softmax", "SoftMax", "none"):
        found = finished.read(scores, FRAME, Options(activation=chosen))
        assert found.scores.tolist() == pytest.approx([0.7, 0.2, 0.1])
    with pytest.raises(BadOptions, match="sigmoid cannot be applied to what 'made' answers: its graph ends in scores"):
        finished.read(scores, FRAME, Options(activation="sigmoid"))
    with pytest.raises(BadOptions, match="bogus is not a valid ClassificationFunction"):
        finished.read(scores, FRAME, Options(activation="bogus"))


def test_huge_logits_do_not_overflow() -> None:
    logits = np.array([[1e30, -1e30, 0, 1, 2, 3]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        assert family().read([logits], FRAME, Options()).scores[0] == 1.0
        assert family().read([logits], FRAME, Options(activation="sigmoid")).scores[0] == 1.0


def test_numbers_that_are_not_finite_are_no_answer() -> None:
    with pytest.raises(RunFailed):
        family().read([np.array([[1, 2, np.nan, 3, 4, 5]], np.float32)], FRAME, Options())


def test_labels_without_names_are_counted() -> None:
    found = family().read([np.arange(8, dtype=np.float32)[None]], FRAME, Options(top_k=2))
    assert found.names == ("LABEL_7", "LABEL_6")

"""``saccade predict --labels``: a zero-shot model is told what to look for."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from lamps import Typed
from tests.families import colours


@pytest.fixture
def shown(tmp_path: Path) -> tuple[Path, Path]:
    """A red picture, and a folder with a model that knows colours, already converted."""
    colours.checkpoint(tmp_path / "zoo", tmp_path / "home")
    picture = tmp_path / "red.png"
    cv2.imwrite(str(picture), np.full((30, 40, 3), (20, 60, 240), np.uint8))
    return picture, tmp_path / "zoo"


def test_labels_are_ranked_for_the_photo(typed: Typed, shown: tuple[Path, Path]) -> None:
    picture, models = shown
    words = ("predict", picture, "-m", "colours", "--models", models)
    told = typed(*words, "--labels", "blue, green", "--labels", "red", "--json")
    assert told.exit_code == 0, told.output
    (entry,) = json.loads(told.stdout)
    assert [row["name"] for row in entry["results"]] == ["red", "green", "blue"]
    assert sum(row["confidence"] for row in entry["results"]) == pytest.approx(1, abs=1e-3)
    assert "red (" in typed(*words, "--labels", "red,blue", "--hypothesis-template", "{}").stdout


def test_what_is_missing_or_makes_no_sense_is_said(typed: Typed, shown: tuple[Path, Path], models: Path) -> None:
    picture, zoo = shown
    missing = typed("predict", picture, "-m", "colours", "--models", zoo)
    assert missing.exit_code != 0
    assert "Tell it with --labels, for example --labels cat,dog." in missing.output
    useless = typed("predict", picture, "-m", "lamps", "--models", models, "--labels", "red")
    assert useless.exit_code != 0
    assert "'lamps' knows its own labels" in useless.output
    unfinished = typed(
        "predict", picture, "-m", "colours", "--models", zoo, "--labels", "red", "--hypothesis-template", "a photo"
    )
    assert unfinished.exit_code == 1
    assert "'a photo' has no {} where the label goes" in unfinished.output


def test_a_zero_shot_model_is_verified_with_labels_of_its_own(typed: Typed, shown: tuple[Path, Path]) -> None:
    picture, models = shown
    told = typed("verify", "colours", picture, "--models", models, "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["difference"]["matched"] > 0

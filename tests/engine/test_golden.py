"""Whether a model sees what it saw, told from what its graph answers."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.engine.golden import blindness, sight

NUMBERS = np.random.default_rng(0).normal(size=(1, 20, 30, 64)).astype(np.float32)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("factor", "told"),
    [(1.01, None), (2.0, "another mean and spread"), (0.0, "another mean"), (np.nan, "not a number")],
)
def test_a_model_that_answers_with_other_numbers_is_noticed(half: bool, factor: float, told: str | None) -> None:
    def seen(numbers: np.ndarray) -> list[tuple[float, float]]:
        return sight([(numbers.view(np.uint32) >> 16).astype(np.uint16) if half else numbers])

    found = blindness(seen(NUMBERS), seen(NUMBERS * np.float32(factor)))
    assert found is None if told is None else told in str(found)


@pytest.mark.parametrize(("now", "told"), [(0.7312, None), (0.7328, None), (0.0, "another mean"), (1.5, "another")])
def test_a_model_that_answers_with_one_number_may_round_it(now: float, told: str | None) -> None:
    """In bfloat16 a call that is alone gets another fourth digit than several side by side."""
    found = blindness(sight([np.float32([[0.7312]])]), sight([np.float32([[now]])]))
    assert found is None if told is None else told in str(found)

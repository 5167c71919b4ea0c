from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade.errors import BadOptions
from saccade.lexicon import AT_ONCE, SETS, Lexicon


class Counted:
    """Turns a text into its length and its first letter, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, texts: Sequence[str]) -> list[NDArray[Any]]:
        self.asked.append(tuple(texts))
        if "bad" in texts:
            raise BadOptions("bad")
        lengths = np.array([[len(text)] for text in texts], np.float32)
        return [lengths, np.array([ord(text[0]) for text in texts], np.int64)]


def test_outputs_stand_in_the_order_of_the_texts_also_of_those_that_come_twice() -> None:
    lengths, letters = Lexicon(Counted())(("ccc", "a", "ccc", "bb"))
    assert lengths.tolist() == [[3], [1], [3], [2]]
    assert letters.tolist() == [ord(sign) for sign in "cacb"]


def test_a_known_text_is_not_computed_again_in_other_company() -> None:
    counted = Counted()
    lexicon = Lexicon(counted)
    lexicon(("a", "bb"))
    lexicon(("ccc", "bb", "a"))
    lexicon(("a",))
    assert counted.asked == [("a", "bb"), ("ccc",)]


def test_many_texts_go_in_pieces() -> None:
    counted = Counted()
    texts = tuple("x" * number for number in range(1, 2 * AT_ONCE + 4))
    lengths, _ = Lexicon(counted)(texts)
    assert lengths.ravel().tolist() == list(range(1, len(texts) + 1))
    assert [len(piece) for piece in counted.asked] == [AT_ONCE, AT_ONCE, 3]


def test_what_was_used_last_stays_and_more_than_is_kept_is_still_answered() -> None:
    counted = Counted()
    lexicon = Lexicon(counted, most=2)
    lexicon(("a", "bb"))
    lexicon(("a",))
    assert lexicon(("ccc", "dddd", "eeeee"))[0].ravel().tolist() == [3, 4, 5]
    counted.asked.clear()
    lexicon(("eeeee", "a"))
    assert counted.asked == [("a",)]


def test_the_same_texts_are_answered_at_once_as_long_as_few_others_come_between() -> None:
    counted = Counted()
    lexicon = Lexicon(counted, most=1)
    first = lexicon(("a", "bb"))
    assert lexicon(("a", "bb")) is first
    for number in range(SETS):
        lexicon(("c" * (3 + number),))
    assert lexicon(("a", "bb"))[0].tolist() == first[0].tolist()
    assert counted.asked[-1] == ("a", "bb")


def test_callers_who_bring_the_same_text_at_once_wait_for_one_computation() -> None:
    begun, go, counted = threading.Event(), threading.Event(), Counted()

    def slow(texts: Sequence[str]) -> list[NDArray[Any]]:
        begun.set()
        assert go.wait(10)
        return counted(texts)

    lexicon = Lexicon(slow)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(lexicon, ("a", "bb")) for _ in range(4)]
        assert begun.wait(10)
        go.set()
        assert all(answer.result()[0].tolist() == [[1], [2]] for answer in answers)
    assert counted.asked == [("a", "bb")]


def test_a_text_that_fails_is_not_remembered() -> None:
    lexicon = Lexicon(Counted())
    for _ in range(2):
        with pytest.raises(BadOptions):
            lexicon(("bad",))
    assert lexicon(("good",))[0].tolist() == [[4]]

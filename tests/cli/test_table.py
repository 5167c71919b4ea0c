"""Tables on terminals of every width."""

from __future__ import annotations

import re

import pytest
from rich.text import Text

from saccade.cli import table

TITLES = ("id", "may", "size", "state")
ROWS = [
    ("key_1234567890ab", "models, endpoints, admin (only yolo*)", "7 MB", Text("fetched on first use", "dim")),
    ("key_ba0987654321", "models", "12 MB", "here"),
]


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    table.show(TITLES, ROWS, whole=("id",), right=("size",))
    return re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out)


@pytest.mark.parametrize("columns", range(36, 90, 3))
def test_a_narrow_terminal_breaks_lines_between_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    told = shown(capsys)
    assert max(map(len, told.splitlines())) <= columns or "id     key_1234567890ab" in told
    words = told.split()
    assert {"models,", "endpoints,", "admin", "(only", "yolo*)", "fetched", "key_1234567890ab"} <= set(words)


def test_columns_stand_below_their_titles_and_numbers_end_alike(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys).splitlines() == [
        "id                may                                     size  state",
        "key_1234567890ab  models, endpoints, admin (only yolo*)   7 MB  fetched on first use",
        "key_ba0987654321  models                                 12 MB  here",
    ]


@pytest.mark.parametrize("columns", range(20, 60))
def test_what_people_copy_is_never_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [("my old laptop", "models, endpoints, admin (only yolo*)")]
    table.show(("name", "may"), rows, whole=("name",))
    assert "my old laptop" in re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out)

"""The settings: four layers, one type, errors that name the setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from saccade.errors import BadSettings
from saccade.server.settings import NAMES, load, table

ROOT = Path(__file__).resolve().parents[2]


def test_flags_win_over_the_environment_which_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "saccade.toml").write_text("port = 1\nhost = 'file'\nquota_calls = 7\n")
    environ = {"SACCADE_PORT": "2", "SACCADE_HOST": "env", "SACCADE_HOME": str(tmp_path / "home")}
    settings = load({"port": 3, "host": None}, environ, tmp_path)
    assert (settings.port, settings.host, settings.quota_calls) == (3, "env", 7)
    assert settings.home == str(tmp_path / "home")


def test_lists_and_switches_are_read_from_the_environment(tmp_path: Path) -> None:
    environ = {"SACCADE_PRELOAD": "a, b", "SACCADE_NO_AUTH": "Yes", "SACCADE_ALLOW_URL": "*.example.org"}
    settings = load({}, environ, tmp_path)
    assert settings.preload == ("a", "b")
    assert settings.no_auth
    assert settings.allow_url == ("*.example.org",)


def test_the_file_in_the_home_counts_when_the_working_directory_has_none(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "saccade.toml").write_text("max-pixels = 5\n")
    (tmp_path / "here").mkdir()
    assert load({}, {"SACCADE_HOME": str(tmp_path / "home")}, tmp_path / "here").max_pixels == 5


@pytest.mark.parametrize(
    ("flags", "environ", "file", "words"),
    [
        ({"port": 70000}, {}, "", ["port", "flags", "70000"]),
        ({}, {"SACCADE_PORT": "http"}, "", ["port", "environment", "http"]),
        ({}, {"SACCADE_PRECISION": "f16"}, "", ["precision", "f16", "f32"]),
        ({}, {"SACCADE_NO_AUTH": "perhaps"}, "", ["no_auth", "perhaps"]),
        ({}, {}, "prot = 1", ["prot", "'port'", "saccade.toml"]),
        ({}, {}, "port = 'x", ["saccade.toml", "TOML"]),
        ({}, {}, "models = 3", ["models", "saccade.toml"]),
    ],
)
def test_an_error_names_the_setting_and_where_it_was_set(
    tmp_path: Path, flags: dict[str, object], environ: dict[str, str], file: str, words: list[str]
) -> None:
    (tmp_path / "saccade.toml").write_text(file)
    with pytest.raises(BadSettings) as caught:
        load(flags, environ, tmp_path)
    assert all(word in caught.value.message for word in words), caught.value.message


def test_a_missing_file_that_was_named_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"missing\.toml"):
        load({}, {"SACCADE_CONFIG": str(tmp_path / "missing.toml")}, tmp_path)


def test_the_documentation_lists_every_setting_with_its_default() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert table() in page
    assert all(f"`{name}`" in page for name in NAMES)

"""The settings: four layers, one type, errors that name the setting."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from saccade.cli import cli, serve
from saccade.errors import BadSettings
from saccade.server.settings import NAMES, Settings, grouped, load, table
from saccade.server.shelves import check_folders, open_library, photos
from saccade.server.wiring import open_regions

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


@pytest.fixture
def shut() -> Iterator[Path]:
    """A folder called ``models`` into which the user of this process may not look."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        folder = Path(name) / "models"
        folder.mkdir(0o000)
        is_root = os.geteuid() == 0  # whom nothing is refused
        if is_root:
            os.setresuid(65534, 65534, 0)
        try:
            yield folder
        finally:
            if is_root:
                os.setresuid(0, 0, 0)
            folder.chmod(0o700)


def test_a_folder_into_which_this_user_may_not_look_has_no_file_for_him(shut: Path) -> None:
    assert load({"home": str(shut)}, {}, shut).port == 8000


def test_models_in_the_home_that_this_user_may_not_read_are_not_passed_over_in_silence(shut: Path) -> None:
    with pytest.raises(BadSettings, match=re.escape(f"The models in '{shut}' cannot be read")):
        check_folders(Settings(home=str(shut.parent)))


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "saccade.toml").write_bytes(b"\xef\xbb\xbfport = 81\r\n")
    assert load({}, {}, tmp_path).port == 81


@pytest.mark.parametrize(
    ("flag", "line"), [("~nobody-has-this-name/x", ""), (None, "home = '~nobody-has-this-name/x'")]
)
def test_a_home_of_a_user_whom_the_system_does_not_know_is_told(tmp_path: Path, flag: str | None, line: str) -> None:
    (tmp_path / "saccade.toml").write_text(line)
    with pytest.raises(BadSettings, match=r"~nobody-has-this-name/x.* --home or SACCADE_HOME"):
        load({"home": flag}, {}, tmp_path)


def test_a_home_whose_path_is_not_written_in_utf_8_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"not written in UTF-8.* --home or SACCADE_HOME"):
        load({"home": os.fsdecode(os.fsencode(tmp_path) + b"/\xff")}, {}, tmp_path)


@pytest.mark.parametrize(
    ("flags", "environ", "file", "words"),
    [
        ({"port": 70000}, {}, "", ["port", "flags", "70000"]),
        ({}, {"SACCADE_PORT": "http"}, "", ["port", "environment", "http"]),
        ({}, {"SACCADE_PRECISION": "f16"}, "", ["precision", "f16", "f32"]),
        ({}, {"SACCADE_NO_AUTH": "perhaps"}, "", ["no_auth", "perhaps"]),
        ({}, {}, "prot = 1", ["prot", "'port'", "saccade.toml"]),
        ({}, {"SACCADE_PROT": "1"}, "", ["SACCADE_PROT", "SACCADE_PORT"]),
        ({}, {"SACCADE_NOAUTH": "1"}, "", ["SACCADE_NOAUTH", "SACCADE_NO_AUTH"]),
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


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ('device = "gpu"', "is 'gpu'; expected 'cpu' or 'cuda'."),
        ("port = true", "is true; expected a whole number >= 0 and <= 65535."),
        ('memory_bytes = "2GB"', "is '2GB'; expected a whole number >= 0."),
        ("decode_timeout_s = 0", "is 0; expected a number > 0."),
        (f"queue_calls = {1 << 63}", "is 9223372036854775808; expected at most 9223372036854775807."),
        ('no_auth = "maybe"', "is 'maybe'; expected true or false."),
        ("models = [1, 'a']", "is [1, 'a']; expected a list of texts."),
        ("[host]\nname = 1", "is a table; expected a text."),
    ],
)
def test_an_error_says_what_was_found_and_what_is_expected(tmp_path: Path, file: str, says: str) -> None:
    (tmp_path / "saccade.toml").write_text(file)
    with pytest.raises(BadSettings) as caught:
        load({}, {}, tmp_path)
    assert f"(saccade.toml) {says}" in caught.value.message


def test_an_error_in_a_file_that_lies_elsewhere_says_where(tmp_path: Path) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    for text, named in (("port = 'x'", "'port'"), ("prot = 1", "'prot'"), ("port =", "TOML")):
        (home / "saccade.toml").write_text(text)
        with pytest.raises(BadSettings, match=named) as caught:
            load({"home": str(home)}, {}, here)
        assert str(home / "saccade.toml") in caught.value.message


def test_regions_in_the_environment_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"SACCADE_REGIONS.*saccade\.toml alone"):
        load({}, {"SACCADE_REGIONS": "http://oslo:8000"}, tmp_path)


def test_what_kubernetes_tells_of_a_service_called_saccade_is_no_setting(tmp_path: Path) -> None:
    told = {
        "SACCADE_PORT": "tcp://10.0.0.7:8000",
        "SACCADE_PORT_8000_TCP_ADDR": "10.0.0.7",
        "SACCADE_SERVICE_HOST": "10.0.0.7",
        "SACCADE_SERVICE_PORT": "8000",
        "SACCADE_SERVICE_PORT_HTTP": "8000",
    }
    assert load({}, told, tmp_path).port == 8000


def test_what_others_call_like_saccade_is_left_alone(tmp_path: Path) -> None:
    assert load({}, {"SACCADE_URL": "x", "SACCADE_KEY": "k", "SACCADE_IMAGE_OF_OURS": "1"}, tmp_path).port == 8000


def region(name: str, url: str) -> str:
    return f'[[regions]]\nname = "{name}"\nurl = "{url}"\n'


def test_regions_are_read_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "saccade.toml").write_text(region("oslo", "https://[::1]:8000/") + region("rome", "http://r.example/s"))
    assert [one.name for one in load({}, {}, tmp_path).regions] == ["oslo", "rome"]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        *(
            (region("oslo", url), f"url of the region 'oslo' (saccade.toml) is '{url}'; expected an http address")
            for url in (
                "ftp://oslo.example",
                "oslo.example:8000",
                "http://",
                "",
                "http://h:99999",
                "http://[::1",
                "http://a b",
                "http://h/?x=1",
            )
        ),
        (region("oslo", "http://a") * 2, "Two regions (saccade.toml) are called 'oslo'"),
        (region("here", "http://a"), "is called 'here', which is how this server itself is called"),
        (region("oslo", "http://a") + region(" ", "http://b"), "Region 2 (saccade.toml) has no name"),
    ],
)
def test_a_region_that_cannot_be_called_or_told_apart_is_refused(tmp_path: Path, written: str, words: str) -> None:
    (tmp_path / "saccade.toml").write_text(written)
    with pytest.raises(BadSettings) as caught:
        load({}, {}, tmp_path)
    assert words in caught.value.message


def test_a_missing_file_that_was_named_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"missing\.toml"):
        load({}, {"SACCADE_CONFIG": str(tmp_path / "missing.toml")}, tmp_path)


def test_the_documentation_lists_every_setting_with_its_default() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert table() in page
    assert all(f"`{name}`" in page for name in NAMES)


def test_the_documentation_lists_the_words_that_a_setting_may_be() -> None:
    assert "| `ray_proxies` | `every_node`; or `head_only` |" in table()
    assert "| `legacy_response` | `l1`; or `l2`, `hub` |" in table()
    assert "| `host` | `127.0.0.1` |" in table()


RULES: dict[str, object] = {
    "replicas": 3,
    "fork_workers": False,
    "worker_memory_bytes": 1 << 30,
    "min_residency_s": 1.5,
    "max_batch": 8,
    "decode_timeout_s": 2.5,
    "hang_timeout_s": 4.5,
    "check_interval_s": 0.0,
    "queue_total_calls": 9,
    "admission_dry_run": True,
    "cache_ttl_s": 0.5,
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_of_the_engine_can_be_set_in_the_file_the_environment_and_by_a_flag(
    tmp_path: Path, name: str
) -> None:
    value = RULES[name]
    assert getattr(Settings(), name) != value
    (tmp_path / "saccade.toml").write_text(f"{name} = {str(value).lower()}\n")
    assert getattr(load({}, {}, tmp_path), name) == value
    assert getattr(load({}, {f"SACCADE_{name.upper()}": str(value)}, tmp_path / "none"), name) == value
    given: dict[str, object] = {}
    command = click.Command("serve", params=list(serve.COMMAND.params), callback=lambda **flags: given.update(flags))
    flag = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
    command.main([flag] if isinstance(value, bool) else [flag, str(value)], standalone_mode=False)
    assert getattr(load(serve.given_in({name: given[name]}), {}, tmp_path / "none"), name) == value


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("replicas", 0, ["replicas", "0", ">= 1"]),
        ("replicas", 65, ["replicas", "65", "<= 64"]),
        ("fork_workers", "two", ["fork_workers", "two"]),
        ("max_batch", "many", ["max_batch", "many", "a whole number >= 0"]),
        ("hang_timeout_s", 0.2, ["hang_timeout_s", "0.2", ">= 1"]),
        ("decode_timeout_s", 0, ["decode_timeout_s", "0", "> 0"]),
        ("cache_ttl_s", 0, ["cache_ttl_s", "> 0"]),
        ("queue_total_calls", 0, ["queue_total_calls", ">= 1"]),
        ("min_residency_s", -1, ["min_residency_s", "-1"]),
        ("admission_dry_run", "perhaps", ["admission_dry_run", "perhaps"]),
    ],
)
def test_a_rule_outside_its_range_is_refused_with_what_was_expected(
    tmp_path: Path, name: str, value: object, words: list[str]
) -> None:
    with pytest.raises(BadSettings) as caught:
        load({name: value}, {}, tmp_path)
    assert all(word in caught.value.message for word in words), caught.value.message


def test_the_short_help_shows_what_everybody_needs_and_leads_to_the_rest() -> None:
    short = CliRunner().invoke(cli, ["serve", "--help"]).output
    whole = CliRunner().invoke(cli, ["serve", "--help-all"]).output
    assert len(short.splitlines()) < 50
    assert "--port" in short
    assert "--hang-timeout-s" not in short
    assert f"{len(NAMES) - 1} settings in all: cli serve --help-all" in short
    flags = {f"--{name.replace('_', '-')}" for name in NAMES if name not in serve.UNFLAGGED}
    assert flags <= set(re.findall(r"--[\w-]+", whole))
    assert all(f"{title}:" in whole for title in grouped())


def test_pictures_for_comparing_graphs_are_found_in_files_and_folders(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.jpg").touch()
    (tmp_path / "notes.txt").touch()
    file = tmp_path / "notes.txt"
    assert [Path(name).name for name in photos([str(tmp_path), str(file)])] == [
        *(f"{number}.jpg" for number in range(8)),
        "notes.txt",
    ]


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_name_that_leads_to_no_picture_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSettings, match=f"converter_images.*{name}"):
        photos([str(tmp_path / name)])


def test_the_library_compares_graphs_on_the_pictures_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    found = open_library(Settings(home=str(tmp_path), converter_images=(str(tmp_path),)))
    assert found.converter.images == (str(tmp_path / "a.png"),)


def test_no_body_may_be_larger_than_all_bodies_together(tmp_path: Path) -> None:
    """Who sends one is told so; that the server is busy, and to come again shortly, would be true for ever."""
    settings = load({"max_inflight_bytes": 64 << 20, "url_max_bytes": 1 << 30}, {}, tmp_path)
    assert (settings.max_body_bytes, settings.url_max_bytes) == (64 << 20, 64 << 20)
    assert load({"max_body_bytes": 1000}, {}, tmp_path).max_body_bytes == 1000


def test_origins_are_known_as_browsers_send_them(tmp_path: Path) -> None:
    environ = {"SACCADE_CORS_ORIGINS": "https://App.example.org/, http://localhost:3000,*"}
    assert load({}, environ, tmp_path).cors_origins == ("https://app.example.org", "http://localhost:3000", "*")
    with pytest.raises(BadSettings, match=r"cors_origins.*'https://example\.org/app'.*https://app\.example\.org"):
        load({"cors_origins": ["https://example.org/app"]}, {}, tmp_path)
    with pytest.raises(BadSettings, match=r"cors_origins.*'app\.example\.org'"):
        load({"cors_origins": ["app.example.org"]}, {}, tmp_path)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("max-body-bytes = 5\nmax_body_bytes = 6", "both 'max-body-bytes' and 'max_body_bytes'"),
        ('host = "127.0.0.1:8000"', "is '127.0.0.1:8000'; expected an address or a name alone"),
        ('host = "http://localhost"', "is 'http://localhost'; expected an address or a name alone"),
    ],
)
def test_a_setting_that_is_written_twice_or_says_more_than_it_may_is_refused(
    tmp_path: Path, file: str, words: str
) -> None:
    (tmp_path / "saccade.toml").write_text(file)
    with pytest.raises(BadSettings) as caught:
        load({}, {}, tmp_path)
    assert words in caught.value.message


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "[::1]", "fe80::1%eth0", "localhost", "my-host.example"])
def test_a_host_may_be_written_in_any_way_that_is_one(tmp_path: Path, host: str) -> None:
    assert load({"host": host}, {}, tmp_path).host == host


def test_calls_cannot_be_sent_to_regions_that_nobody_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"'forward' is 'nearest', and there are no regions"):
        open_regions(load({"forward": "nearest"}, {}, tmp_path))
    assert open_regions(load({}, {}, tmp_path)) is None

"""The command line as a whole: help, exit codes, what is listed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
from lamps import Typed

from saccade import __version__
from saccade.cli import COMMANDS, cli

LISTED = cli.list_commands(click.Context(cli))
INNER = [("keys", "create"), ("keys", "list"), ("keys", "revoke"), ("endpoints", "start"), ("endpoints", "list")]


@pytest.mark.parametrize("words", [(), *((name,) for name in LISTED), *INNER], ids=" ".join)
def test_every_command_explains_itself(typed: Typed, words: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        told = typed(*words, flag)
        assert told.exit_code == 0, told.output
        assert f"Usage: saccade {' '.join(words)}".strip() in told.output


def test_no_key_is_made_that_nobody_could_see(tmp_path: Path) -> None:
    environ = {**os.environ, "SACCADE_HOME": str(tmp_path)}
    words = [sys.executable, "-m", "saccade", "keys"]
    closed = ["sh", "-c", '"$@" >&-', "sh", *words, "create", "laptop"]
    done = subprocess.run(closed, capture_output=True, text=True, env=environ, timeout=60)
    assert (done.returncode, "nobody would see the key" in done.stderr) == (2, True)
    listed = subprocess.run([*words, "list", "--json"], capture_output=True, text=True, env=environ, timeout=60)
    assert json.loads(listed.stdout) == []


def test_the_help_lists_every_command_with_a_line_and_only_those_that_are_there(typed: Typed) -> None:
    told = typed("--help").output
    assert {"serve", "predict", "models", "pull", "add", "remove", "keys", "bench"} <= set(LISTED)
    for name, line in COMMANDS.items():
        assert (line in told) == (name in LISTED)


@pytest.mark.parametrize("words", [("fly",), ("--fly",), ("predict",), ("serve", "--port", "http"), ("keys", "fly")])
def test_what_was_mistyped_is_named_and_exits_with_2(typed: Typed, words: tuple[str, ...]) -> None:
    told = typed(*words)
    assert told.exit_code == 2
    assert told.stdout == "" or told.stdout.startswith("Usage")
    assert "Error" in told.stderr
    assert "Traceback" not in told.output


def test_what_is_missing_is_installed_where_saccade_is(typed: Typed) -> None:
    told = typed("keys", "list", env={"SACCADE_DATABASE_URL": "postgresql+pg8000://nobody@127.0.0.1:9/none"})
    assert told.exit_code == 1
    assert f"{sys.executable} -m pip install 'saccade[postgres]'" in told.stderr


def test_a_runtime_that_is_broken_is_told_with_the_reason(models: Path, photos: Path, tmp_path: Path) -> None:
    words = ["predict", str(photos), "-m", "lamps", "--models", str(models), "--home", str(tmp_path / "home")]
    program = (
        f"import sys; sys.modules['openvino'] = None; sys.argv[1:] = {words}; from saccade.cli import main; main()"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert told.returncode == 1
    assert "cannot be imported: import of openvino halted" in told.stderr
    assert "saccade[openvino]" not in told.stderr


def test_ctrl_c_while_a_runtime_is_imported_is_no_broken_runtime(models: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "openvino.py").write_text(
        "try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt as stop:\n"
        "    raise ImportError('initialization failed') from stop\n"  # as its extension does
    )
    words = ["predict", str(photos), "-m", "lamps", "--models", str(models), "--home", str(tmp_path / "home")]
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv[1:] = {words}; import saccade.cli as c; c.main()"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (told.returncode, told.stderr.strip()) == (1, "Aborted!")


def test_on_windows_the_way_is_told(tmp_path: Path) -> None:
    program = "import sys; from saccade.cli import main; sys.platform = 'win32'; sys.argv[1:] = ['models']; main()"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert told.returncode == 1
    assert "Linux and macOS" in told.stderr
    assert "WSL" in told.stderr


@pytest.mark.parametrize("words", ["--version", "--help", "models", "models --help", "serve --help-all"])
def test_an_answer_that_cannot_be_written_is_told_in_a_sentence(words: str, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    environ = {**os.environ, "SACCADE_HOME": str(tmp_path)}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "saccade", *words.split()]
        told = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=environ, timeout=60, check=False
        )
    assert (told.returncode, told.stderr.startswith("Error: There is no room left.")) == (1, True), told.stderr


@pytest.mark.parametrize("words", ["--help", "models"])
def test_who_reads_only_the_first_lines_is_told_of_no_error(words: str, tmp_path: Path) -> None:
    """As ``saccade models | head -1`` does."""
    environ = {**os.environ, "SACCADE_HOME": str(tmp_path)}
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        command = [sys.executable, "-m", "saccade", words]
        told = subprocess.run(
            command, stdout=gone, stderr=subprocess.PIPE, text=True, env=environ, timeout=60, check=False
        )
    assert told.stderr == ""


def test_a_command_that_is_nearly_right_is_told_the_right_one(typed: Typed) -> None:
    assert "Did you mean 'predict'?" in typed("predct", "photo.jpg").stderr


def test_no_colours_are_shown_to_those_who_want_none(tmp_path: Path) -> None:
    def shown(**variables: str) -> str:
        first, second = pty.openpty()
        environ = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        environ |= {"SACCADE_HOME": str(tmp_path), "TERM": "xterm", **variables}
        words = [sys.executable, "-m", "saccade", "models", "--models", str(tmp_path / "odd")]
        subprocess.run(words, stdout=subprocess.DEVNULL, stderr=second, env=environ, check=True, timeout=120)
        os.close(second)
        told = os.read(first, 10_000).decode()
        os.close(first)
        return told

    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/bad.onnx").write_bytes(b"no graph")
    assert "bad cannot be served" in shown()
    assert "\x1b[33m" in shown()
    assert "\x1b" not in shown(NO_COLOR="1")
    assert "\x1b" not in shown(TERM="dumb")


def test_keys_are_listed_with_what_they_may_and_how_often(typed: Typed) -> None:
    typed("keys", "create", "robot", "--model", "yolo*", "--limit", "5/2h")
    typed("keys", "create", "free", "--limit", "0")
    listed = " ".join(typed("keys", "list").stdout.split())
    assert "models (only yolo*) 5/2 hours" in listed
    assert "models none" in listed


def test_a_flag_that_makes_a_list_says_that_it_may_be_repeated(typed: Typed) -> None:
    told = " ".join(typed("serve", "--help-all").stdout.split())
    assert told.count("; may be repeated.") == 5  # models, preload, converter_images, allow_url, cors_origins
    assert "reports ready; may be repeated." in told


def test_a_setting_out_of_its_range_exits_with_2_and_says_what_is_expected(typed: Typed) -> None:
    told = typed("serve", "--port", "70000")
    assert told.exit_code == 2
    assert "port" in told.stderr
    assert "70000" in told.stderr
    assert "65535" in told.stderr


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    program = (
        "import os; os.rmdir(os.getcwd()); import sys; sys.argv[1:] = ['models']; import saccade.cli as c; c.main()"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "gone", capture_output=True, text=True, timeout=60, check=False
    )
    assert (told.returncode, "is gone" in told.stderr) == (2, True), told.stderr


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "saccade", "--version"], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == f"saccade, version {__version__}\n"
    assert done.stderr == ""


def test_help_is_told_without_reading_numpy_opencv_or_openvino() -> None:
    program = "import sys, saccade.cli; saccade.cli.cli(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"numpy", "cv2", "openvino", "PIL", "starlette", "sqlalchemy", "httpx", "rich"}


def test_nothing_that_reports_to_others_is_loaded_with_a_model(models: Path, photos: Path, tmp_path: Path) -> None:
    program = (
        "import sys, saccade.cli; words = sys.argv[1:]; saccade.cli.cli(words, standalone_mode=False); "
        "print(*sys.modules)"
    )
    words = ["predict", str(photos), "-m", "lamps", "--models", str(models), "--home", str(tmp_path / "home")]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = done.stdout.splitlines()[-1].split()
    assert "openvino" in loaded
    assert not [name for name in loaded if "telemetry" in name]


@pytest.mark.parametrize("command", ["predict", "tune", "bench"])
def test_the_help_names_the_model_that_nobody_has_to_name(typed: Typed, command: str) -> None:
    assert "picodet-s" in typed(command, "--help").output


@pytest.mark.parametrize("words", [("serve", "--ray"), ("serve", "--ray", "head:6379"), ("deploy",)], ids=" ".join)
def test_where_ray_is_not_installed_nothing_is_said_of_haproxy(tmp_path: Path, words: tuple[str, ...]) -> None:
    code = "import sys; sys.modules['ray'] = None; from saccade.cli import main; main()"
    environ = {**os.environ, "SACCADE_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=environ, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: A Ray cluster needs an optional part of saccade.")
    assert "HAProxy" not in done.stderr

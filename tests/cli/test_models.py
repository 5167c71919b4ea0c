"""``saccade models``, ``add``, ``remove``, ``pull`` and ``keys``."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from lamps import Typed, detector

from saccade.endpoints.endpoint import Plan, Record
from saccade.server import keyring
from saccade.server.database import Database
from saccade.server.records import SqlRecords
from saccade.server.settings import Settings


def test_a_model_is_added_listed_used_and_removed(typed: Typed, tmp_path: Path, photos: Path) -> None:
    file = detector(tmp_path / "best.onnx")
    told = typed("add", "house/lamps", file, "--json")
    assert json.loads(told.stdout)["task"] == "detect"
    rows = {row["name"]: row for row in json.loads(typed("models", "--json").stdout)}
    assert rows["house/lamps"]["fetched"]
    assert not rows["picodet-s"]["fetched"]
    assert rows["picodet-s"]["licence"] == "Apache-2.0"
    assert typed("predict", photos, "-m", "house/lamps").exit_code == 0
    assert typed("remove", "house/lamps").exit_code == 0
    assert "house/lamps" not in typed("models").stdout
    again = typed("remove", "house/lamps")
    assert (again.exit_code, "no model 'house/lamps' to remove" in again.stderr) == (1, True)
    assert "Fetch" not in typed("remove", "yolov8n").stderr
    assert file.exists()


def test_a_model_that_an_endpoint_uses_is_not_removed(typed: Typed, tmp_path: Path) -> None:
    assert typed("add", "lamps", detector(tmp_path / "best.onnx")).exit_code == 0
    assert typed("keys", "create", "laptop").exit_code == 0
    database = Database("", str(tmp_path / "home"))
    records = SqlRecords(database)
    records.save(Record(id="1", name="hall", plan=Plan(model="Lamps"), state="stopped"))
    records.save(Record(id="2", name="far", plan=Plan(model="lamps", region="eu")))
    told = typed("remove", "lamps")
    assert told.exit_code == 2
    assert "used by the endpoint 'hall'. " in told.stderr
    assert "saccade endpoints rm hall" in told.stderr
    records.remove("hall")
    database.close()
    assert typed("remove", "lamps").exit_code == 0


def test_the_table_names_licences_and_what_is_here(typed: Typed, models: Path) -> None:
    lines = typed("models", "--models", models).stdout.splitlines()
    lamps = next(line for line in lines if line.startswith("lamps"))
    assert lamps.split()[-1] == "here"
    assert any("yolo11n" in line and "AGPL-3.0" in line and "fetched on first use" in line for line in lines)


@pytest.mark.parametrize("name", ["two words", "../up", "a/b/c/d", "x/-y"])
def test_a_name_that_cannot_be_is_told_what_can(typed: Typed, tmp_path: Path, name: str) -> None:
    told = typed("add", name, detector(tmp_path / "best.onnx"))
    assert told.exit_code == 2
    assert "up to three such words" in told.stderr


def test_a_file_that_is_no_model_is_named_with_the_reason(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a graph")
    (tmp_path / "picodet-s.onnx").write_bytes(b"in the place of what could be fetched")
    told = typed("models", "--models", tmp_path)
    assert told.exit_code == 0
    assert "broken" in told.stderr
    assert next(line for line in told.stdout.splitlines() if "broken" in line).endswith("cannot be served")
    rows = json.loads(typed("models", "--models", tmp_path, "--json").stdout)
    row = next(row for row in rows if row["name"] == "broken")
    assert (row["fetched"], "'broken.onnx'" in row["problem"]) == (True, True)
    assert [row["fetched"] for row in rows if row["name"] == "picodet-s"] == [True]
    assert {row["problem"] for row in rows if row["name"] not in ("broken", "picodet-s")} == {None}
    refused = typed("add", "x", tmp_path / "broken.onnx")
    assert refused.exit_code == 1
    assert "broken.onnx" in refused.stderr


@pytest.mark.parametrize("words", [("models",), ("predict", "photo.png"), ("verify", "lamps"), ("pull", "lamps")])
def test_a_models_folder_of_the_settings_that_is_not_there_is_named(typed: Typed, words: tuple[str, ...]) -> None:
    told = typed(*words, env={"SACCADE_MODELS": "modles"})
    assert (told.exit_code, "model folder 'modles' does not exist" in told.stderr) == (2, True), told.output


def test_names_that_cannot_be_and_files_that_are_not_exit_with_2(typed: Typed, tmp_path: Path) -> None:
    file = detector(tmp_path / "best.onnx")
    for words in (("../x", file), ("x", tmp_path / "gone.onnx")):
        told = typed("add", *words)
        assert told.exit_code == 2, told.output
    assert typed("add", "x", file).exit_code == 0
    again = typed("add", "x", file)
    assert again.exit_code == 2
    assert "saccade remove x" in again.stderr


def test_a_checkpoint_for_which_there_is_no_folder_for_temporary_files_is_told_of_tmpdir(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "gone")])
    (tmp_path / "best.pt").write_bytes(b"PK")
    told = typed("add", "x", tmp_path / "best.pt", "--ultralytics", sys.executable)
    assert (told.exit_code, "TMPDIR" in told.stderr, "--home" in told.stderr) == (1, True, False), told.output


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_model_that_there_is_no_room_for_leaves_nothing_and_the_place_is_named(tmp_path: Path, kind: str) -> None:
    source = detector(tmp_path / "best.onnx")
    if kind == "folder":
        (tmp_path / "hub").mkdir()
        source = source.rename(tmp_path / "hub" / "model.onnx").parent
        (source / "config.json").write_text('{"model_type": "yolos", "architectures": ["YolosForObjectDetection"]}')
        told = '{"image_processor_type": "YolosImageProcessor", "size": {"height": 64, "width": 64}}'
        (source / "preprocessor_config.json").write_text(told)
    limited = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (600, 600)); import saccade.cli as c; c.main()"
    words = [sys.executable, "-Bc", limited, "add", "lamps", str(source), "--home", str(tmp_path / "home")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "The system refused" in done.stderr) == (1, True), done.stderr
    assert str(tmp_path / "home") in done.stderr
    assert [path for path in (tmp_path / "home" / "models").rglob("*") if path.is_file()] == []


def test_of_an_added_checkpoint_is_told_what_its_first_use_needs(typed: Typed, tmp_path: Path, data: Path) -> None:
    assert "saccade[transformers]" in typed("add", "rings", data / "models" / "hf-tiny" / "vit").stdout
    assert "saccade[" not in typed("add", "lamps", detector(tmp_path / "best.onnx")).stdout


def test_a_name_that_a_models_folder_has_cannot_be_added(
    typed: Typed, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACCADE_MODELS", str(models))
    told = typed("add", "lamps", detector(tmp_path / "best.onnx"))
    assert (told.exit_code, "taken by a file of a models folder" in told.stderr) == (2, True), told.output
    assert list((tmp_path / "home" / "models").rglob("*")) == []


def test_pulling_what_nobody_has_says_how_to_add_it(typed: Typed) -> None:
    told = typed("pull", "yolo26n")
    assert told.exit_code == 1
    assert "saccade add" in told.stderr
    assert "--models" in told.stderr


@pytest.mark.parametrize("ref", ["weights/best.pt", "./runs/detect/train/weights/BEST.PT"])
def test_pulling_a_checkpoint_that_is_not_there_says_so_and_asks_no_hub(typed: Typed, ref: str) -> None:
    told = typed("pull", ref, env={"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert (told.exit_code, f"There is no file '{ref}'" in told.stderr) == (2, True), told.output
    assert "Did you mean" in typed("pull", "yolov8m.pt").stderr
    assert "is an address" in typed("pull", "https://example.org/weights/best.pt").stderr


def test_a_checkpoint_is_refused_before_anything_long_begins(typed: Typed, models: Path, tmp_path: Path) -> None:
    (tmp_path / "my best.pt").write_bytes(b"x")
    program = tmp_path / "env" / "bin" / "yolo"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\ntouch ran\n")
    program.chmod(0o755)
    python = program.with_name("python")
    python.touch()
    assert typed("add", "taken", models / "lamps.onnx").exit_code == 0
    for words, reason in (
        (("pull", "my best.pt", "--ultralytics", python), "cannot be a model's name"),
        (("add", "taken", "my best.pt", "--install-ultralytics"), "saccade remove taken"),
        (("add", "new", "my best.pt", "--install-ultralytics", "--ultralytics", python), "one of the two"),
    ):
        told = typed(*words)
        assert (told.exit_code, told.exception and type(told.exception)) == (2, SystemExit)
        assert reason in told.stderr
    assert not (tmp_path / "home" / "ultralytics").exists()
    assert list(tmp_path.rglob("ran")) == []


def test_keys_are_shown_once_listed_without_their_secret_and_revoked(typed: Typed) -> None:
    made = json.loads(typed("keys", "create", "laptop", "--limit", "5/minute", "--json").stdout)
    (row,) = json.loads(typed("keys", "list", "--json").stdout)
    assert (row["name"], row["limit"]) == ("laptop", 5)
    listed = typed("keys", "list").stdout
    assert "laptop" in listed
    assert datetime.fromtimestamp(row["created"], UTC).strftime("%Y-%m-%d %H:%MZ") in listed
    assert made["key"] not in listed
    assert typed("keys", "revoke", "laptop").exit_code == 0
    assert typed("keys", "revoke", "laptop").exit_code == 2
    assert json.loads(typed("keys", "list", "--json").stdout) == []


@pytest.mark.parametrize(("terminal", "columns"), [(False, 80), (True, 200), (True, 80), (True, 30)])
def test_ids_and_names_of_keys_are_never_cut(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, terminal: bool, columns: int
) -> None:
    name = "the till in the shop [north]"
    made = [json.loads(typed("keys", "create", name, "--admin", "--json").stdout) for _ in range(2)]
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    listed = typed("keys", "list", env={"COLUMNS": str(columns)}).stdout
    plain = re.sub("\x1b\\[[0-9;]*m", "", listed)
    for key in made:
        assert key["id"] in plain
    assert plain.count(name) == 2
    assert plain.count("…") == 2  # of how each key starts
    if not terminal:
        assert all("models, endpoints, admin" in line for line in plain.splitlines()[1:])
    refused = typed("keys", "revoke", name)
    assert (refused.exit_code, made[1]["id"] in refused.stderr) == (2, True)


@pytest.mark.parametrize("terminal", [False, True])
def test_addresses_of_endpoints_are_never_cut(typed: Typed, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    url = f"http://127.0.0.1:8000/endpoints/{'long-' * 25}name"
    row = {"name": "long-" * 25 + "name", "model": "yolo11n", "state": "ready", "replicas": "0:1", "url": url}
    with other_server(200, json.dumps({"endpoints": [{**row, "replicas_now": 1, "reason": ""}]}).encode()) as at:
        told = typed("endpoints", "list", "--url", at, env={"COLUMNS": "80"})
    assert url in told.stdout
    assert f"{row['name']} " in told.stdout or f"{row['name']}\n" in told.stdout


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--limit", "plenty", "'plenty'"),
        ("--limit", "99999999999", "from 0 to 2147483647"),
        ("--expires-days", "999999", "at most 36500"),
    ],
)
def test_a_limit_or_an_end_that_is_none_exits_with_2(typed: Typed, option: str, value: str, words: str) -> None:
    told = typed("keys", "create", "laptop", option, value)
    assert (told.exit_code, words in told.stderr) == (2, True), told.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--admin", "--scope", "models"), "--admin is every scope"),
        (("--scope", "models", "--endpoint", "hall"), "--scope endpoints"),
        (("--scope", "endpoints", "--model", "yolo*"), "--scope models"),
    ],
)
def test_options_of_a_key_that_contradict_each_other_are_refused(typed: Typed, words: list[str], says: str) -> None:
    told = typed("keys", "create", "laptop", *words)
    assert (told.exit_code, says in told.stderr) == (2, True), told.output
    assert json.loads(typed("keys", "list", "--json").stdout) == []


def test_a_key_that_could_not_be_shown_opens_nothing(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    words = [sys.executable, "-m", "saccade", "keys", "create", "laptop", "--home", str(tmp_path / "home")]
    with open("/dev/full", "w") as full:
        told = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (told.returncode, b"no room left" in told.stderr) == (1, True)
    with keyring.opened(Settings(home=str(tmp_path / "home"))) as keys:
        assert keys.all() == []


def test_commands_for_a_running_server_say_that_none_runs(typed: Typed) -> None:
    told = typed("endpoints", "list", "--url", "http://127.0.0.1:9")
    assert told.exit_code == 1
    assert "saccade serve" in told.stderr


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (200, b"[]"), (404, b"<html>"), (302, b"")])
def test_another_server_than_saccade_is_recognised(typed: Typed, status: int, body: bytes) -> None:
    with other_server(status, body) as url:
        told = typed("endpoints", "list", "--url", url)
    assert (told.exit_code, f"answered {status} " in told.stderr) == (1, True), told.output


@contextlib.contextmanager
def other_server(status: int, body: bytes) -> Iterator[str]:
    """The address of a server that always answers the same."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{other.server_port}"
        other.shutdown()


def test_a_database_of_a_newer_saccade_is_refused_in_words(typed: Typed, tmp_path: Path) -> None:
    assert typed("keys", "create", "laptop").exit_code == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "home" / "saccade.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9999'")
        connection.commit()
    told = typed("keys", "list")
    assert told.exit_code == 2, told.exception
    assert "newer saccade" in told.stderr


@pytest.mark.heavy
def test_pulling_over_the_network_shows_the_licence_and_warns_of_strict_ones(typed: Typed) -> None:
    told = json.loads(typed("pull", "PicoDet", "--json").stdout)
    assert told == {"name": "picodet-s", "task": "detect", "licence": "Apache-2.0", "size_bytes": 7845659}
    strict = typed("pull", "yolov8n.pt").stdout
    assert "AGPL-3.0: who lets others use this model over a network has duties" in strict
    assert {row["name"] for row in json.loads(typed("models", "--json").stdout) if row["fetched"]} == {
        "picodet-s",
        "yolov8n",
    }
    assert typed("remove", "yolov8n").exit_code == 0


@pytest.mark.parametrize("words", [("predict", "-", "-m", "nobody"), ("pull", "nobody"), ("tune", "nobody")])
def test_what_ends_a_command_leaves_standard_output_to_documents(typed: Typed, words: tuple[str, ...]) -> None:
    told = typed(*words, "--json")
    assert (told.exit_code, told.stdout, "nobody" in told.stderr) == (1, "", True)

"""Checkpoints: without a program of their own they are refused with the way out; the program runs apart from us."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saccade.errors import BadSettings, UnsupportedModel
from saccade.stores.ultralytics import Exporter, how_to


def program(folder: Path, script: str) -> Path:
    """An environment whose ``yolo`` is a shell script; its interpreter's path."""
    (folder / "bin").mkdir(parents=True)
    yolo = folder / "bin" / "yolo"
    yolo.write_text("#!/bin/sh\n" + script)
    yolo.chmod(0o755)
    return folder / "bin" / "python"


def test_without_an_environment_the_error_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"x")
    with pytest.raises(
        UnsupportedModel, match=r"AGPL-3\.0.*best\.pt --install-ultralytics.*yolo export model=best\.pt"
    ):
        Exporter(tmp_path).export(tmp_path / "best.pt", tmp_path / "best.onnx")


def test_a_checkpoint_that_ultralytics_does_not_open_is_not_sent_there() -> None:
    told = how_to("models/best.pth", "lamps")
    assert "never opens it. Export it to ONNX" in told
    assert "best.onnx" in told
    assert "ltralytics" not in told


def test_the_program_gets_a_copy_under_a_neutral_name_and_none_of_our_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACCADE_DATABASE_URL", "secret")
    (tmp_path / "yolo11n.pt").write_bytes(b"weights")
    script = 'cat checkpoint.pt > checkpoint.onnx\necho "$@" >> checkpoint.onnx\nenv >> checkpoint.onnx\n'
    exporter = Exporter(tmp_path, program(tmp_path / "env", script))
    exporter.export(tmp_path / "yolo11n.pt", tmp_path / "out" / "yolo11n.onnx")
    written = (tmp_path / "out" / "yolo11n.onnx").read_text()
    assert written.startswith("weightsexport model=checkpoint.pt format=onnx dynamic=True")
    assert "secret" not in written
    assert "YOLO_OFFLINE=True" in written
    assert "ORT_DISABLE_TELEMETRY=1" in written
    assert os.environ["SACCADE_DATABASE_URL"] == "secret"


def test_a_program_that_fails_is_quoted_without_folders(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"x")
    exporter = Exporter(tmp_path, program(tmp_path / "env", 'echo "no such layer in /home/me/best.pt" >&2; exit 1\n'))
    with pytest.raises(UnsupportedModel, match="no such layer in") as caught:
        exporter.export(tmp_path / "best.pt", tmp_path / "best.onnx")
    assert "/home" not in caught.value.message
    assert not (tmp_path / "best.onnx").exists()


def test_a_program_that_leaves_nothing_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"x")
    exporter = Exporter(tmp_path, program(tmp_path / "env", "echo fine\n"))
    with pytest.raises(UnsupportedModel, match="fine"):
        exporter.export(tmp_path / "best.pt", tmp_path / "best.onnx")


def test_an_environment_without_the_program_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"x")
    exporter = Exporter(tmp_path, tmp_path / "env" / "bin" / "python")
    with pytest.raises(BadSettings, match=r"no program 'yolo' beside .*env/bin/python.*pip install ultralytics onnx"):
        exporter.export(tmp_path / "best.pt", tmp_path / "best.onnx")


def test_an_environment_that_was_not_finished_is_none(tmp_path: Path) -> None:
    program(tmp_path / "ultralytics", "exit 0\n").write_text("")
    assert Exporter(tmp_path).program() is None
    (tmp_path / "ultralytics" / "saccade-checked").touch()
    assert Exporter(tmp_path).program() == tmp_path / "ultralytics" / "bin" / "yolo"


def test_the_command_to_type_can_be_typed(tmp_path: Path) -> None:
    (tmp_path / "my best.pt").write_bytes(b"x")
    with pytest.raises(UnsupportedModel) as caught:
        Exporter(tmp_path).export(tmp_path / "my best.pt", tmp_path / "best.onnx")
    assert f"saccade add best '{tmp_path}/my best.pt' --install-ultralytics" in caught.value.message
    assert "saccade add 'my best' 'my best.pt' --" in how_to("my best.pt")

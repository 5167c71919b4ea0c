"""``saccade predict``: sources, answers, pictures that are saved, errors that name the file."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from lamps import Typed, detector, mapper, photo

from saccade import media


def found(text: str) -> list[dict[str, Any]]:
    """The one JSON document on standard output."""
    document = json.loads(text)
    assert isinstance(document, list)
    return document


def test_a_photo_is_answered_with_its_objects(typed: Typed, models: Path, photos: Path) -> None:
    told = typed("predict", photos / "bright.png", "-m", "lamps", "--models", models)
    assert told.exit_code == 0, told.output
    assert "160×120" in told.stdout
    assert "1 lamp" in told.stdout
    assert "40  20  120  100" in told.stdout


def test_a_depth_map_is_told_by_its_range(typed: Typed, tmp_path: Path) -> None:
    mapper(tmp_path / "deep" / "deep.onnx", "depth")
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[:, 80:] = 204
    cv2.imwrite(str(tmp_path / "photo.png"), picture)
    told = typed("predict", "photo.png", "-m", "deep", "--models", tmp_path / "deep", "--precision", "f32")
    assert told.exit_code == 0, told.output
    assert "depth from 0 to 0.8" in told.stdout
    assert "score" not in told.stdout
    told = typed("predict", "photo.png", "-m", "deep", "--models", tmp_path / "deep", "--precision", "f32", "--json")
    (item,) = found(told.stdout)[0]["results"]
    assert (item["name"], item["min"], item["max"]) == ("depth", 0, pytest.approx(0.8))


def test_of_many_photos_a_line_is_shown_of_each_and_the_boxes_of_the_first_five(
    typed: Typed, models: Path, tmp_path: Path
) -> None:
    for number in range(7):
        photo(tmp_path / "many" / f"{number}.png", 230)
    told = typed("predict", tmp_path / "many", "-m", "lamps", "--models", models)
    assert told.exit_code == 0, told.output
    assert told.stdout.count("1 lamp") == 7
    assert told.stdout.count("40  20  120  100") == 5


def test_json_is_one_document_with_an_entry_for_each_source(typed: Typed, models: Path, photos: Path) -> None:
    told = typed("predict", photos, "-m", "lamps", "--models", models, "--json", "--precision", "f32")
    bright, dark = found(told.stdout)
    assert (bright["source"], bright["model"], bright["shape"]) == (str(photos / "bright.png"), "lamps", [120, 160])
    (lamp,) = bright["results"]
    assert (lamp["name"], lamp["class"]) == ("lamp", 0)
    assert 0.25 < lamp["confidence"] < 1
    assert lamp["box"] == {"x1": 40, "y1": 20, "x2": 120, "y2": 100}
    assert set(bright["speed"]) == {"preprocess", "inference", "postprocess"}
    assert dark["results"] == []


def test_folders_patterns_names_and_standard_input_may_be_mixed(typed: Typed, models: Path, photos: Path) -> None:
    (photos / "deep").mkdir()
    photo(photos / "deep" / "deeper.jpg", 200)
    (photos / "notes.txt").write_text("not a picture")
    words = (photos, str(photos / "*.png"), "-", photos / "dark.png")
    given = (photos / "bright.png").read_bytes()
    told = typed("predict", *words, "-m", "lamps", "--models", models, "--json", stdin=given)
    names = [Path(entry["source"]).name for entry in found(told.stdout)]
    assert names == ["bright.png", "dark.png", "deeper.jpg", "bright.png", "dark.png", "-", "dark.png"]
    assert found(told.stdout)[5]["results"]


def test_broken_files_are_named_and_the_others_are_answered(typed: Typed, models: Path, photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50))
    (photos / "empty.png").write_bytes(b"")
    told = typed("predict", photos, photos / "gone.png", "-m", "lamps", "--models", models)
    assert told.exit_code == 1
    for name in ("broken.jpg", "empty.png", "gone.png"):
        assert name in told.stderr
    assert "1 lamp" in told.stdout
    assert "Traceback" not in told.output


def test_a_folder_without_pictures_keeps_the_others_from_no_answer(
    typed: Typed, models: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "hollow").mkdir()
    words = ("predict", "hollow", photos / "bright.png", "*.tif", "-m", "lamps", "--models", models)
    told = typed(*words, "--save", "out", "--json")
    hollow, bright, tif = found(told.stdout)
    assert (told.exit_code, len(bright["results"])) == (1, 1)
    assert (hollow["source"], "holds no image" in hollow["error"]) == ("hollow", True)
    assert (tif["source"], "no file matches" in tif["error"]) == ("*.tif", True)
    assert "hollow: the folder holds no image" in typed(*words).stderr


def test_a_name_that_the_system_takes_for_none_is_told_as_a_source(typed: Typed, models: Path, photos: Path) -> None:
    words = ("predict", "x" * 300, photos / "bright.png", "-m", "lamps", "--models", models)
    told = typed(*words)
    assert (told.exit_code, "1 lamp" in told.stdout) == (1, True)
    assert "xxx: cannot be looked up: File name too long" in told.stderr
    assert "--home" not in told.stderr


def test_broken_files_stand_in_the_json_document(typed: Typed, models: Path, photos: Path) -> None:
    (photos / "empty.png").write_bytes(b"")
    told = typed("predict", photos, "-m", "lamps", "--models", models, "--json")
    assert told.exit_code == 1
    errors = {Path(entry["source"]).name: entry.get("error") for entry in found(told.stdout)}
    assert errors["bright.png"] is None
    assert "empty" in errors["empty.png"]


def test_every_bad_file_is_named_and_told_what_is_wrong(typed: Typed, models: Path, data: Path) -> None:
    bad = json.loads((data / "images/bad/expected.json").read_text())
    files = sorted(path for path in (data / "images/bad").iterdir() if path.name != "expected.json")
    assert len(files) >= len(bad) > 20
    told = typed("predict", *files, "-m", "lamps", "--models", models, "--json")
    assert told.exit_code == 1
    entries = {Path(entry["source"]).name: entry for entry in found(told.stdout)}
    assert set(entries) == {path.name for path in files}
    refused = [entry for entry in entries.values() if "error" in entry]
    assert len(refused) >= 20
    assert all(len(entry["error"]) > 20 for entry in refused)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--classes", "lamp"), "class ids"),
        (("--conf", "1.5"), "0<=x<=1"),
        (("--iou", "much"), "much"),
        (("--imgsz", "5"), "32"),
        (("--imgsz", "8192"), "4096"),
        (("--precision", "f16"), "f32"),
        (("--models", "nowhere"), "nowhere"),
        (("--sure",), "--sure"),
    ],
)
def test_wrong_options_exit_with_2_and_say_what_is_expected(
    typed: Typed, photos: Path, words: tuple[str, ...], says: str
) -> None:
    told = typed("predict", photos, *words)
    assert told.exit_code == 2
    assert says in told.stderr


@pytest.mark.parametrize("word", ["empty", "*.nothing"])
def test_a_folder_or_pattern_without_pictures_is_named(typed: Typed, tmp_path: Path, word: str) -> None:
    (tmp_path / "empty").mkdir()
    told = typed("predict", word)
    assert told.exit_code == 1
    assert word in told.stderr


def test_a_photo_that_is_not_there_is_told_before_a_model_is_looked_for(typed: Typed, models: Path) -> None:
    told = typed("predict", "phoot.jpg", "-m", "lampz", "--models", models)
    assert told.exit_code == 1
    assert "cannot read phoot.jpg: No such file" in told.stderr
    assert "lamp" not in told.output


def test_a_folder_or_a_checkpoint_in_the_place_of_a_name_is_answered_with_what_works(
    typed: Typed, tmp_path: Path, photos: Path
) -> None:
    (tmp_path / "runs" / "best_export").mkdir(parents=True)
    detector(tmp_path / "runs" / "best_export" / "best.onnx")
    told = typed("predict", photos, "-m", "runs/best_export")
    assert told.exit_code == 2
    assert "'runs/best_export' is a folder, and models are called by name" in told.stderr
    assert typed("predict", photos, "--models", "runs/best_export", "-m", "best").exit_code == 0
    assert "give --models runs/best_export and call it 'best'" in told.stderr
    (tmp_path / "runs" / "best.pt").write_bytes(b"x")
    told = typed("predict", photos, "-m", "runs/best.pt")
    assert (told.exit_code, "saccade add best runs/best.pt --install-ultralytics" in told.stderr) == (2, True)


def test_an_unknown_model_is_answered_with_the_ways_to_add_one(typed: Typed, photos: Path, models: Path) -> None:
    told = typed("predict", photos, "-m", "lampz", "--models", models)
    assert told.exit_code == 1
    assert "Did you mean lamps?" in told.stderr
    assert "saccade add" in told.stderr


def test_a_file_in_the_place_of_a_name_is_answered_with_what_to_type(
    typed: Typed, photos: Path, models: Path, tmp_path: Path
) -> None:
    told = typed("predict", photos, "-m", models / "lamps.onnx")
    assert told.exit_code == 2
    assert f"saccade add lamps {models / 'lamps.onnx'}" in told.stderr
    told = typed("predict", photos, "--models", models / "lamps.onnx", "-m", "lamps")
    assert told.exit_code == 0


def test_a_model_that_is_known_but_in_no_package_is_named_with_the_ways_to_add_it(typed: Typed, photos: Path) -> None:
    told = typed("predict", photos, "-m", "yolo26n")
    assert told.exit_code == 1
    assert "no package registry has it" in told.stderr
    assert "saccade add yolo26n FILE" in told.stderr
    assert "saccade pull" not in told.stderr


def test_options_reach_the_model(typed: Typed, models: Path, photos: Path) -> None:
    def count(*words: str) -> int:
        told = typed("predict", photos / "bright.png", "-m", "lamps", "--models", models, "--json", *words)
        return len(found(told.stdout)[0]["results"])

    assert count() == 1
    assert count("--conf", "0.95") == 0
    assert count("--classes", "1") == 0
    assert count("--classes", "0,1") == 1


def test_saved_pictures_show_what_was_found(typed: Typed, models: Path, photos: Path, tmp_path: Path) -> None:
    told = typed("predict", photos, "-m", "lamps", "--models", models, "--save", "out", "--json")
    assert [entry["saved"] for entry in found(told.stdout)] == ["out/bright.jpg", "out/dark.jpg"]
    bright, dark = (cv2.imread(str(tmp_path / "out" / name)) for name in ("bright.jpg", "dark.jpg"))
    assert bright.shape == dark.shape == (120, 160, 3)
    assert np.ptp(bright[60, 30:50].astype(int)) > 50, "no line where the box's left edge is"
    assert np.ptp(dark.astype(int)) < 10


def test_saved_pictures_of_classes_keep_their_holes(typed: Typed, tmp_path: Path) -> None:
    mapper(tmp_path / "map" / "map.onnx", "semantic")
    picture = np.full((64, 64, 3), 230, np.uint8)
    picture[16:48, 16:48] = 0
    cv2.imwrite(str(tmp_path / "photo.png"), picture)
    words = ("-m", "map", "--models", tmp_path / "map", "--classes", "1", "--save", "--json")
    told = typed("predict", "photo.png", *words)
    (item,) = found(told.stdout)[0]["results"]
    assert len(item["segments"]["x"]) >= 4
    drawn = cv2.imread(found(told.stdout)[0]["saved"]).astype(int)
    assert np.ptp(drawn[30:34, 30:34], axis=2).max() < 12  # not tinted
    assert np.ptp(drawn[4:8, 30:34], axis=2).min() > 30


def test_saving_needs_no_name_of_a_folder(typed: Typed, models: Path, film: Path, tmp_path: Path) -> None:
    assert typed("predict", film, "-m", "lamps", "--models", models, "--save").exit_code == 0
    assert media.reel((tmp_path / "predictions" / "film.mp4").read_bytes()).frame_count == 10


def test_sources_of_one_name_are_saved_side_by_side(typed: Typed, models: Path, tmp_path: Path) -> None:
    sources = [photo(tmp_path / place, 200) for place in ("a/x.png", "b/x.png", "c/X.png", "c/x-2.png")]
    told = typed("predict", *sources, "-m", "lamps", "--models", models, "--save", "out", "--json")
    saved = [entry["saved"] for entry in found(told.stdout)]
    assert len({name.lower() for name in saved}) == 4
    assert all((tmp_path / name).stat().st_size for name in saved)


def test_nothing_that_lies_in_the_folder_is_written_over(typed: Typed, models: Path, tmp_path: Path) -> None:
    source = photo(tmp_path / "photo.jpg", 200)
    before = source.read_bytes()
    for _ in range(2):
        assert typed("predict", source, "-m", "lamps", "--models", models, "--save", ".").exit_code == 0
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.glob("photo*.jpg")) == ["photo-2.jpg", "photo-3.jpg", "photo.jpg"]


def test_runs_that_save_into_one_folder_at_one_time_write_over_nothing(
    models: Path, photos: Path, tmp_path: Path
) -> None:
    words = ["predict", *[str(photos / "bright.png")] * 10, "-m", "lamps", "--models", str(models)]
    words += ["--home", "home", "--save", "out", "--json"]
    command = [sys.executable, "-m", "saccade", *words]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) for _ in range(3)]
    saved = [entry["saved"] for run in runs for entry in found(run.communicate(timeout=120)[0].decode())]
    assert len(set(saved)) == 30
    assert {f"out/{path.name}" for path in (tmp_path / "out").iterdir()} == set(saved)


def test_a_folder_that_cannot_be_made_is_named(typed: Typed, models: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    told = typed("predict", photos, "-m", "lamps", "--models", models, "--save", "file/out")
    assert told.exit_code == 1
    assert "file/out" in told.stderr
    assert "--save" in told.stderr


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Ten frames, ever brighter."""
    path = tmp_path / "film.avi"
    with media.VideoWriter(path, fps=10) as writer:
        for number in range(10):
            writer.write(np.full((120, 160, 3), 20 * number + 20, np.uint8))
    return path


def test_a_video_is_answered_frame_by_frame_and_saved(typed: Typed, models: Path, film: Path, tmp_path: Path) -> None:
    words = ("-m", "lamps", "--models", models, "--stride", "2", "--track", "--conf", "0.1", "--save", "out")
    told = typed("predict", film, *words, "--json")
    entries = found(told.stdout)
    assert [entry["frame"] for entry in entries] == [1, 3, 5, 7, 9]
    ids = {item["track_id"] for entry in entries for item in entry["results"] if "track_id" in item}
    assert len(ids) == 1
    saved = media.reel((tmp_path / "out" / "film.mp4").read_bytes())
    assert (saved.frame_count, saved.fps, saved.width) == (5, 5, 160)


def test_runs_that_save_one_video_at_one_time_each_have_a_file_of_their_own(
    typed: Typed, models: Path, film: Path, tmp_path: Path
) -> None:
    with media.VideoWriter(tmp_path / "out" / "film.mp4", fps=10) as other:
        (tmp_path / "out").mkdir()
        other.write(np.zeros((60, 80, 3), np.uint8))  # another run is in the midst of it
        told = typed("predict", film, "-m", "lamps", "--models", models, "--save", "out", "--json")
    assert {entry["saved"] for entry in found(told.stdout)} == {"out/film-2.mp4"}
    widths = {path.name: media.reel(path.read_bytes()).width for path in (tmp_path / "out").iterdir()}
    assert widths == {"film.mp4": 80, "film-2.mp4": 160}


def test_the_table_and_the_document_count_frames_alike(typed: Typed, models: Path, film: Path) -> None:
    lines = typed("predict", film, "-m", "lamps", "--models", models, "--stride", "4").stdout.splitlines()
    assert [line.partition("frame ")[2].split()[0] for line in lines] == ["3", "7"]


def test_a_video_shorter_than_the_stride_is_not_passed_over_in_silence(typed: Typed, models: Path, film: Path) -> None:
    told = typed("predict", film, "-m", "lamps", "--models", models, "--stride", "11", "--json")
    assert (told.exit_code, found(told.stdout)) == (0, [])
    assert "film.avi has fewer frames than --stride 11" in told.stderr


def test_a_name_cannot_command_the_terminal_and_takes_one_line(typed: Typed, models: Path, tmp_path: Path) -> None:
    photo(tmp_path / "red\x1b[31m\n.png", 230)
    told = typed("predict", "red\x1b[31m\n.png", "gone\x1b]0;x\x07", "-m", "lamps\x1b[1m", "--models", models)
    assert "\x1b" not in told.output
    told = typed("predict", "red\x1b[31m\n.png", "gone\x1b]0;x\x07", "-m", "lamps", "--models", models)
    assert "red?[31m?.png  160×120" in told.stdout
    assert "gone?]0;x?: cannot read" in told.stderr
    assert "\x1b" not in told.output


def test_names_of_files_and_labels_are_shown_as_they_are(typed: Typed, models: Path, tmp_path: Path) -> None:
    for name in ("d[bold]", "x["):
        photo(tmp_path / name / "a[b].png", 230)
    photo(tmp_path / "x[" / "b].png", 230)
    told = typed("predict", "d[bold]/a[b].png", "x[/b].png", "-m", "lamps", "--models", models)
    assert told.exit_code == 0, told.output
    assert "d[bold]/a[b].png" in told.stdout
    assert "x[/b].png" in told.stdout


def test_where_nothing_can_be_kept_a_photo_is_answered_all_the_same(
    typed: Typed, models: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "compiled").write_text("a file, where compiled graphs are kept")
    told = typed("predict", photos / "bright.png", "-m", "lamps", "--models", models / "lamps.onnx")
    assert told.exit_code == 0, told.output
    assert "1 lamp" in told.stdout


def test_a_size_that_changes_nothing_is_told(typed: Typed, models: Path, photos: Path) -> None:
    told = typed("predict", photos / "bright.png", "-m", "lamps", "--models", models, "--imgsz", "320")
    assert told.exit_code == 0
    assert "64×64" in told.stderr


def test_a_card_that_is_not_there_is_asked_for_in_vain(typed: Typed, models: Path, photos: Path) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has one")
    told = typed("predict", photos / "bright.png", "-m", "lamps", "--models", models, "--device", "cuda")
    assert told.exit_code == 2
    assert "NVIDIA" in told.stderr


def test_a_home_that_cannot_be_is_told_in_a_sentence(typed: Typed, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    for words in (("predict", photos / "bright.png"), ("add", "a", photos.parent / "lamps.onnx")):
        detector(photos.parent / "lamps.onnx")
        told = typed(*words)
        assert told.exit_code == 1
        assert isinstance(told.exception, SystemExit)
        assert "SACCADE_HOME" in told.stderr


def test_a_video_that_breaks_off_is_named(typed: Typed, models: Path, film: Path) -> None:
    film.write_bytes(film.read_bytes()[:200])
    told = typed("predict", film, "-m", "lamps", "--models", models)
    assert told.exit_code == 1
    assert "film.avi" in told.stderr


def test_with_standard_output_closed_nothing_is_said(models: Path, photos: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "saccade", "predict", str(photos), "-m", "lamps", "--models", str(models)]
    words += ["--save", str(tmp_path / "out")]
    environ = {**os.environ, "SACCADE_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *words], capture_output=True, text=True, env=environ, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "out").iterdir())) == 2


def shown_on_a_terminal(*words: str | Path) -> tuple[str, str]:
    """What a command writes to standard output, a pipe, and what its terminal shows meanwhile."""
    leader, follower = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-m", "saccade", *map(str, words)], stdout=subprocess.PIPE, stderr=follower, env=environ
    ) as child:
        os.close(follower)
        shown = b""
        while child.poll() is None or shown == b"":
            try:
                shown += os.read(leader, 65536)
            except OSError:
                break
        assert child.stdout is not None
        told = child.stdout.read().decode()
    os.close(leader)
    return told, shown.decode()


def test_on_a_terminal_a_bar_shows_how_far_the_work_is(models: Path, film: Path, tmp_path: Path) -> None:
    words = ("predict", film, "-m", "lamps", "--models", models, "--json", "--home", tmp_path / "home")
    told, shown = shown_on_a_terminal(*words)
    assert len(found(told)) == 10
    assert "film.avi" in shown
    assert "/10" in shown


@pytest.mark.parametrize("option", ["--conf", "--iou"])
def test_a_threshold_that_is_no_number_is_refused(typed: Typed, models: Path, photos: Path, option: str) -> None:
    told = typed("predict", photos, "-m", "lamps", "--models", models, option, "nan")
    assert told.exit_code == 2
    assert "nan is not in the range 0<=x<=1" in told.stderr


def test_save_that_takes_the_photo_for_its_folder_says_so(typed: Typed, models: Path, photos: Path) -> None:
    for words in (("--save", photos / "dark.png"), (photos, "--save", photos / "dark.png")):
        told = typed("predict", "-m", "lamps", "--models", models, *words)
        assert told.exit_code == 2
        assert "--save takes the folder that follows it" in told.stderr


def test_an_empty_name_of_a_folder_to_save_in_is_refused(typed: Typed, models: Path, photos: Path) -> None:
    told = typed("predict", photos, "-m", "lamps", "--models", models, "--save", "")
    assert told.exit_code == 2
    assert "--save is an empty text" in told.stderr


def test_a_tilde_behind_an_equals_sign_is_the_home(
    typed: Typed, models: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    told = typed("predict", photos, "-m", "lamps", f"--models={models}", "--save=~/kept")
    assert told.exit_code == 0, told.output
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["bright.jpg", "dark.jpg"]
    assert not (tmp_path / "~").exists()


def test_a_video_that_cannot_be_saved_is_named_and_the_others_are_answered(
    typed: Typed, models: Path, photos: Path, film: Path, tmp_path: Path
) -> None:
    film = film.rename(tmp_path / f"{'film' * 62}.avi")  # with what a draft has beside it, too long for a name
    told = typed("predict", film, photos / "bright.png", "-m", "lamps", "--models", models, "--save", "out", "--json")
    assert told.exit_code == 1
    failed, bright = found(told.stdout)
    assert (failed["source"], "--save" in failed["error"]) == (str(film), True)
    assert "film.mp4: File name too long" in failed["error"]
    assert bright["saved"] == "out/bright.jpg"


def test_what_there_is_no_room_for_leaves_no_half_picture(models: Path, photos: Path, tmp_path: Path) -> None:
    limited = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (600, 600)); import saccade.cli as c; c.main()"
    words = ["predict", str(photos), "-m", "lamps", "--models", str(models), "--save", str(tmp_path / "out")]
    environ = {**os.environ, "SACCADE_HOME": str(tmp_path / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    told = subprocess.run(
        [sys.executable, "-c", limited, *words], capture_output=True, text=True, env=environ, timeout=60, check=False
    )
    assert (told.returncode, told.stderr.count("cannot write")) == (1, 2), told.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("source", ["-", "pipe.png"])
def test_ctrl_c_while_waiting_for_bytes_that_never_come_ends_at_once(models: Path, tmp_path: Path, source: str) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    words = ["predict", source, "-m", "lamps", "--models", str(models), "--home", str(tmp_path / "home"), "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "saccade", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
    ) as child:  # fmt: skip
        try:
            time.sleep(3)
            child.send_signal(signal.SIGINT)
            assert child.wait(timeout=20) == 1
        finally:
            child.kill()
        assert child.stderr is not None
        assert child.stderr.read().strip() == b"Aborted!"


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_ends_a_video_finds_no_half_of_it_and_a_whole_document(
    models: Path, tmp_path: Path, sign: signal.Signals, hangup_heard: None
) -> None:
    with media.VideoWriter(tmp_path / "long.avi", fps=10) as writer:
        for _ in range(4000):
            writer.write(np.full((120, 160, 3), 200, np.uint8))
    words = ["predict", "long.avi", "-m", "lamps", "--models", str(models), "--home", "home", "--save", "out", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "saccade", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        begun = child.stdout.readline() + child.stdout.readline()
        child.send_signal(sign)
        rest, errors = child.stdout.read(), child.stderr.read()
        assert (child.wait(60), errors.strip()) == (1, b"Aborted!")
    assert 0 < len(found((begun + rest).decode())) < 4000
    assert list((tmp_path / "out").iterdir()) == []


def test_the_bar_counts_the_frames_that_are_there(models: Path, film: Path, tmp_path: Path) -> None:
    content = bytearray(film.read_bytes())
    at = content.index(b"strh") + 40
    assert content[at : at + 4] == (10).to_bytes(4, "little")
    content[at : at + 4] = (50).to_bytes(4, "little")
    film.write_bytes(content)
    assert media.reel(bytes(content)).frame_count == 50
    words = ("predict", film, "-m", "lamps", "--models", models, "--json", "--home", tmp_path / "home")
    told, shown = shown_on_a_terminal(*words)
    assert (len(found(told)), "/10" in shown, "/50" in shown) == (10, True, False)


def test_what_is_neither_image_nor_video_is_told_the_formats_of_both(typed: Typed, models: Path, photos: Path) -> None:
    (photos / "clip.flv").write_bytes(b"FLV\x01\x05" + bytes(20))
    told = typed("predict", photos / "clip.flv", "-m", "lamps", "--models", models)
    assert (told.exit_code, "a Flash video" in told.stderr, "of videos MP4" in told.stderr) == (1, True, True)

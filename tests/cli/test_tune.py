"""Measuring how a model runs best, and what the server makes of it; ``saccade verify``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from lamps import Typed, mapper
from msgspec.structs import replace

from saccade import media
from saccade.card import Card
from saccade.engine.tuned import FILE, tune, tuned
from saccade.runtimes.session import Compute
from saccade.stores.local import Local


def lamps(models: Path) -> Card:
    card = Local([models]).find("lamps")
    assert card is not None
    return card


def test_every_way_is_tried_the_best_is_kept_and_used(models: Path, tmp_path: Path) -> None:
    card, compute = lamps(models), Compute(threads=2, streams=2, cache_dir=str(tmp_path))
    told: list[tuple[int, int]] = []
    outcome = tune(card, compute, lambda done, total: told.append((done, total)), round_s=0.02)
    assert [(trial.streams, trial.precision) for trial in outcome.trials] == [(2, "auto"), (1, "auto"), (2, "f32")]
    assert outcome.best in outcome.trials
    assert told[-1] == (9, 9)
    used = tuned(card, compute)
    assert (used.streams, used.threads, used.precision) == (
        outcome.best.streams,
        outcome.best.threads,
        outcome.best.precision,
    )


def test_ctrl_c_does_not_wait_for_the_end_of_a_round(models: Path, tmp_path: Path) -> None:
    words = ["tune", "lamps", "--models", str(models), "--home", str(tmp_path), "--seconds", "600"]
    with subprocess.Popen([sys.executable, "-m", "saccade", *words], stderr=subprocess.PIPE) as running:
        try:
            end = time.monotonic() + 120
            while not any(tmp_path.rglob("*.blob")):  # the graph is compiled before the first round
                assert time.monotonic() < end
                time.sleep(0.1)
            time.sleep(1)
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 1
        finally:
            running.kill()


def test_that_nothing_can_be_kept_is_told_before_anything_is_measured(
    typed: Typed, models: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "compiled").write_text("a file where a folder belongs")
    began = time.monotonic()
    told = typed("tune", "lamps", "--models", models, "--home", home, "--seconds", "5")
    assert told.exit_code == 1
    assert time.monotonic() - began < 30, "nine rounds of five seconds were measured first"
    assert "compiled" in told.stderr
    assert "Traceback" not in told.stderr


def test_what_was_measured_counts_for_these_files_and_this_budget_only(models: Path, tmp_path: Path) -> None:
    card, compute = lamps(models), Compute(threads=2, streams=2, cache_dir=str(tmp_path))
    tune(card, compute, round_s=0.01)
    kept = json.loads((tmp_path / FILE).read_text())
    for trial in kept.values():
        trial |= {"streams": 1, "threads": 1}
    (tmp_path / FILE).write_text(json.dumps(kept))
    assert tuned(card, compute).streams == 1
    for other in (replace(compute, threads=4, streams=4), replace(compute, precision="f32")):
        assert tuned(card, other) == other
    changed = replace(card, revision="other")
    assert tuned(changed, compute) == compute


def test_a_damaged_file_counts_as_nothing_measured(models: Path, tmp_path: Path) -> None:
    compute = Compute(threads=2, streams=2, cache_dir=str(tmp_path))
    (tmp_path / FILE).write_text("{")
    assert tuned(lamps(models), compute) == compute


def test_verify_compares_the_two_precisions(typed: Typed, models: Path, photos: Path) -> None:
    told = typed("verify", "lamps", photos, "--models", models, "--json")
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout)
    assert (report["images"], report["own_pictures"]) == (2, True)
    assert report["difference"]["matched"] == 1
    shown = typed("verify", "lamps", "--models", models).stdout
    assert "drawn pictures" in shown
    assert "saccade verify lamps photos/" in shown
    assert "outputs' error" in shown
    own = typed("verify", "lamps", photos / "bright.png", "--models", models).stdout
    assert "photos/" not in own
    assert "outputs' error" not in own
    assert "They agree." in shown


@pytest.mark.parametrize("task", ["depth", "semantic"])
def test_verify_counts_the_pixels_of_maps_and_no_objects(typed: Typed, tmp_path: Path, task: str) -> None:
    shown = typed("verify", "map", "--models", mapper(tmp_path / "map" / "map.onnx", task).parent).stdout
    assert "equal pixels" in shown
    assert "found by both" not in shown
    assert "only by" not in shown
    # Classes are no nearer to one than to another.
    assert ("outputs' error" in shown) == (task == "depth")


def test_verify_has_a_line_for_each_side_also_where_both_are_f32(typed: Typed, models: Path, photos: Path) -> None:
    """It told twice what was found "only by f32", on a processor without anything faster."""
    told = typed("verify", "lamps", photos, "--models", models)
    names = [line.strip().split("  ")[0] for line in told.stdout.splitlines()]
    assert len(names) == len(set(names)) > 5


def test_verify_leaves_out_the_videos_that_lie_beside_the_pictures(typed: Typed, models: Path, photos: Path) -> None:
    film = photos / "film.mp4"
    with media.VideoWriter(film, fps=10) as writer:
        writer.write(np.zeros((120, 160, 3), np.uint8))
    told = typed("verify", "lamps", photos, "--models", models, "--json")
    assert (told.exit_code, json.loads(told.stdout)["images"]) == (0, 2)
    assert "film.mp4 is a video, and left out" in told.stderr
    odd = film.rename(photos / "fi\rlm.mp4")
    alone = typed("verify", "lamps", odd, "--models", models)
    assert (alone.exit_code, "no picture to compare" in alone.stderr) == (1, True)
    assert "fi?lm.mp4 is a video" in alone.stderr  # no terminal obeys a name


def test_verify_names_a_picture_that_cannot_be_read(typed: Typed, models: Path, photos: Path) -> None:
    (photos / "empty.png").write_bytes(b"")
    told = typed("verify", "lamps", photos, "--models", models)
    assert told.exit_code == 1
    assert "empty.png" in told.stderr

"""Folders of models: what is recognised, what is refused and how, and that changes are noticed."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from saccade.call import Options
from saccade.errors import CorruptFiles, UnsupportedModel
from saccade.families.classifier import Classifier
from saccade.stores import local as folders
from saccade.stores.local import Local
from stores.toy import DETECTOR, hub_folder, onnx_file


def test_a_file_is_served_under_its_stem_with_the_facts_of_its_metadata(tmp_path: Path) -> None:
    onnx_file(tmp_path / "best.v1.onnx", metadata=DETECTOR)
    card = Local([tmp_path]).find("best.v1")
    assert card is not None
    assert (card.task, card.family, card.runtime, card.labels[79]) == ("detect", "yolo", "openvino", "name79")
    assert (card.input_hw, card.dynamic, card.stride, card.licence) == ((640, 640), False, 32, "AGPL-3.0")
    assert card.files == (str(tmp_path / "best.v1.onnx"),)


def test_a_graph_of_fixed_size_is_not_dynamic_whatever_its_metadata_says(tmp_path: Path) -> None:
    onnx_file(tmp_path / "fixed.onnx", metadata={**DETECTOR, "args": "{'dynamic': True}"})
    onnx_file(tmp_path / "free.onnx", metadata={**DETECTOR, "args": "{'dynamic': False}"}, hw=("h", "w"))
    found = [Local([tmp_path]).find(name) for name in ("fixed", "free")]
    assert [card.dynamic for card in found if card] == [False, True]


def test_the_revision_of_a_cached_repository_is_a_name_beside_the_others(tmp_path: Path) -> None:
    outside = hub_folder(tmp_path / "outside")
    cached = tmp_path / "models" / "models--a--b"
    (cached / "refs").mkdir(parents=True)
    (cached / "snapshots").mkdir()
    for written in (str(outside), "../../../outside"):
        (cached / "refs" / "main").write_text(written)
        assert Local([tmp_path / "models"]).entries() == ()


def test_of_several_revisions_in_a_cache_the_one_of_main_is_served(tmp_path: Path) -> None:
    cached = tmp_path / "models--a--b"
    for revision in ("old", "new"):
        hub_folder(cached / "snapshots" / revision)
    (cached / "refs").mkdir()
    for revision in ("old", "new"):
        (cached / "refs" / "main").write_text(f"{revision}\n")
        card = Local([tmp_path]).find("a/b")
        assert card is not None
        assert {Path(file).parent.name for file in card.files} == {revision}


def test_a_repository_is_served_as_soon_as_its_missing_file_comes(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "hub")
    weights = folder / "model.safetensors"
    kept = weights.read_bytes()
    weights.unlink()
    local = Local([tmp_path])
    assert "no weights" in local.problems()["hub"].message
    weights.write_bytes(kept)
    assert (local.problems(), [card.name for card in local.cards()]) == ({}, ["hub"])


def test_links_that_lead_to_themselves_and_names_of_odd_bytes_do_not_hide_the_others(tmp_path: Path) -> None:
    onnx_file(tmp_path / "sound.onnx", metadata=DETECTOR)
    (tmp_path / "ring.onnx").symlink_to("ring.onnx")
    (tmp_path / "ring").symlink_to("ring")
    shutil.copy(tmp_path / "sound.onnx", os.fsencode(tmp_path) + b"/caf\xe9.onnx")
    (hub_folder(tmp_path / "hub") / os.fsdecode(b"\xe9.txt")).write_text("no part of the model")
    local = Local([tmp_path])
    assert {card.name for card in local.cards()} == {"sound", "hub"}
    problems = local.problems()
    assert "symbolic links" in problems["ring"].message
    assert "not written in UTF-8" in problems["caf\ufffd"].message


def test_pipes_beside_models_hold_up_nobody(tmp_path: Path) -> None:
    onnx_file(tmp_path / "sound.onnx", metadata=DETECTOR)
    onnx_file(tmp_path / "noted.onnx", metadata=DETECTOR)
    for pipe in ("graph.onnx", "lite.tflite", "paddle.pdmodel", "noted.toml"):
        os.mkfifo(tmp_path / pipe)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "config.json")
    local = Local([tmp_path])
    looking = Thread(target=local.outcomes, daemon=True)
    looking.start()
    looking.join(20)
    assert not looking.is_alive()
    assert {card.name for card in local.cards()} == {"sound"}
    problems = local.problems()
    assert problems.keys() == {"noted", "graph", "lite", "paddle"}
    assert "'lite.tflite' is a pipe, a socket or a device" in problems["lite"].message
    assert "'noted.toml' is no file" in problems["noted"].message


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"


@pytest.mark.parametrize("file", ["a.onnx", "hub/model.safetensors", "hub/model.onnx", "ir.bin", "weights.onnx.data"])
def test_a_pointer_of_git_lfs_is_called_what_it_is(tmp_path: Path, file: str) -> None:
    import onnx
    import openvino
    from onnx.external_data_helper import convert_model_to_external_data

    onnx_file(tmp_path / "a.onnx", metadata=DETECTOR)
    hub_folder(tmp_path / "hub")
    openvino.save_model(openvino.Core().read_model(onnx_file(tmp_path / "o" / "ir.onnx")), tmp_path / "ir.xml")
    (tmp_path / "ir.toml").write_text("family = 'yolo'\ntask = 'detect'\n")
    model = onnx.load(onnx_file(tmp_path / "weights.onnx", metadata=DETECTOR))
    convert_model_to_external_data(model, location="weights.onnx.data", size_threshold=0)
    onnx.save(model, tmp_path / "weights.onnx")
    (tmp_path / file).write_text(POINTER)
    problems = Local([tmp_path]).problems()
    told = problems[file.split("/")[0].split(".")[0]].message
    assert told.startswith(f"'{Path(file).name}' is only a pointer of Git LFS")
    assert "git lfs pull" in told


def test_a_folder_that_may_not_be_read_is_named_and_the_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_file(tmp_path / "open.onnx", metadata=DETECTOR)
    (tmp_path / "shut" / "inside").mkdir(parents=True)
    shut = str(tmp_path / "shut")
    scan, stat = os.scandir, os.stat

    def refusing(original: Any) -> Any:
        def asked(path: Any = ".", *rest: Any, **more: Any) -> Any:
            if (str(path) == shut and original is scan) or str(path).startswith(shut + os.sep):
                raise PermissionError(13, "Permission denied", str(path))
            return original(path, *rest, **more)

        return asked

    monkeypatch.setattr(os, "scandir", refusing(scan))
    monkeypatch.setattr(os, "stat", refusing(stat))
    local = Local([tmp_path])
    assert local.find("open") is not None
    with pytest.raises(CorruptFiles, match=r"'shut' cannot be read: Permission denied"):
        local.find("shut")
    assert list(local.problems()) == ["shut"]


@pytest.mark.parametrize("ref", ["yolo11n", "YOLO11N", "yolo11n.pt", "yolo11n.onnx", "Yolo11n.PT", " yolo11n "])
def test_a_name_is_found_in_any_case_and_with_any_suffix(tmp_path: Path, ref: str) -> None:
    onnx_file(tmp_path / "yolo11n.onnx", metadata=DETECTOR)
    card = Local([tmp_path]).find(ref)
    assert card is not None
    assert card.name == "yolo11n"


@pytest.mark.parametrize(
    ("outputs", "hw", "family", "task", "classes"),
    [
        ([(1, 3549, 85)], (416, 416), "yolox", "detect", 80),
        ([(1, 8400, 7)], (640, 640), "yolox", "detect", 2),
        ([(1, 8400, 84)], (640, 640), "yolo", "detect", 80),
        ([(1, 25200, 85)], (640, 640), "yolo", "detect", 80),
        ([(1, 25200, 117), (1, 32, 160, 160)], (640, 640), "yolo", "segment", 80),
        ([(1, 84, 8400)], (640, 640), "yolo", "detect", 80),
        ([(1, 116, 8400), (1, 32, 160, 160)], (640, 640), "yolo", "segment", 80),
        ([(1, 84, "n")], ("h", "w"), "yolo", "detect", 80),
        ([(1, 84, "n")], ("h", 640), "yolo", "detect", 80),
        ([(1, 56, 8400)], (640, 640), "yolo", "pose", 1),
        ([(1, 300, 6)], (640, 640), "yolo", "detect", 0),
    ],
)
def test_detectors_without_metadata_are_told_by_their_shapes(
    tmp_path: Path,
    outputs: list[tuple[int | str, ...]],
    hw: tuple[int | str, int | str],
    family: str,
    task: str,
    classes: int,
) -> None:
    onnx_file(tmp_path / "m.onnx", outputs, hw=hw)
    card = Local([tmp_path]).find("m")
    assert card is not None
    assert (card.family, card.task, len(card.labels)) == (family, task, classes)


OBB = {**DETECTOR, "task": "obb", "names": str({number: f"name{number}" for number in range(15)})}
POSE = {**DETECTOR, "task": "pose", "names": "{0: 'hand'}", "kpt_shape": "[21, 3]"}


@pytest.mark.parametrize(
    ("metadata", "lost", "shape", "task", "labels"),
    [
        (DETECTOR, "names", (1, 9, 8400), "detect", {number: f"class{number}" for number in range(5)}),
        (OBB, "names", (1, 20, 8400), "obb", {number: f"class{number}" for number in range(15)}),
        (POSE, "names", (1, 68, "n"), "pose", {0: "class0"}),
        ({**POSE, "kpt_shape": "[17, 3]"}, "names", (1, 56, 8400), "pose", {0: "person"}),
        ({**DETECTOR, "task": "classify"}, "names", (1, 3), "classify", {n: f"class{n}" for n in range(3)}),
        (DETECTOR, "names", (1, 300, 6), "detect", {}),
        (POSE, "task", (1, 68, 8400), "pose", {0: "hand"}),
        ({"names": "['cat', 'dog']"}, "", (1, 6, 8400), "detect", {0: "cat", 1: "dog"}),
    ],
)
def test_what_is_left_of_the_metadata_counts(
    tmp_path: Path,
    metadata: dict[str, str],
    lost: str,
    shape: tuple[int | str, ...],
    task: str,
    labels: dict[int, str],
) -> None:
    onnx_file(tmp_path / "m.onnx", [shape], {key: value for key, value in metadata.items() if key != lost})
    card = Local([tmp_path]).find("m")
    assert card is not None
    assert (card.task, card.family, card.labels) == (task, "yolo", labels)


@pytest.mark.parametrize(
    ("task", "shape", "meant"), [("semantic", (1, 640, 640), "segment"), ("depth", (1, 1, 640, 640), "depth")]
)
def test_maps_of_ultralytics_have_a_family_of_their_own(
    tmp_path: Path, task: str, shape: tuple[int, ...], meant: str
) -> None:
    onnx_file(tmp_path / "m.onnx", [shape], {**DETECTOR, "task": task})
    card = Local([tmp_path]).find("m")
    assert card is not None
    assert (card.family, card.task, len(card.labels), card.input_hw) == ("yolo_maps", meant, 80, (640, 640))


@pytest.mark.parametrize("metadata", [{}, {"names": "['cat', 'dog']", "stride": "32"}])
@pytest.mark.parametrize(
    ("shapes", "name"), [([("n", 7)], "output"), ([(1, 1), (1, 100, 4), (1, 100), (1, 100)], "num_dets")]
)
def test_rows_after_a_suppression_in_the_graph_are_no_scores_of_classes(
    tmp_path: Path, shapes: list[tuple[int | str, ...]], name: str, metadata: dict[str, str]
) -> None:
    onnx_file(tmp_path / "m.onnx", shapes, metadata, names=("images", name))
    with pytest.raises(UnsupportedModel, match=r"non-maximum suppression .* without --end2end"):
        Local([tmp_path]).find("m")


def test_graphs_of_the_shape_of_a_yolox_are_told_by_the_names_that_their_exporters_give(tmp_path: Path) -> None:
    for name, port_names in {
        "x": ("images", "output"),
        "v6": ("images", "outputs"),
        "nano": ("data", "output"),
    }.items():
        onnx_file(tmp_path / f"{name}.onnx", [(1, 8400, 85)], names=port_names)
    local = Local([tmp_path])
    families = {name: card.family for name in ("x", "v6") if (card := local.find(name))}
    assert families == {"x": "yolox", "v6": "yolo"}
    with pytest.raises(UnsupportedModel, match=r"data \[1,3,640,640\].*nano\.toml"):
        local.find("nano")


@pytest.mark.parametrize(
    "shapes",
    [
        [(1, 1000)],
        [(1, 8400, 4)],
        [(1, 5)],
        [(1, 512, 7, 7)],
        [(1, 1234, 85)],
        [(1, 8400, 80), (1, 8400, 4)],  # scores and boxes apart: DAMO-YOLO, PP-YOLOE
    ],
)
def test_shapes_that_fit_nothing_are_refused_with_what_was_found(
    tmp_path: Path, shapes: list[tuple[int | str, ...]]
) -> None:
    onnx_file(tmp_path / "m.onnx", shapes)
    with pytest.raises(UnsupportedModel, match=r"images \[1,3,640,640\].*m\.toml"):
        Local([tmp_path]).find("m")


def test_a_size_that_is_free_in_one_direction_alone_stays_what_it_was_exported_for(tmp_path: Path) -> None:
    named = {**DETECTOR, "imgsz": "[384, 640]"}
    onnx_file(tmp_path / "wide.onnx", [(1, 84, "n")], named, hw=(384, "w"))
    onnx_file(tmp_path / "high.onnx", [(1, 84, "n")], named, hw=("h", 640))
    onnx_file(tmp_path / "bare.onnx", [(1, 84, "n")], {**DETECTOR, "imgsz": "None"}, hw=("h", 320))
    found = {card.name: (card.input_hw, card.dynamic) for card in Local([tmp_path]).cards()}
    assert found == {"wide": ((384, 640), False), "high": ((384, 640), False), "bare": ((320, 320), False)}


def test_classes_that_were_counted_for_another_task_than_the_sidecars_are_forgotten(tmp_path: Path) -> None:
    onnx_file(tmp_path / "m.onnx", [(1, 20, 8400)])
    (tmp_path / "m.toml").write_text('task = "obb"')
    card = Local([tmp_path]).find("m")
    assert card is not None
    assert (card.task, card.labels) == ("obb", {})
    (tmp_path / "m.toml").write_text('task = "obb"\nlabels = ["plane", "ship"]')
    card = Local([tmp_path]).find("m")
    assert card is not None
    assert card.labels == {0: "plane", 1: "ship"}


@pytest.mark.parametrize(("channels", "told"), [("1", "1 channel;"), ("10", "10 channels;")])
def test_models_for_other_than_colour_pictures_are_refused_before_they_are_opened(
    tmp_path: Path, channels: str, told: str
) -> None:
    onnx_file(tmp_path / "m.onnx", metadata={**DETECTOR, "channels": channels})
    with pytest.raises(UnsupportedModel, match=told):
        Local([tmp_path]).find("m")


def test_a_sidecar_wins_over_the_model_and_may_name_what_it_does_not_say(tmp_path: Path) -> None:
    onnx_file(tmp_path / "m.onnx", [(1, 2)], hw=(224, 224))
    notes = 'family = "classifier"\ntask = "classify"\nlabels = ["cat", "dog"]\naliases = ["pets"]\nlicence = "MIT"\n'
    (tmp_path / "m.toml").write_text(notes + "[config]\nresize = 256\n")
    card = Local([tmp_path]).find("pets")
    assert card is not None
    assert (card.name, card.family, card.task, card.labels) == ("m", "classifier", "classify", {0: "cat", 1: "dog"})
    assert (card.config["resize"], card.licence, card.input_hw) == (256, "MIT", (224, 224))


@pytest.mark.parametrize(("file", "notes"), [("m.toml", "labels = ['cat']"), ("m.json", '{"labels": ["cat"]}')])
def test_a_sidecar_may_begin_with_the_mark_that_editors_of_windows_write(tmp_path: Path, file: str, notes: str) -> None:
    onnx_file(tmp_path / "m.onnx", [(1, 5, 8400)])
    (tmp_path / file).write_text(notes, "utf-8-sig")
    card = Local([tmp_path]).find("m")
    assert card is not None
    assert card.labels == {0: "cat"}


def test_a_sidecar_may_name_a_shared_list_of_labels(tmp_path: Path) -> None:
    onnx_file(tmp_path / "m.onnx", [(1, 84, 8400)])
    (tmp_path / "m.json").write_text('{"labels": "voc-21"}')
    card = Local([tmp_path]).find("m")
    assert card is not None
    assert card.labels[15] == "person"


@pytest.mark.parametrize(
    "notes", ["famly = 'yolo'", "task = 'dance'", "labels = 3", "= =", "labels = 'coco-99'", "[labels]\na = 'x'"]
)
def test_a_wrong_sidecar_is_named_with_its_fault(tmp_path: Path, notes: str) -> None:
    onnx_file(tmp_path / "m.onnx")
    (tmp_path / "m.toml").write_text(notes)
    with pytest.raises(CorruptFiles, match=r"m\.toml|labels"):
        Local([tmp_path]).find("m")


def test_an_exported_folder_has_the_models_name_unless_a_file_beside_it_has_it(tmp_path: Path) -> None:
    for export in ("a_openvino_model", "b_onnx_model"):
        onnx_file(tmp_path / export / "best.onnx", metadata=DETECTOR)
    onnx_file(tmp_path / "b.onnx", metadata=DETECTOR)
    assert {card.name for card in Local([tmp_path]).cards()} == {"a", "b", "b_onnx_model"}


def test_folders_are_searched_for_an_owner_a_project_and_a_model_and_no_deeper(tmp_path: Path) -> None:
    for name in ("model", "owner/model", "owner/project/model", "owner/project/backup/model"):
        onnx_file(tmp_path / f"{name}.onnx", metadata=DETECTOR)
    (tmp_path / "owner" / "again").symlink_to(tmp_path)
    names = {entry.name for entry in Local([tmp_path]).entries()}
    assert names == {"model", "owner/model", "owner/project/model", "owner/again/model"}


def test_a_file_that_comes_within_one_tick_of_the_clock_is_noticed(tmp_path: Path) -> None:
    """Some file systems count whole seconds, and others the ticks of the kernel."""
    onnx_file(tmp_path / "a.onnx", metadata=DETECTOR)
    local = Local([tmp_path])
    now = time.time_ns()
    os.utime(tmp_path, ns=(now, now))
    assert {card.name for card in local.cards()} == {"a"}
    onnx_file(tmp_path / "b.onnx", metadata=DETECTOR)
    os.utime(tmp_path, ns=(now, now))
    assert {card.name for card in local.cards()} == {"a", "b"}


def test_documents_beside_models_are_no_models(tmp_path: Path) -> None:
    """Of a graph by OpenVINO there are two files; photos have descriptions in XML, too, as Pascal VOC wrote them."""
    onnx_file(tmp_path / "best.onnx", metadata=DETECTOR)
    (tmp_path / "photo.xml").write_text("<annotation><folder>photos</folder></annotation>")
    (tmp_path / "._best.onnx").write_bytes(b"what macOS notes of a file on a stick")
    onnx_file(tmp_path / ".trash" / "old.onnx", metadata=DETECTOR)
    local = Local([tmp_path])
    assert [entry.name for entry in local.entries()] == ["best"]
    assert local.problems() == {}


def test_of_several_files_of_one_name_one_is_listed_and_served(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        onnx_file(tmp_path / folder / "a.onnx", metadata=DETECTOR)
    (tmp_path / "one" / "a.pt").write_bytes(b"what the graph was made of")
    local = Local([tmp_path / "one", tmp_path / "other"])
    assert [card.files for card in local.cards()] == [(str(tmp_path / "one" / "a.onnx"),)]
    assert [entry.name for entry in local.entries()] == ["a"]


def test_every_cut_and_every_flipped_byte_of_a_model_is_a_clear_error_or_a_card(tmp_path: Path) -> None:
    whole = onnx_file(tmp_path / "good.onnx", metadata=DETECTOR).read_bytes()
    folder = tmp_path / "broken"
    folder.mkdir()
    for length in range(0, len(whole), 97):
        (folder / f"cut{length}.onnx").write_bytes(whole[:length])
    for place in range(0, len(whole), 31):
        (folder / f"flip{place}.onnx").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
    store = Local([folder])
    problems = store.problems()
    assert sum(name.startswith("cut") for name in problems) == len(range(0, len(whole), 97))
    assert all(isinstance(error, CorruptFiles | UnsupportedModel) for error in problems.values())
    assert len(problems) + len(list(store.cards())) == len(list(folder.iterdir()))


def test_one_broken_file_does_not_hide_the_others(tmp_path: Path) -> None:
    onnx_file(tmp_path / "good.onnx", metadata=DETECTOR)
    (tmp_path / "html.onnx").write_bytes(b"<!DOCTYPE html><html>not found</html>")
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "dangling.onnx").symlink_to(tmp_path / "gone.onnx")
    store = Local([tmp_path, tmp_path / "missing folder"])
    assert [card.name for card in store.cards()] == ["good"]
    assert set(store.problems()) == {"html", "empty", "dangling"}
    with pytest.raises(CorruptFiles, match=r"'empty.onnx' is empty"):
        store.find("empty")


def test_files_that_come_change_and_go_are_noticed_at_the_next_lookup(tmp_path: Path) -> None:
    store = Local([tmp_path])
    assert store.find("m") is None
    onnx_file(tmp_path / "m.onnx", [(1, 84, 8400)])
    first = store.find("m")
    onnx_file(tmp_path / "m.onnx", [(1, 6, 8400)])
    second = store.find("m")
    assert first is not None
    assert second is not None
    assert (len(first.labels), len(second.labels)) == (80, 2)
    assert first.revision != second.revision
    assert store.find("m") == second
    (tmp_path / "m.toml").write_text('labels = ["a", "b"]')
    third = store.find("m")
    assert third is not None
    assert third.labels == {0: "a", 1: "b"}
    (tmp_path / "m.onnx").unlink()
    assert store.find("m") is None


def test_a_model_that_was_copied_in_while_it_was_looked_at_is_read_again_when_it_is_whole(tmp_path: Path) -> None:
    whole = onnx_file(tmp_path / "x" / "whole.onnx", metadata=DETECTOR).read_bytes()
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "m.onnx").write_bytes(whole[:500])
    store = Local([folder])
    with pytest.raises(CorruptFiles, match=r"still needed|ends at byte"):
        store.find("m")
    with (folder / "m.onnx").open("ab") as file:
        file.write(whole[500:])
    assert store.find("m") is not None


def test_a_model_stays_what_it_was_while_its_file_is_written_over_and_when_that_is_no_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = onnx_file(tmp_path / "m.onnx", [(1, 84, 8400)])
    other = onnx_file(tmp_path / "x" / "other.onnx", [(1, 6, 8400)]).read_bytes()
    store = Local([tmp_path])
    first = store.find("m")
    assert first is not None
    for half in (b"", other[:300], b"<html>not found</html>"):
        file.write_bytes(half)
        assert store.find("m") == first
        assert first in store.cards()
        assert "m" in store.problems()
        assert "'m' stays what it was" in caplog.messages[-1]
    file.write_bytes(other)
    second = store.find("m")
    assert second is not None
    assert len(second.labels) == 2
    assert "m" not in store.problems()


def test_a_checkpoint_is_refused_with_the_way_to_convert_it_unless_its_export_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"PK\x03\x04")
    store = Local([tmp_path])
    with pytest.raises(UnsupportedModel, match=r"AGPL-3\.0.*saccade add best best\.pt --install-ultra.*format=onnx"):
        store.find("best.pt")
    onnx_file(tmp_path / "best.onnx", metadata=DETECTOR)
    found = store.find("best.pt")
    assert found is not None
    assert found.files[0].endswith("best.onnx")


def test_repositories_are_served_under_their_folder_or_owner_and_name(tmp_path: Path) -> None:
    hub_folder(tmp_path / "vit")
    hub_folder(tmp_path / "google" / "vit-base", "SegformerForSemanticSegmentation")
    cached = hub_folder(tmp_path / "models--me--mine" / "snapshots" / "abc", "RTDetrForObjectDetection")
    (tmp_path / "models--me--mine" / "refs").mkdir()
    (tmp_path / "models--me--mine" / "refs" / "main").write_text(cached.name)
    found = {card.name: (card.task, card.family) for card in Local([tmp_path]).cards()}
    assert found == {
        "vit": ("classify", "classifier"),
        "google/vit-base": ("segment", "semantic"),
        "me/mine": ("detect", "rtdetr"),
    }
    card = Local([tmp_path / "vit"]).find("vit")
    assert card is not None
    assert card.labels == {0: "cat", 1: "dog"}
    assert card.config["preprocessor"] == {"do_resize": True}


NAMES = [
    "it's",
    "a: b",
    'say "x"',
    "caf\u00e9 \u2615",
    "\u00b2",
    "--5",
    "7",
    "on",
    "",
    "a # b",
    "long name " * 12 + "!",
]


def test_class_names_of_metadata_yaml_are_those_that_were_written(tmp_path: Path) -> None:
    import openvino
    import yaml

    source = openvino.Core().read_model(onnx_file(tmp_path / "source" / "m.onnx", [(1, 4 + len(NAMES), 8400)]))
    openvino.save_model(source, tmp_path / "served" / "m_openvino_model" / "m.xml")
    written = {"description": "toy " * 40, "task": "detect", "names": dict(enumerate(NAMES)), "imgsz": [640, 640]}
    (tmp_path / "served" / "m_openvino_model" / "metadata.yaml").write_text(
        yaml.safe_dump(written, sort_keys=False, allow_unicode=True), "utf-8"
    )
    card = Local([tmp_path / "served"]).find("m")
    assert card is not None
    assert card.labels == dict(enumerate(NAMES))


def test_class_names_of_metadata_yaml_may_stand_in_braces_as_old_writers_put_them(tmp_path: Path) -> None:
    import openvino
    import yaml

    names = [f"name {number}" for number in range(80)]
    source = openvino.Core().read_model(onnx_file(tmp_path / "source" / "m.onnx", [(1, 84, 8400)]))
    for form, written in {"table": dict(enumerate(names)), "list": names}.items():
        folder = tmp_path / "served" / f"{form}_openvino_model"
        openvino.save_model(source, folder / "m.xml")
        facts = {"stride": 32, "task": "detect", "imgsz": [640, 640], "names": written, "args": {}}
        text = yaml.safe_dump(facts, sort_keys=False, default_flow_style=None)
        assert "names: {" in text or "names: [" in text
        (folder / "metadata.yaml").write_text(text, "utf-8")
    found = {card.name: (card.labels, card.input_hw) for card in Local([tmp_path / "served"]).cards()}
    assert found == dict.fromkeys(("table", "list"), (dict(enumerate(names)), (640, 640)))


def test_class_names_may_be_written_as_json_and_strides_as_anything(tmp_path: Path) -> None:
    for number, stride in enumerate(("1e999", "['a', 16]", "[[1], 2]", "[8, 16, 64]")):
        facts = {**DETECTOR, "names": '{"0": "cat", "1": "dog"}', "stride": stride}
        onnx_file(tmp_path / f"m{number}.onnx", [(1, 6, 8400)], facts)
    cards = list(Local([tmp_path]).cards())
    assert [card.labels for card in cards] == [{0: "cat", 1: "dog"}] * 4
    assert [card.stride for card in cards] == [32, 16, 2, 64]


def test_broken_repositories_say_what_is_broken(tmp_path: Path) -> None:
    cut = hub_folder(tmp_path / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1])
    (hub_folder(tmp_path / "json") / "config.json").write_text("{")
    (hub_folder(tmp_path / "bare") / "model.safetensors").unlink()
    pickled = hub_folder(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    sharded = hub_folder(tmp_path / "sharded")
    (sharded / "model.safetensors").rename(sharded / "pytorch_model-00001-of-00001.bin")
    (sharded / "pytorch_model.bin.index.json").write_text("{}")
    hub_folder(tmp_path / "text", "LlamaForCausalLM")
    with_weights_beside(onnx_file(hub_folder(tmp_path / "apart") / "onnx" / "model.onnx"), "w.data").unlink()
    onnx_file(hub_folder(tmp_path / "graph") / "model.onnx").write_bytes(b"<html>")
    problems = {name: error.message for name, error in Local([tmp_path]).problems().items()}
    assert "bytes" in problems["cut"]
    assert "not JSON" in problems["json"]
    assert "no weights" in problems["bare"]
    assert "pickle" in problems["pickled"]
    assert "pickle" in problems["sharded"]
    assert "LlamaForCausalLM" in problems["text"]
    assert "'model.onnx' needs its weights 'w.data' beside it" in problems["apart"]
    assert "'model.onnx' is not a whole ONNX model" in problems["graph"]


def with_weights_beside(file: Path, location: str) -> Path:
    """Puts the weights of an ONNX file into another one."""
    import onnx

    onnx.save_model(onnx.load(file), file, save_as_external_data=True, location=location, size_threshold=0)
    return file.with_name(location)


def test_weights_of_a_repositorys_graph_are_its_files_whatever_they_are_called(tmp_path: Path) -> None:
    weights = with_weights_beside(onnx_file(hub_folder(tmp_path / "vit") / "onnx" / "model.onnx"), "w.data")
    card = Local([tmp_path]).find("vit")
    assert card is not None
    assert str(weights) in card.files
    assert card.size_bytes >= weights.stat().st_size


def test_the_revision_changes_with_weights_beside_a_graph_and_graphs_in_a_folder_of_their_own(tmp_path: Path) -> None:
    import onnx
    from onnx.external_data_helper import convert_model_to_external_data

    model = onnx.load(onnx_file(tmp_path / "m.onnx", metadata=DETECTOR))
    convert_model_to_external_data(model, location="m.onnx.data", size_threshold=0)
    onnx.save(model, tmp_path / "m.onnx")
    onnx_file(hub_folder(tmp_path / "hub") / "onnx" / "model.onnx")
    local = Local([tmp_path])
    before = {card.name: card.revision for card in local.cards()}
    (tmp_path / "m.onnx.data").write_bytes(bytes(512))
    onnx_file(tmp_path / "hub" / "onnx" / "model.onnx", hw=(64, 64))
    after = {card.name: card.revision for card in local.cards()}
    assert before.keys() == after.keys() == {"m", "hub"}
    assert all(before[name] != after[name] for name in before)


@pytest.mark.parametrize("inside", ["", "inside"])
def test_a_config_json_of_another_program_does_not_hide_the_graphs_beside_it(tmp_path: Path, inside: str) -> None:
    onnx_file(tmp_path / inside / "m.onnx", metadata=DETECTOR)
    (tmp_path / inside / "config.json").write_text('{"camera": 1}')
    assert [card.name for card in Local([tmp_path]).cards()] == [f"{inside}/m".strip("/")]


def test_weights_under_other_names_are_told(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    onnx_file(folder / "onnx" / "model_quantized.onnx")
    told = Local([tmp_path]).problems()["m"].message
    assert "cannot use its model.fp16.safetensors, onnx/model_quantized.onnx; expected model.safetensors" in told


@pytest.mark.parametrize("config", [False, True])
def test_an_adapter_without_its_model_says_how_it_becomes_one(tmp_path: Path, config: bool) -> None:
    folder = hub_folder(tmp_path / "runs" / "lora")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    if not config:
        (folder / "config.json").unlink()
    assert "merge_and_unload()" in Local([tmp_path]).problems()["runs/lora"].message
    if config:
        (folder / "adapter_model.safetensors").rename(folder / "model.safetensors")
        assert Local([tmp_path]).find("runs/lora") is not None


def test_an_adapter_hides_no_model_beside_it_or_inside_it(tmp_path: Path) -> None:
    for name in ("run", "run/checkpoint-500", "exported"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    store = Local([tmp_path])
    assert [*store.problems()] == ["exported", "run"]
    hub_folder(tmp_path / "run" / "merged")
    onnx_file(tmp_path / "exported" / "yolo.onnx")
    assert {card.name for card in store.cards()} == {"run/merged", "exported/yolo"}
    assert "merge_and_unload()" in store.problems()["run/checkpoint-500"].message
    assert [card.name for card in Local([tmp_path / "run"]).cards()] == ["merged"]
    (tmp_path / "exported" / "yolo.onnx").unlink()
    shutil.copy(tmp_path / "run" / "merged" / "model.safetensors", tmp_path / "exported")
    assert "merge_and_unload()" in store.problems()["exported"].message, "weights alone are no model"


def test_a_checkpoint_of_which_nothing_says_how_pictures_are_prepared_is_not_guessed_at(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "m")
    (folder / "preprocessor_config.json").unlink()
    assert "has no preprocessor_config.json" in Local([tmp_path]).problems()["m"].message
    (tmp_path / "m.toml").write_text('[config.preprocessor]\nimage_processor_type = "ViTImageProcessor"\n')
    assert Local([tmp_path]).find("m") is not None
    (tmp_path / "m.toml").unlink()
    onnx_file(folder / "model.onnx")
    assert Local([tmp_path]).find("m") is not None


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"architectures": None, "model_type": "vit"}, r'names no class. Write under "architectures"'),
        ({"id2label": ["cat", "dog"]}, "does not lead from class numbers to names"),
        ({"id2label": {"cat": "0"}}, "does not lead from class numbers to names"),
    ],
)
def test_what_is_wrong_with_a_config_json_is_told(tmp_path: Path, facts: dict[str, object], told: str) -> None:
    folder = hub_folder(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **facts}))
    with pytest.raises((CorruptFiles, UnsupportedModel), match=told):
        Local([tmp_path]).find("m")


def test_a_name_is_found_however_its_accents_are_written(tmp_path: Path) -> None:
    apart, together = "Cafe\u0301", "Caf\u00e9"
    onnx_file(tmp_path / f"{apart}.onnx", metadata=DETECTOR)
    local = Local([tmp_path])
    for ref in (apart, together, together.lower(), f"{together}.onnx"):
        card = local.find(ref)
        assert card is not None, ref
        assert card.name == together


def test_of_two_files_whose_names_read_alike_one_is_served(tmp_path: Path) -> None:
    for name in ("Cafe\u0301", "Caf\u00e9"):
        onnx_file(tmp_path / f"{name}.onnx", metadata=DETECTOR)
    assert [card.name for card in Local([tmp_path]).cards()] == ["Caf\u00e9"]


def test_an_alias_is_found_however_its_accents_are_written(tmp_path: Path) -> None:
    onnx_file(tmp_path / "m.onnx", metadata=DETECTOR)
    (tmp_path / "m.toml").write_text('aliases = ["Cafe\u0301"]')
    assert Local([tmp_path]).find("caf\u00e9") is not None


def test_weights_outside_the_graphs_own_folder_are_refused(tmp_path: Path) -> None:
    import onnx
    from onnx.external_data_helper import convert_model_to_external_data

    onnx_file(tmp_path / "m.onnx", metadata=DETECTOR)
    model = onnx.load(tmp_path / "m.onnx")
    convert_model_to_external_data(model, location="m.data", size_threshold=0)
    onnx.save(model, tmp_path / "m.onnx")
    card = Local([tmp_path]).find("m")
    assert card is not None
    assert card.files == (str(tmp_path / "m.onnx"), str(tmp_path / "m.data"))
    raw = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.data").rename(tmp_path / "data")
    (tmp_path / "m.onnx").write_bytes(raw.replace(b"m.data", b"./data"))
    card = Local([tmp_path]).find("m")
    assert card is not None
    assert card.files == (str(tmp_path / "m.onnx"), str(tmp_path / "data"))
    (tmp_path / "m.onnx").write_bytes(raw.replace(b"m.data", b"../../"))
    with pytest.raises(CorruptFiles, match="outside its folder"):
        Local([tmp_path]).find("m")


@pytest.mark.parametrize(
    ("kind", "facts", "fits"),
    [
        ("ViT", {"size": {"height": 384, "width": 384}}, False),
        ("ViT", {"size": 640}, True),
        ("ViT", {"do_resize": False}, True),
        ("CLIP", {"size": {"shortest_edge": 700}, "crop_size": 640}, True),
        ("CLIP", {"size": {"shortest_edge": 640}, "crop_size": 224}, False),
        ("Detr", {"size": {"shortest_edge": 640, "longest_edge": 1333}}, True),
        ("Detr", {"size": {"shortest_edge": 800, "longest_edge": 1333}}, False),
        ("Unheard", {"size": 384}, True),
    ],
)
def test_a_ready_graph_of_a_size_that_no_picture_is_brought_to_is_refused(
    tmp_path: Path, kind: str, facts: dict[str, object], fits: bool
) -> None:
    folder = hub_folder(tmp_path / "m")
    onnx_file(folder / "model.onnx")
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": f"{kind}ImageProcessor", **facts})
    )
    if fits:
        assert Local([tmp_path]).find("m") is not None
        return
    with pytest.raises(UnsupportedModel, match=r"takes pictures of 640×640 pixels.*makes them [0-9]+×[0-9]+"):
        Local([tmp_path]).find("m")


@pytest.mark.parametrize(("facts", "fits"), [({}, False), ({"do_pad": False}, True)])
def test_a_ready_graph_that_cannot_be_told_what_is_padded_is_refused(
    tmp_path: Path, facts: dict[str, object], fits: bool
) -> None:
    folder = hub_folder(tmp_path / "m", "DetrForObjectDetection")
    onnx_file(folder / "model.onnx", hw=("h", "w"))
    size = {"height": 640, "width": 640}
    processor = {"image_processor_type": "DetrImageProcessor", "size": size, "pad_size": size, **facts}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    if fits:
        assert Local([tmp_path]).find("m") is not None
        return
    with pytest.raises(UnsupportedModel, match=r"pads pictures \(pad_size\), and its graph model\.onnx has no input"):
        Local([tmp_path]).find("m")


@pytest.mark.parametrize("hw", [("h", "w"), (640, "w")])
def test_a_ready_graph_of_any_size_takes_pictures_as_they_are_prepared(
    tmp_path: Path, hw: tuple[int | str, int | str]
) -> None:
    folder = hub_folder(tmp_path / "m")
    onnx_file(folder / "model.onnx", hw=hw)
    told = {"image_processor_type": "ViTImageProcessor", "size": 384}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    assert Local([tmp_path]).find("m") is not None


def nested(path: Path, where: str, location: str) -> None:
    """A detector, one number of which lies in another file: that of a tensor in this place of the graph."""
    import onnx
    from onnx import TensorProto, helper

    weight = helper.make_tensor("inner", TensorProto.FLOAT, [1], bytes(4), raw=True)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    inner = helper.make_graph([helper.make_node("Identity", ["inner"], ["y"])], "inner", [], [answer], [weight])
    constant = helper.make_node("Constant", [], ["y"], value=weight)
    chosen = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    branch = helper.make_graph([chosen], "b", [], [])
    made = onnx.load(onnx_file(path, metadata=DETECTOR))
    if where == "constant":
        made.graph.node.append(constant)
    elif where == "branch":
        made.graph.node.append(chosen)
    elif where == "branch of a branch":
        made.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch))
    elif where == "function":
        made.functions.append(helper.make_function("own", "f", [], ["y"], [constant], made.opset_import))
    elif where == "sparse":
        made.graph.sparse_initializer.add(values=weight, dims=[1])
    onnx.save(made, path)


@pytest.mark.parametrize("where", ["constant", "branch", "branch of a branch", "function", "sparse"])
def test_weights_beside_a_graph_are_found_wherever_it_names_them(tmp_path: Path, where: str) -> None:
    nested(tmp_path / "m.onnx", where, "m.data")
    with pytest.raises(CorruptFiles, match=r"needs its weights 'm\.data'"):
        Local([tmp_path]).find("m")
    (tmp_path / "m.data").write_bytes(bytes(4))
    card = Local([tmp_path]).find("m")
    assert card is not None
    assert card.files == (str(tmp_path / "m.onnx"), str(tmp_path / "m.data"))
    nested(tmp_path / "m.onnx", where, "../m.data")
    with pytest.raises(CorruptFiles, match="outside its folder"):
        Local([tmp_path]).find("m")


def test_graphs_in_graphs_without_end_are_no_model(tmp_path: Path) -> None:
    def framed(number: int, inside: bytes) -> bytes:
        size = b""
        length = len(inside)
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + inside

    graph = framed(1, b"location")
    for _ in range(400):
        graph = framed(1, framed(5, framed(6, graph)))
    onnx_file(tmp_path / "m.onnx", metadata=DETECTOR)
    with (tmp_path / "m.onnx").open("ab") as file:
        file.write(framed(7, graph))
    with pytest.raises(CorruptFiles, match="graphs within graphs"):
        Local([tmp_path]).find("m")


def test_the_number_of_boxes_that_a_suppression_left_is_no_class_of_a_classifier(tmp_path: Path) -> None:
    shapes = [(1, 1), (1, 100, 4), (1, 100), (1, 100)]
    onnx_file(tmp_path / "m.onnx", shapes, {"names": "{0: 'lamp'}", "stride": "32"}, names=("images", "num_dets"))
    with pytest.raises(UnsupportedModel, match=r"non-maximum suppression .* without --end2end"):
        Local([tmp_path]).find("m")


def test_an_openvino_export_is_read_with_its_yaml_metadata(tmp_path: Path) -> None:
    import openvino

    source = onnx_file(tmp_path / "source" / "m.onnx", [(1, 3, 640, 640)])
    folder = tmp_path / "served" / "yolo_openvino_model"
    model = openvino.Core().read_model(source)
    openvino.save_model(model, folder / "yolo.xml")
    (folder / "metadata.yaml").write_text(
        "description: toy\ntask: detect\nstride: 32\nimgsz:\n- 640\n- 640\nnames:\n  0: cat\n  1: 'big dog'\n"
        "args:\n  batch: 1\n  dynamic: true\nlicense: AGPL-3.0 License (x)\n"
    )
    card = Local([tmp_path / "served"]).find("yolo")
    assert card is not None
    assert (card.task, card.labels, card.licence) == ("detect", {0: "cat", 1: "big dog"}, "AGPL-3.0")
    (folder / "yolo.xml").write_text("<net>")
    with pytest.raises(CorruptFiles, match="not a whole OpenVINO model"):
        Local([tmp_path / "served"]).find("yolo")


def test_formats_without_metadata_need_a_sidecar(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(20))
    with pytest.raises(UnsupportedModel, match=r"Write 'm\.toml'"):
        Local([tmp_path]).find("m")
    (tmp_path / "m.toml").write_text('family = "movenet"\ntask = "pose"\n')
    assert Local([tmp_path]).find("m") is not None
    (tmp_path / "p.pdmodel").write_bytes(b"x")
    with pytest.raises(CorruptFiles, match=r"needs its weights 'p\.pdiparams'"):
        Local([tmp_path]).find("p")


def test_all_shared_models_are_recognised(data: Path) -> None:
    store = Local([data / "models"])
    assert not store.problems()
    found = {card.name: (card.task, card.family, card.dynamic) for card in store.cards()}
    assert found["yolo11n"] == ("detect", "yolo", True)
    assert found["yolov8n-obb_pothole"] == ("obb", "yolo", False)
    assert found["yolo11n-cls"] == ("classify", "yolo", False)
    assert found["yolox_nano"] == ("detect", "yolox", False)
    assert found["hf-tiny/rt-detr"] == ("detect", "rtdetr", False)
    assert len(found) == 27


def test_reading_a_header_does_not_read_the_weights(tmp_path: Path) -> None:
    """A sparse file of 8 GB whose only weight is never touched."""
    from saccade.stores import graph

    small = onnx_file(tmp_path / "s.onnx", metadata=DETECTOR).read_bytes()
    length = 1 << 33
    digits = []
    while length:
        digits.append(length & 0x7F | (0x80 if length >> 7 else 0))
        length >>= 7
    path = tmp_path / "big.onnx"
    path.write_bytes(small + b"\x92\x03" + bytes(digits))
    os.truncate(path, path.stat().st_size + (1 << 33))
    assert graph.onnx(path).metadata["task"] == "detect"


TIMM = {
    "architecture": "resnet18",
    "num_classes": 3,
    "pretrained_cfg": {"input_size": [3, 64, 64], "crop_pct": 0.95, "num_classes": 3},
}


@pytest.mark.parametrize(
    ("more", "labels"),
    [({}, {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}), ({"label_names": ["a", "b", "c"]}, {0: "a", 1: "b", 2: "c"})],
)
def test_a_repository_as_timm_writes_them_is_a_classifier(
    tmp_path: Path, more: dict[str, object], labels: dict[int, str]
) -> None:
    folder = hub_folder(tmp_path / "timm" / "resnet18")
    (folder / "preprocessor_config.json").unlink()
    (folder / "config.json").write_text(json.dumps({**TIMM, **more}))
    card = Local([tmp_path]).find("timm/resnet18")
    assert card is not None
    assert (card.task, card.family, card.labels) == ("classify", "classifier", labels)
    prepared = Classifier(card).prepare(np.zeros((100, 80, 3), np.uint8), Options())
    assert prepared.frame.input_hw == (64, 64)


def test_a_file_that_could_not_be_read_once_is_found_as_soon_as_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    onnx_file(tmp_path / "m.onnx", metadata=DETECTOR)
    local = Local([tmp_path])
    read = folders.read

    def refusing(*given: Any) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(folders, "read", refusing)
    with pytest.raises(CorruptFiles, match=r"'m' cannot be read: Too many open files"):
        local.find("m")
    monkeypatch.setattr(folders, "read", read)
    assert local.find("m") is not None
    os.utime(tmp_path / "m.onnx", (1, 1))
    monkeypatch.setattr(folders, "read", refusing)
    assert local.find("m") is not None, "it goes on as it was"
    assert local.find("m") is not None
    assert caplog.text.count("stays what it was") == 1


def test_weights_that_are_put_in_the_place_of_noted_ones_are_another_revision(tmp_path: Path) -> None:
    model = onnx_file(tmp_path / "a.onnx", metadata=DETECTOR)
    (tmp_path / "a.json").write_text('{"revision": "0123456789ab"}')
    shelf = Local([tmp_path])
    assert [card.revision for card in shelf.cards()] == ["0123456789ab"]
    later = time.time() + 5
    onnx_file(model, metadata={**DETECTOR, "description": "trained on"})
    os.utime(model, (later, later))
    (changed,) = (card.revision for card in shelf.cards())
    assert changed != "0123456789ab"
    assert changed.startswith("0123456789ab-")


def test_pictures_of_a_configuration_without_a_class_are_prepared_as_the_architecture_has_it(tmp_path: Path) -> None:
    hub_folder(tmp_path / "m", "ResNetForImageClassification")
    written = json.loads((tmp_path / "m" / "config.json").read_text())
    for model_type, target in (("resnet", (256, 512)), ("vit", (224, 224))):
        (tmp_path / "m" / "config.json").write_text(json.dumps({**written, "model_type": model_type}))
        (tmp_path / "m" / "preprocessor_config.json").write_text('{"size": 224, "do_resize": true}')
        card = Local([tmp_path]).find("m")
        assert card is not None
        assert Classifier(card).processor.target((300, 600)) == target

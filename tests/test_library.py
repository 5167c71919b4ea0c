"""The library: one name, whichever place a model lies in; adding and removing."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from saccade.convert import VERSION
from saccade.errors import BadOptions, CorruptFiles, UnknownModel, UnsupportedModel
from saccade.library import Library
from stores.toy import DETECTOR, hub_folder, onnx_file


def test_the_users_folders_win_over_the_home(tmp_path: Path) -> None:
    library = Library(tmp_path / "home", [tmp_path / "mine"])
    library.add("m", onnx_file(tmp_path / "one.onnx", [(1, 84, 8400)]))
    assert len(library.card("m").labels) == 80
    onnx_file(tmp_path / "mine" / "m.onnx", [(1, 6, 8400)])
    assert len(library.card("m").labels) == 2
    assert [card.name for card in library.cards()] == ["m"]


def test_the_name_of_a_file_in_a_users_folder_is_taken_and_nothing_is_stored(tmp_path: Path) -> None:
    onnx_file(tmp_path / "mine" / "m.onnx", metadata=DETECTOR)
    library = Library(tmp_path / "home", [tmp_path / "mine"])
    for name in ("m", "M", "m.onnx"):
        with pytest.raises(BadOptions, match=r"taken by a file of a models folder.*Choose another name"):
            library.add(name, onnx_file(tmp_path / "other.onnx"))
    assert not (tmp_path / "home").exists()


def test_what_lies_here_and_is_damaged_is_told_so_when_it_is_to_be_fetched(tmp_path: Path) -> None:
    (tmp_path / "best.onnx").write_bytes(b"junk")
    with pytest.raises(CorruptFiles, match=r"'best\.onnx' is not a whole ONNX model"):
        Library(tmp_path / "home", [tmp_path], sources=()).pull("best")


def test_removable_is_only_what_saccade_keeps_itself_and_no_file_hides(tmp_path: Path) -> None:
    library = Library(tmp_path / "home", [tmp_path / "mine"])
    assert library.removable([library.add("m", onnx_file(tmp_path / "one.onnx")).name]) == {"m"}
    onnx_file(tmp_path / "mine" / "m.onnx", [(1, 6, 8400)])
    assert not library.removable(["m"])


def test_an_unknown_name_tells_the_ways_to_add_it_and_near_names(tmp_path: Path) -> None:
    library = Library(tmp_path, sources=())
    library.add("helmets-v2", onnx_file(tmp_path / "x.onnx", metadata=DETECTOR))
    with pytest.raises(UnknownModel, match=r"no model 'helmets-v3'.*helmets-v2.*saccade add.*--models"):
        library.card("helmets-v3", fetch=True)


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("https://huggingface.co/owner/vit", "owner/vit"),
        ("https:/huggingface.co/owner/vit", "owner/vit"),
        ("hf:/owner/vit", "owner/vit"),
        ("https://huggingface.co/owner/vit/tree/main?library=transformers", "owner/vit"),
        ("http://www.huggingface.co/models/owner/vit/", "owner/vit"),
        ("hf.co/owner/vit#files", "owner/vit"),
        ("hf://owner/vit@main", "owner/vit"),
        ("owner/vit/", "owner/vit"),
        ("https://huggingface.co/owner/vit/tree/v1.0", "owner/vit@v1.0"),
        ("hf://owner/vit@v1.0", "owner/vit@v1.0"),
    ],
)
def test_the_address_of_a_page_of_the_hub_means_its_model(tmp_path: Path, ref: str, name: str) -> None:
    library = Library(tmp_path)
    with pytest.raises(UnknownModel, match=f"saccade pull {name}$"):
        library.card(ref)
    if "@" not in name:
        library.add(name, onnx_file(tmp_path / "one.onnx", [(1, 84, 8400)]))
        assert library.card(ref).name == name
        library.remove(ref)
        assert library.here(ref) is None


def test_a_file_whose_name_looks_like_an_address_is_found_under_it(tmp_path: Path) -> None:
    library = Library(tmp_path / "home", [tmp_path / "mine"])
    onnx_file(tmp_path / "mine" / "a" / "b.onnx", [(1, 6, 8400)])
    for name in ("a/b#1", "hf.co/a/b"):
        path = tmp_path / "mine" / f"{name}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx_file(path, [(1, 84, 8400)])
        assert library.card(name).name == name
        with pytest.raises(BadOptions, match=name):
            library.remove(name)


@pytest.mark.parametrize(
    "ref", ["https://example.org/best.onnx", "https://huggingface.co/owner/vit/resolve/main/model.onnx", "s3://b/x.pt"]
)
def test_other_addresses_are_told_what_to_do_instead(tmp_path: Path, ref: str) -> None:
    for asked in (Library(tmp_path).card, Library(tmp_path).pull):
        with pytest.raises(UnknownModel, match=r"is an address.*Download the file.*saccade add NAME FILE"):
            asked(ref)


@pytest.mark.parametrize("name", ["", "../x", "a//b", "/a", "a/b/c/d", ".hidden", "a b", "a/../b", "x" + chr(0)])
def test_a_name_that_could_leave_the_library_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadOptions, match="cannot be a model's name"):
        Library(tmp_path / "home").add(name, onnx_file(tmp_path / "x.onnx", metadata=DETECTOR))


def test_a_name_that_no_folder_could_have_is_refused_as_one(tmp_path: Path) -> None:
    library = Library(tmp_path / "home")
    source = onnx_file(tmp_path / "x.onnx", metadata=DETECTOR)
    assert library.add("me/" + "x" * 197, source).name == "me/" + "x" * 197
    with pytest.raises(BadOptions, match="201 characters; a model's name may have 200"):
        library.add("x" * 201, source)


def test_an_added_file_with_its_sidecar_is_kept_until_it_is_removed(tmp_path: Path) -> None:
    source = onnx_file(tmp_path / "x.onnx", metadata=DETECTOR)
    (tmp_path / "x.toml").write_text('licence = "MIT"')
    library = Library(tmp_path / "home")
    assert library.add("me/first", source).licence == "MIT"
    source.unlink()
    assert Library(tmp_path / "home").card("me/first").licence == "MIT"
    with pytest.raises(BadOptions, match="already"):
        library.add("me/first", onnx_file(tmp_path / "x.onnx"))
    library.remove("me/first")
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    with pytest.raises(UnknownModel):
        library.remove("me/first")


def test_a_repository_and_a_graph_with_outside_weights_are_added_whole(tmp_path: Path) -> None:
    import onnx
    from onnx.external_data_helper import convert_model_to_external_data

    library = Library(tmp_path / "home")
    assert library.add("google/vit", hub_folder(tmp_path / "vit")).labels == {0: "cat", 1: "dog"}
    path = onnx_file(tmp_path / "big" / "m.onnx", metadata=DETECTOR)
    model = onnx.load(path)
    convert_model_to_external_data(model, location="m.onnx.data", size_threshold=0)
    onnx.save(model, path)
    card = library.add("big", path)
    assert [Path(file).name for file in card.files] == ["m.onnx", "m.onnx.data"]
    library.remove("big")
    library.remove("google/vit")
    assert library.cards() == []


@pytest.mark.parametrize("ready", [False, True])
def test_of_the_folder_of_a_training_only_the_model_is_added(tmp_path: Path, ready: bool) -> None:
    folder = hub_folder(tmp_path / "out")
    for name in ("training_args.bin", "pytorch_model.bin", "checkpoint-10/optimizer.pt", "runs/events", ".git/config"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"large")
    shutil.copy(folder / "model.safetensors", folder / "checkpoint-10")
    (folder / "README.md").write_text("a model")
    if ready:
        onnx_file(folder / "onnx" / "model.onnx")
    library = Library(tmp_path / "home")
    library.add("mine", folder)
    kept = {str(path.relative_to(library.home / "mine")) for path in (library.home / "mine").rglob("*")}
    graph = {"onnx", "onnx/model.onnx"} if ready else {"model.safetensors"}
    assert kept == {"config.json", "preprocessor_config.json", "README.md"} | graph


def test_a_revision_that_is_written_like_a_path_leads_out_of_no_folder(tmp_path: Path) -> None:
    """Sidecars come with models that others made; the graphs that are made of those are deleted with them."""
    hub_folder(tmp_path / "in" / "m")
    (tmp_path / "in" / "m.json").write_text('{"revision": "x/../../../precious"}')
    library = Library(tmp_path / "home")
    card = library.add("m", tmp_path / "in")
    assert library.converter.folder(card).resolve().parent == (tmp_path / "home" / "graphs").resolve()
    (tmp_path / "home" / "graphs" / "m-x").mkdir(parents=True)
    (tmp_path / f"precious-{VERSION}").mkdir()
    library.remove("m")
    assert (tmp_path / f"precious-{VERSION}").is_dir()


def test_of_two_who_add_a_model_under_one_name_one_is_told_that_it_is_taken(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "vit")
    with (folder / "large").open("wb") as file:
        file.truncate(64 << 20)
    ready = threading.Barrier(4)

    def add(home: Path) -> str:
        library = Library(home)
        ready.wait()
        try:
            return library.add("same", folder).name
        except BadOptions as error:
            return error.message

    with ThreadPoolExecutor() as pool:
        told = sorted(pool.map(add, [tmp_path / "home"] * 4))
    assert told[3] == "same"
    assert all("There is a model 'same' already" in said for said in told[:3])


def test_a_read_only_folder_becomes_one_that_its_owner_can_remove(tmp_path: Path) -> None:
    source = hub_folder(tmp_path / "vit")
    source.chmod(0o555)
    library = Library(tmp_path / "home")
    card = library.add("vit", source)
    assert Path(card.files[0]).parent.stat().st_mode & 0o700 == 0o700
    source.chmod(0o755)
    library.remove("vit")


@pytest.mark.parametrize("location", ["model.onnx_data", "model.onnx.data", "model.data", "weights"])
def test_outside_weights_keep_the_name_by_which_the_graph_calls_them(tmp_path: Path, location: str) -> None:
    import onnx
    from onnx.external_data_helper import convert_model_to_external_data

    model = onnx.load(onnx_file(tmp_path / "model.onnx"))
    convert_model_to_external_data(model, location=location, size_threshold=0)
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "model.toml").write_text("family = 'yolo'\ntask = 'detect'\nlabels = ['cat']\n")
    library = Library(tmp_path / "home")
    card = library.add("mine", tmp_path / "model.onnx")
    assert [Path(file).name for file in card.files] == ["model.onnx", location]
    assert card.labels == {0: "cat"}
    library.remove("mine")
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []


def test_what_is_no_model_or_several_is_refused_with_what_to_do(tmp_path: Path) -> None:
    library = Library(tmp_path / "home")
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    for path in (tmp_path / "saved", tmp_path / "saved" / "saved_model.pb"):
        with pytest.raises(
            BadOptions, match=rf"'{path.name}' is no model that saccade reads: \.onnx.*Export it to ONNX"
        ):
            library.add("m", path)
    for name, told in {"best.zip": "Unpack it", "model.safetensors": "Add the folder in which it lies"}.items():
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(BadOptions, match=told):
            library.add("m", tmp_path / name)
    for name in ("model.onnx", "model_quantized.onnx"):
        onnx_file(tmp_path / "several" / name)
    with pytest.raises(BadOptions, match=r"holds 2 models \(model\.onnx, model_quantized\.onnx\)\. Add one of them"):
        library.add("m", tmp_path / "several")


def test_only_sound_models_are_added(tmp_path: Path) -> None:
    library = Library(tmp_path / "home")
    (tmp_path / "best.pt").write_bytes(b"x")
    (tmp_path / "x.onnx").write_bytes(b"junk")
    (tmp_path / "photo.jpg").write_bytes(b"junk")
    with pytest.raises(UnsupportedModel, match="pickle"):
        library.add("best", tmp_path / "best.pt")
    with pytest.raises(CorruptFiles):
        library.add("x", tmp_path / "x.onnx")
    with pytest.raises(BadOptions, match="no model that saccade reads"):
        library.add("x", tmp_path / "photo.jpg")
    with pytest.raises(BadOptions, match="nothing"):
        library.add("x", tmp_path / "missing.onnx")


def test_a_model_in_a_folder_of_the_user_is_never_deleted(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "mine" / "m.onnx", metadata=DETECTOR)
    with pytest.raises(BadOptions, match="folder of yours"):
        Library(tmp_path / "home", [tmp_path / "mine"]).remove("m")
    assert path.exists()


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from saccade.library import Library

def half(source, target):
    Path(target).write_bytes(Path(source).read_bytes()[:100])
    os.kill(os.getpid(), signal.SIGKILL)

shutil.copyfile = half
Library(Path(sys.argv[1])).add("cut", Path(sys.argv[2]))
"""


def test_what_a_killed_process_left_of_a_copy_is_deleted_by_the_next(tmp_path: Path) -> None:
    home, file = tmp_path / "home", onnx_file(tmp_path / "one.onnx", metadata=DETECTOR)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(home), str(file)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert any(path.is_file() for path in (home / "models").rglob("*"))
    library = Library(home)
    assert library.cards() == []
    library.add("whole", file)
    assert [path.name for path in (home / "models").iterdir()] == ["whole.onnx"]

"""Compiled graphs that lie on the disk are trusted only as long as they are what was written."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save

from saccade import runtimes
from saccade.card import Card
from saccade.runtimes import compiled_files
from saccade.runtimes.session import Compute

MONTHS_S = 90 * 86_400
WEIGHTS = np.random.default_rng(5).standard_normal((256, 256)).astype(np.float32)
GIVEN = np.ones((1, 256), np.float32)


def toy(folder: Path, revision: str = "1") -> Card:
    path = folder / "toy.onnx"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 256)) for name in "xy"]
    weights = numpy_helper.from_array(WEIGHTS, "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "toy", ends[:1], ends[1:], [weights])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return Card(name="toy", task="classify", family="none", runtime="openvino", files=(str(path),), revision=revision)


def answered(card: Card, home: Path) -> NDArray[Any]:
    session = runtimes.find("openvino")(card, {}, Compute(precision="f32", cache_dir=str(home)))
    try:
        return session.run({"x": GIVEN})[0]
    finally:
        session.close()


@pytest.fixture(autouse=True)
def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process compares a file once; here all are one."""
    monkeypatch.setattr(compiled_files, "_sound", set())


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    middle = slice(len(content) // 4, len(content) // 2, 97)  # among the weights
    content[middle] = bytes(len(content[middle]))
    file.write_bytes(content)


def test_a_damaged_file_is_made_anew_and_the_answer_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, home = toy(tmp_path), tmp_path / "compiled"
    expected = answered(card, home)
    np.testing.assert_allclose(expected, GIVEN @ WEIGHTS, atol=1e-3)
    (file,) = home.rglob("*.blob")
    damage(file)
    monkeypatch.setattr(compiled_files, "_sound", set())
    np.testing.assert_array_equal(answered(card, home), expected)
    assert "damaged" in caplog.text
    assert str(tmp_path) not in caplog.text
    caplog.clear()
    monkeypatch.setattr(compiled_files, "_sound", set())
    np.testing.assert_array_equal(answered(card, home), expected)
    assert not caplog.text


def test_after_an_update_of_the_library_a_graph_is_compiled_once_and_nothing_is_told_of_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, home = toy(tmp_path), tmp_path / "compiled"
    answered(card, home)
    (file,) = home.rglob("*.blob")
    (known,) = home.rglob("*.known")
    known.rename(known.with_name("another.known"))  # its name tells the version
    former = file.read_bytes().replace(openvino.__version__.partition("-")[0].encode(), b"2025.1.0")
    file.write_bytes(former)
    file.with_suffix(".crc32").write_text(f"{zlib.crc32(former):08x}")
    compiled_files.not_kept.cache_clear()
    monkeypatch.setattr(compiled_files, "_sound", set())
    answered(card, home)
    made = file.stat().st_mtime_ns
    assert file.read_bytes() != former, "the library took what another version had made"
    monkeypatch.setattr(compiled_files, "_sound", set())
    answered(card, home)
    assert file.stat().st_mtime_ns == made, "it was compiled again"
    assert not caplog.messages


def test_a_full_disk_is_told_and_the_graph_is_kept_when_there_is_room_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    card, home = toy(tmp_path), tmp_path / "compiled"
    compiled_files.not_kept.cache_clear()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # the graph takes more
    try:
        np.testing.assert_allclose(answered(card, home), GIVEN @ WEIGHTS, atol=1e-3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "could not be kept on the disk" in caplog.text
    assert str(tmp_path) not in caplog.text
    np.testing.assert_allclose(answered(card, home), GIVEN @ WEIGHTS, atol=1e-3)
    assert list(home.rglob("*.blob"))
    caplog.clear()
    compiled_files.not_kept.cache_clear()
    np.testing.assert_allclose(answered(card, home), GIVEN @ WEIGHTS, atol=1e-3)
    assert not caplog.text


def test_a_file_that_nobody_finished_is_removed_and_one_that_is_being_written_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "kind" / "room" / "f32"
    folder.mkdir(parents=True)
    left, written = folder / "left.blob", folder / "written.blob"
    for file in (left, written):
        file.write_bytes(b"half of it")
    os.utime(left, (time.time() - 3600,) * 2)
    compiled_files.look_through(folder)
    assert [file.name for file in folder.iterdir()] == ["written.blob"]


def test_rooms_of_former_revisions_are_cleared_when_nobody_entered_them_for_long(tmp_path: Path) -> None:
    home = tmp_path / "compiled"
    answered(toy(tmp_path, "1"), home)
    answered(toy(tmp_path, "2"), home)
    (house,) = home.iterdir()
    first, second = sorted(house.iterdir(), key=lambda room: room.stat().st_mtime_ns)
    long_ago = time.time() - MONTHS_S
    os.utime(first, (long_ago, long_ago))
    os.utime(second, (long_ago, long_ago))
    answered(toy(tmp_path, "2"), home)  # enters its room
    answered(toy(tmp_path, "3"), home)  # makes one
    assert not first.exists()
    assert second.exists()
    assert len(list(house.iterdir())) == 2


def test_graphs_for_other_numbers_of_threads_are_cleared_when_nobody_opened_them_for_long(tmp_path: Path) -> None:
    card, home = toy(tmp_path), tmp_path / "compiled"

    def opened(threads: int) -> None:
        compute = Compute(precision="f32", threads=threads, streams=1, cache_dir=str(home))
        runtimes.find("openvino")(card, {}, compute).close()

    for threads in (1, 2):
        opened(threads)
    (room,) = home.glob("*/*")
    for folder in room.iterdir():
        os.utime(folder, (time.time() - MONTHS_S,) * 2)
    opened(2)
    opened(3)
    assert sorted(folder.name for folder in room.iterdir()) == ["f32-1x2", "f32-1x3"]


def test_a_graph_that_somebody_compiles_for_the_first_time_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "another.crc32").write_text("0")  # of another shape, or made by another version
    entered: list[str] = []

    def enter() -> None:
        with compiled_files.alone(tmp_path, "graph"):
            entered.append("second")

    with compiled_files.alone(tmp_path, "graph"):
        waiting = threading.Thread(target=enter)
        waiting.start()
        time.sleep(0.2)
        entered.append("first")
        compiled_files.seal(tmp_path, "graph", True)
    waiting.join()
    assert entered == ["first", "second"]
    with compiled_files.alone(tmp_path, "graph"), compiled_files.alone(tmp_path, "graph"):
        pass


def test_after_damage_one_process_compiles_again_and_the_others_wait(tmp_path: Path) -> None:
    card, home = toy(tmp_path), tmp_path / "compiled"
    answered(card, home)
    (known,) = home.rglob("*.known")
    (file,) = home.rglob("*.blob")
    damage(file)
    compiled_files._sound.clear()
    compiled_files.look_through(file.parent)
    assert not known.exists()
    answered(card, home)
    assert known.exists()


SHORT_OF_THREADS = """
import os, resource, sys
from saccade import runtimes
from saccade.card import Card
from saccade.errors import Error
from saccade.runtimes.session import Compute
card = Card(name="toy", task="classify", family="none", runtime="openvino", files=(sys.argv[1],), revision="1")
opened = runtimes.find("openvino")
opened(card, {}, Compute(precision="f32")).close()
if not os.getuid():  # whom nothing is refused
    os.setresuid(65534, 65534, 65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    opened(card, {}, Compute(precision="f32", threads=4, streams=4))
except Error as error:
    print(type(error).__name__, error.message)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits are the system's own")
def test_a_model_is_not_called_broken_when_the_system_gives_no_threads_to_compile_it() -> None:
    with tempfile.TemporaryDirectory() as folder:  # another user has to read it
        Path(folder).chmod(0o755)
        words = [sys.executable, "-c", SHORT_OF_THREADS, *toy(Path(folder)).files]
        told = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert told.stdout.startswith("Overloaded The system gives the server no more"), told


SHUT = """
import os, sys
from saccade import runtimes
from saccade.card import Card
from saccade.runtimes.openvino_graph import core
from saccade.runtimes.session import Compute
toy, home = sys.argv[1:]
opened = runtimes.find("openvino")
core().get_property("CPU", "FULL_DEVICE_NAME")  # its parts may lie where another user cannot read
core.cache_clear()
os.chdir(f"{home}/shut")
if not os.getuid():  # whom nothing is refused
    os.setresuid(65534, 65534, 65534)
for _ in range(2):
    card = Card(name="toy", task="classify", family="none", runtime="openvino", files=(toy,), revision="1")
    opened(card, {}, Compute(precision="f32", cache_dir=f"{home}/compiled")).close()
print("opened")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="users are changed as Linux does it")
def test_a_compiled_graph_is_opened_from_a_folder_into_which_the_user_may_not_look() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o755)
        (home / "compiled").mkdir()
        (home / "compiled").chmod(0o777)
        files = toy(home).files
        (home / "shut").mkdir(0o600)
        words = [sys.executable, "-c", SHUT, *files, folder]
        told = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert told.stdout == "opened\n", told

"""What the console asks for: uploads of models, and what may be removed."""

from __future__ import annotations

import asyncio
import contextlib
import io
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_fakes import EchoEngine, client

from saccade.errors import BadInput
from saccade.library import Library
from saccade.server import wiring
from saccade.server.access import OpenGate
from saccade.server.app import App
from saccade.server.console import _unpacked
from saccade.server.database import Database
from saccade.server.records import SqlRecords
from saccade.server.settings import Settings
from stores.toy import DETECTOR, hub_folder, onnx_file


class Failing(EchoEngine):
    """Its model could not be opened."""

    revision = ""

    def state(self, ref: str) -> str:
        return "failed"

    def info(self) -> dict[str, Any]:
        reason = "The graph has an operation that is not known."
        return {"models": [], "failed_models": [{"name": "cars", "revision": self.revision, "reason": reason}]}


class Console:
    """A server over a home and a models folder, and what the console asks of it."""

    def __init__(self, folder: Path, engine: EchoEngine | None = None) -> None:
        self.home, self.mine = folder / "home", folder / "mine"
        self._database = Database("", str(folder))
        self._app: App = wiring.build(
            Settings(access_log=False, home=str(folder)),
            Library(self.home, [self.mine], sources=()),
            engine or EchoEngine(),  # type: ignore[arg-type]
            OpenGate(),
            [],
            SqlRecords(self._database),
        )

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            async with client(self._app) as http:
                return await http.request(method, path, **more)

        return asyncio.run(asked())

    def upload(self, name: str, file: str, body: bytes) -> httpx.Response:
        return self.ask("PUT", f"/v1/console/models/{name}", content=body, headers={"x-filename": file})

    def refused(self, file: str, body: bytes) -> str:
        """Why an upload is refused; nothing may be left of it."""
        answer = self.upload("new", file, body)
        assert answer.status_code == 400, answer.text
        assert [path.name for path in self.home.rglob("*")] in ([], ["models"])
        return str(answer.json()["error"])

    def close(self) -> None:
        self._database.close()


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    console = Console(tmp_path)
    yield console
    console.close()


def packed(*files: tuple[str, bytes], **how: Any) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", **how) as packed:
        for name, content in files:
            packed.writestr(name, content)
    return archive.getvalue()


def graph(folder: Path) -> bytes:
    return onnx_file(folder / "made" / "x.onnx", metadata=DETECTOR).read_bytes()


def test_an_upload_is_kept_and_may_be_removed(console: Console, tmp_path: Path) -> None:
    row = console.upload("me/first", "best.onnx", graph(tmp_path)).json()
    assert (row["name"], row["removable"]) == ("me/first", True)
    assert console.ask("DELETE", "/v1/console/models/me/first").status_code == 200
    assert console.ask("GET", "/v1/console/models").json()["models"] == []


def test_what_a_killed_server_left_of_an_upload_goes_with_the_next(console: Console, tmp_path: Path) -> None:
    left = console.home / "models" / ".upload-abc"
    left.mkdir(parents=True)
    (left / "best.onnx").write_bytes(b"half of i")
    assert console.ask("GET", "/v1/console/models").json()["models"] == []
    assert console.upload("first", "best.onnx", graph(tmp_path)).status_code == 200
    assert [path.name for path in (console.home / "models").iterdir()] == ["first.onnx"]


def test_an_upload_under_the_name_of_a_file_in_a_models_folder_is_refused(console: Console, tmp_path: Path) -> None:
    onnx_file(console.mine / "cars.onnx", [(1, 6, 8400)])
    answer = console.upload("cars", "best.onnx", graph(tmp_path))
    assert (answer.status_code, "taken by a file of a models folder" in answer.text) == (400, True)
    assert not console.home.exists()
    (row,) = console.ask("GET", "/v1/console/models").json()["models"]
    assert (row["name"], row["removable"]) == ("cars", False)
    assert console.ask("DELETE", "/v1/console/models/cars").status_code == 400


def test_a_damaged_file_in_a_models_folder_is_listed_with_the_reason(console: Console, tmp_path: Path) -> None:
    onnx_file(console.mine / "cars.onnx", [(1, 6, 8400)])
    (console.mine / "broken.onnx").write_bytes(b"junk")
    (console.home / "models").mkdir(parents=True)
    (console.home / "models" / "mine.onnx").write_bytes(b"junk")
    (console.home / "models" / "cars.onnx").write_bytes(b"hidden by the file of this name in the folder")
    told = console.ask("GET", "/v1/console/models").json()
    assert [(row["name"], row["reason"]) for row in told["models"]] == [("cars", None)]
    broken, mine = told["unserved"]
    assert (broken["name"], broken["removable"], "'broken.onnx'" in broken["reason"]) == ("broken", False, True)
    assert (mine["name"], mine["removable"]) == ("mine", True)
    assert console.ask("DELETE", "/v1/console/models/mine").status_code == 200
    assert [row["name"] for row in console.ask("GET", "/v1/console/models").json()["unserved"]] == ["broken"]


def test_a_model_that_goes_on_although_its_file_was_damaged_says_so(console: Console) -> None:
    file = onnx_file(console.mine / "cars.onnx", [(1, 6, 8400)])
    assert console.ask("GET", "/v1/console/models").json()["models"][0]["reason"] is None
    file.write_bytes(b"junk")
    told = console.ask("GET", "/v1/console/models").json()
    (row,) = told["models"]
    assert (told["unserved"], "new files are not used: 'cars.onnx'" in row["reason"]) == ([], True)


def test_a_model_that_has_failed_says_why_until_its_files_change(tmp_path: Path) -> None:
    engine = Failing()
    with contextlib.closing(Console(tmp_path, engine)) as console:
        file = onnx_file(console.mine / "cars.onnx", [(1, 6, 8400)])
        engine.revision = console.ask("GET", "/v1/console/models/cars").json()["revision"]
        (row,) = console.ask("GET", "/v1/console/models").json()["models"]
        assert (row["state"], row["reason"]) == ("failed", "The graph has an operation that is not known.")
        assert console.ask("GET", "/v1/console/models/cars").json()["reason"] == row["reason"]
        onnx_file(file, [(1, 7, 8400)])
        row = console.ask("GET", "/v1/console/models/cars").json()
        assert (row["state"], row["reason"]) == ("cold", None)


def test_a_zip_with_a_folder_is_unpacked(console: Console, tmp_path: Path) -> None:
    files = [(f"vit/{file.name}", file.read_bytes()) for file in sorted(hub_folder(tmp_path / "vit").iterdir())]
    row = console.upload("google/vit", "vit.zip", packed(("vit/", b""), *files)).json()
    assert (row["name"], row["task"], row["removable"]) == ("google/vit", "classify", True)


def test_a_broken_graph_is_the_callers_and_called_as_he_calls_it(console: Console) -> None:
    assert "'best day.onnx'" in console.refused("best%20day.onnx", b"junk")
    assert "'best.onnx'" in console.refused(r"C:\models\best.onnx", b"junk")
    assert "'upload.onnx'" in console.refused("%00..onnx", b"junk")
    assert "'inside.onnx'" in console.refused("model.zip", packed(("inside.onnx", b"junk")))
    assert "'my notes' is no model that saccade reads" in console.refused(
        "my notes.zip", packed(("a.txt", b""), ("b.txt", b""))
    )
    assert console.refused("a" * 300 + ".onnx", b"junk").startswith("'" + "a" * 60 + ".onnx'")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("my%20best.pt", "yolo export model='my best.pt' format=onnx"),
        (
            "model.safetensors",
            "ending is '.safetensors'; expected one of .onnx, .tflite, .zip. A model of several files",
        ),
        ("notes", "ending is ''"),
    ],
)
def test_a_file_of_another_kind_is_told_how_it_becomes_one_that_can_be_uploaded(
    console: Console, file: str, words: str
) -> None:
    assert words in console.refused(file, b"junk")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (packed(), "zip is empty"),
        (packed(("a/", b"")), "zip is empty"),
        (packed(("a", b"x"), ("a/b", b"y")), "'a' both as a file and as a folder"),
        (packed(("a/b/c", b"x"), ("./a//b", b"y")), "'a/b' both as a file and as a folder"),
        (packed((".", b"x")), "both as a file and as a folder"),
        (packed(("x" * 300 + ".onnx", b"x")), "too long"),
        (packed(("/".join(["é" * 100] * 6), b"x")), "too long"),
        (packed(("a/../../b", b"x")), "lead outside"),
        (packed(("/etc/x", b"x")), "lead outside"),
        (b"PK junk", "no zip that can be read"),
    ],
)
def test_a_zip_that_cannot_be_unpacked_is_refused_with_the_reason(console: Console, body: bytes, words: str) -> None:
    assert words in console.refused("model.zip", body)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED])
def test_a_damaged_zip_is_refused_wherever_it_is_damaged(tmp_path: Path, method: int) -> None:
    """Or gives what was packed, where names or dates are damaged that nobody checks."""
    sound = {bytes(range(99)), b"x" * 50}
    whole = packed(("a.onnx", bytes(range(99))), ("b/ü.txt", b"x" * 50), compression=method)
    refused = 0
    for place in range(0, len(whole), 3):
        archive = tmp_path / "m.zip"
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            _unpacked(archive, tmp_path / f"unpacked-{place}")
        except BadInput:
            refused += 1
            continue
        found = [path.read_bytes() for path in (tmp_path / f"unpacked-{place}").rglob("*") if path.is_file()]
        assert sound.issuperset(found), place
    assert refused > len(whole) // 12


def test_a_zip_of_more_files_than_a_model_has_is_refused_before_they_are_listed(tmp_path: Path) -> None:
    """Python reads the whole list, and makes an object of each entry, which takes eight times as much."""
    entry = struct.pack("<4s16xIIH16xs", b"PK\1\2", 0, 0, 1, b"a")
    end = struct.pack("<4s8xIIH", b"PK\5\6", 200_000 * len(entry), 0, 0)
    (tmp_path / "m.zip").write_bytes(entry * 200_000 + end)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="more files or bytes"):
            _unpacked(tmp_path / "m.zip", tmp_path / "unpacked")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_the_list_of_models_looks_into_a_folder_that_changes_all_the_time_a_few_times_only(console: Console) -> None:
    for number in range(40):
        onnx_file(console.mine / f"m{number}.onnx", [(1, 6, 8400)])
    library: Any = console._app.desk.library
    looks = 0

    class Folder(type(library.folders)):  # type: ignore[misc]
        def refresh(self) -> None:
            nonlocal looks
            looks += 1
            super().refresh()

    library.folders = Folder([console.mine])
    assert len(console.ask("GET", "/v1/console/models").json()["models"]) == 40
    assert looks <= 4

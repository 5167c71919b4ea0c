"""What the console asks for: uploads of models, and what may be removed."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_fakes import EchoEngine, client

from saccade.library import Library
from saccade.server import wiring
from saccade.server.access import OpenGate
from saccade.server.app import App
from saccade.server.database import Database
from saccade.server.records import SqlRecords
from saccade.server.settings import Settings
from stores.toy import DETECTOR, hub_folder, onnx_file


class Console:
    """A server over a home and a models folder, and what the console asks of it."""

    def __init__(self, folder: Path) -> None:
        self.home, self.mine = folder / "home", folder / "mine"
        self._database = Database("", str(folder))
        self._app: App = wiring.build(
            Settings(access_log=False, home=str(folder)),
            Library(self.home, [self.mine], sources=()),
            EchoEngine(),  # type: ignore[arg-type]
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
        assert not self.home.exists()
        return str(answer.json()["error"])

    def close(self) -> None:
        self._database.close()


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    console = Console(tmp_path)
    yield console
    console.close()


def packed(**files: bytes) -> bytes:
    return packed_as(*files.items())


def packed_as(*files: tuple[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
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


def test_an_upload_under_the_name_of_a_file_in_a_models_folder_is_refused(console: Console, tmp_path: Path) -> None:
    onnx_file(console.mine / "cars.onnx", [(1, 6, 8400)])
    answer = console.upload("cars", "best.onnx", graph(tmp_path))
    assert (answer.status_code, "taken by a file of a models folder" in answer.text) == (400, True)
    assert not console.home.exists()
    (row,) = console.ask("GET", "/v1/console/models").json()["models"]
    assert (row["name"], row["removable"]) == ("cars", False)
    assert console.ask("DELETE", "/v1/console/models/cars").status_code == 400

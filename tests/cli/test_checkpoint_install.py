"""``--install-ultralytics`` to its end, with a package index of this machine in place of the network.

The index has packages that stand in for the real ones: their ``yolo`` copies a graph that was made before. All else is
real: the environment, pip, the processes, and what is shown.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from lamps import detector, photo

from saccade.errors import BadSettings
from saccade.stores.ultralytics import Exporter

pytestmark = pytest.mark.heavy

YOLO = """
import shutil, sys
from pathlib import Path

class YOLO: ...

def main():
    assert sys.argv[1:] == ["export", "model=checkpoint.pt", "format=onnx", "dynamic=True"], sys.argv
    shutil.copyfile(Path(__file__).with_name("graph.onnx"), "checkpoint.onnx")
"""
SOUND = {
    "onnx": "",
    "torch": "zeros = ones = lambda *size: size",
    "torchvision": "class ops:\n    nms = staticmethod(lambda *given: given)",
    "ultralytics": YOLO,
    "opencv-python": "",
    "opencv-python-headless": "",
}
NEEDS = {"ultralytics": ("torch", "torchvision", "opencv-python")}


class Index:
    """A package index with one wheel for every name in ``sources``; ``stalls`` makes it stop in the middle of one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.stalls = ""
        self.stalled = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/simple"
        for name, source in SOUND.items():
            self.put(name, source)

    def put(self, name: str, source: str) -> None:
        """A package of one module, with the graph beside it."""
        module = {"opencv-python": "cv2", "opencv-python-headless": "cv2"}.get(name, name)
        facts = f"{name.replace('-', '_')}-9.0.dist-info"
        needs = "".join(f"Requires-Dist: {need}\n" for need in NEEDS.get(name, ()))
        with zipfile.ZipFile(self.folder / f"{name.replace('-', '_')}-9.0-py3-none-any.whl", "w") as wheel:
            files = {
                f"{module}/__init__.py": source.encode(),
                f"{module}/graph.onnx": (self.folder / "graph.onnx").read_bytes(),
                f"{facts}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.0\n{needs}".encode(),
                f"{facts}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            }
            if name == "ultralytics":
                files[f"{facts}/entry_points.txt"] = b"[console_scripts]\nyolo = ultralytics:main\n"
            for path, content in files.items():
                wheel.writestr(path, content)
            wheel.writestr(f"{facts}/RECORD", "".join(f"{path},,\n" for path in [*files, f"{facts}/RECORD"]))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/").removeprefix("simple/")
                index.asked.append(name)
                if name.endswith(".whl"):
                    body, kind = (index.folder / name).read_bytes(), "application/octet-stream"
                else:
                    wheel = f"{name.replace('-', '_')}-9.0-py3-none-any.whl"
                    body, kind = f'<html><a href="/{wheel}">{wheel}</a></html>'.encode(), "text/html"
                known = name.endswith(".whl") or name in SOUND
                self.send_response(200 if known else 404)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if index.stalls and name.startswith(index.stalls) and name.endswith(".whl"):
                    self.wfile.write(body[:100])
                    index.stalled.set()
                    time.sleep(30)
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...

        return Handler


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "index").mkdir()
    detector(tmp_path / "index" / "graph.onnx", dynamic=True)
    index = Index(tmp_path / "index")
    yield index
    index.close()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "my best.pt").write_bytes(b"a pickle that nobody opens")
    return tmp_path / "my best.pt"


def environ(index_url: str | None) -> dict[str, str]:
    """What the command sees: pip asks this index and nobody else, and asks once."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("SACCADE_", "PIP_"))}
    told = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "0",
        "PIP_NO_CACHE_DIR": "1",
        "NO_PROXY": "*",
        "no_proxy": "*",
    }
    return {**own, **told, **({"PIP_INDEX_URL": index_url} if index_url else {})}


def saccade(home: Path, index_url: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "saccade", *map(str, words), "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, env=environ(index_url))


def test_it_installs_exports_and_serves_and_the_second_time_asks_nobody(
    index: Index, checkpoint: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shown, terminal = pty.openpty()
    command = [sys.executable, "-m", "saccade", "add", "lamps", str(checkpoint), "--install-ultralytics"]
    with subprocess.Popen([*command, "--home", str(home)], env=environ(index.url), stderr=terminal) as child:
        os.close(terminal)
        text = b""
        try:
            while part := os.read(shown, 4096):
                text += part
        except OSError:
            pass  # the other end was closed
        assert child.wait(120) == 0, text
    for words in (b"making an environment for ultralytics", b"AGPL-3.0", b"trying whether ultralytics starts"):
        assert words in text
    bright = photo(tmp_path / "bright.png", 230)
    told = json.loads(saccade(home, index.url, "predict", bright, "--model", "lamps", "--json").stdout)
    assert "lamp" in json.dumps(told)

    index.asked.clear()
    (tmp_path / "other.pt").write_bytes(b"another")
    again = saccade(home, index.url, "pull", tmp_path / "other.pt", "--install-ultralytics")
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("other is here: detect")
    assert index.asked == []


def test_packages_that_do_not_fit_together_are_named_and_not_kept(
    index: Index, checkpoint: Path, tmp_path: Path
) -> None:
    index.put("torchvision", "raise RuntimeError('operator torchvision::nms does not exist')")
    home = tmp_path / "home"
    told = saccade(home, index.url, "add", "lamps", checkpoint, "--install-ultralytics")
    assert told.returncode == 2
    assert "operator torchvision::nms does not exist" in told.stderr
    assert "--ultralytics" in told.stderr
    assert "Traceback" not in told.stderr
    assert list(home.iterdir()) == []


def test_where_there_is_no_screen_the_headless_opencv_is_taken(index: Index, tmp_path: Path, monkeypatch: Any) -> None:
    screen = "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
    index.put("opencv-python", screen)
    index.put("ultralytics", "import cv2\n" + YOLO)
    alone_with(index.url, monkeypatch)
    exporter = Exporter(tmp_path / "home", cpu_index="http://127.0.0.1:9/never-asked")
    exporter.install()
    assert exporter.program() is not None
    assert "opencv_python_headless-9.0-py3-none-any.whl" in index.asked


def test_ctrl_c_leaves_nothing_and_the_next_try_succeeds(index: Index, checkpoint: Path, tmp_path: Path) -> None:
    home, index.stalls = tmp_path / "home", "torch-"
    command = [sys.executable, "-m", "saccade", "add", "lamps", str(checkpoint), "--install-ultralytics"]
    child = subprocess.Popen(
        [*command, "--home", str(home)],
        env=environ(index.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert index.stalled.wait(60)
    assert (home / "ultralytics" / "bin" / "python").exists()
    os.killpg(child.pid, signal.SIGINT)
    said, _ = child.communicate(timeout=20)
    assert child.returncode == 1
    assert said.strip() == "Aborted!"
    assert list(home.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)
    index.stalls = ""
    assert saccade(home, index.url, "add", "lamps", checkpoint, "--install-ultralytics").returncode == 0


def test_pytorch_for_processors_is_asked_for_first_unless_pip_has_an_index_of_its_own(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone_with(None, monkeypatch)
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the usual index is far away
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(BadSettings, match=r"No matching distribution found for ultralytics.*PIP_INDEX_URL"):
        Exporter(tmp_path / "home", cpu_index=index.url).install()
    assert [name for name in index.asked if name.endswith(".whl")] == [
        "torch-9.0-py3-none-any.whl",
        "torchvision-9.0-py3-none-any.whl",
    ]
    assert list((tmp_path / "home").iterdir()) == []


def alone_with(index_url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for code in this process."""
    for name in os.environ:
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    for name, value in environ(index_url).items():
        monkeypatch.setenv(name, value)

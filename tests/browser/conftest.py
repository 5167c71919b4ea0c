"""A headless Chromium, and a server with real models for it to look at."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clients.environments import node_folder
from tests.clients.houses import Served, served

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is installed by make test-all")

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
).split()
SHOWN = ("yolo11n.onnx", "yolo11n-seg.onnx", "yolo11n-pose.onnx", "yolov8n-obb_pothole.onnx", "yolo11n-cls.onnx")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The system's Chromium, installed from the distribution's packages where that is possible."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update"], check=False, **quiet)
        subprocess.run(["apt-get", "install", "-y", "chromium"], check=False, **quiet)
    found = shutil.which("chromium")
    if not found:
        pytest.skip("Chromium is not installed here and cannot be (apt-get install chromium)")
    return found


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[playwright.Browser]:
    """One browser for all tests here; each page has a context of its own.

    Its event loop runs as long as it is there, and tests of other folders could not run theirs.
    """
    playwright.expect.set_options(timeout=40_000)
    with (
        playwright.sync_playwright() as driver,
        driver.chromium.launch(executable_path=chromium, args=list(FLAGS)) as browser,
    ):
        yield browser


@pytest.fixture
def page(browser: playwright.Browser, request: pytest.FixtureRequest) -> Iterator[playwright.Page]:
    """A fresh page that fails its test when a script fails or something is asked of another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(40_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(f"script error: {error}"))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.on(
        "request",
        lambda sent: (
            wrong.append(f"third party: {sent.url}")
            if sent.url.startswith("http") and "127.0.0.1" not in sent.url
            else None
        ),
    )
    yield page
    page.unroute_all(behavior="ignoreErrors")  # what the page asks again and again may be on its way
    shots = Path(__file__).resolve().parents[2] / "screenshots"
    shots.mkdir(exist_ok=True)
    page.screenshot(path=shots / f"{request.node.name[:80]}.png")
    context.close()
    assert not wrong, wrong


@pytest.fixture(scope="session")
def models(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one real model of each task."""
    folder = tmp_path_factory.mktemp("models")
    for name in SHOWN:
        (folder / name).symlink_to(data / "models" / name)
    return folder


@pytest.fixture(scope="module")
def house(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A running server."""
    flags = ("--default-model", "yolo11n", "--preload", "yolo11n")
    with served(tmp_path_factory.mktemp("home"), [models], *flags) as house:
        yield house


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, the accessibility checker."""
    return (node_folder("axe", "axe-core@4.14.1") / "node_modules/axe-core/axe.min.js").read_text()

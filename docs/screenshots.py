"""Takes the pictures of the console in ``docs/images`` with Chromium, a real server and a drawn street.

    python docs/screenshots.py

Needs the libraries for tests and Chromium (``apt-get install chromium``).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parent))
from scene import scene

IMAGES = Path(__file__).parent / "images"
READY = "saccade ready on "
MODEL = "picodet-s"


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        street = Path(folder) / "street.jpg"
        scene().save(street, quality=90)
        words = ["serve", "--port", "0", "--preload", MODEL, "--home", folder]
        server = subprocess.Popen([sys.executable, "-m", "saccade", *words], stdout=subprocess.PIPE, text=True)
        try:
            ready = server.stdout.readline() if server.stdout else ""
            shoot(ready.removeprefix(READY).strip(), street)
        finally:
            server.terminate()
            server.wait()


def shoot(url: str, street: Path) -> None:
    with (
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        play(page, url, street)
        page.goto(f"{url}/#/models")
        expect(page.get_by_text(MODEL).first).to_be_visible()
        page.wait_for_timeout(800)
        page.screenshot(path=IMAGES / "console-models.png")


def play(page: Page, url: str, street: Path) -> None:
    page.goto(f"{url}/#/play/{MODEL}")
    page.locator(".drop input").set_input_files(street)
    expect(page.locator(".list li").first).to_be_visible()
    page.wait_for_timeout(800)
    page.screenshot(path=IMAGES / "console-playground.png")


if __name__ == "__main__":
    main()

"""How long from a photo's drop on the playground to the boxes drawn over it, with a model that is in memory.

    python benchmarks/browser.py [--model picodet-s] [--models DIR] [--image FILE] [--rounds 10]

Every round is a fresh page in a headless Chromium, and the server remembers no answers. The clock is the browser's; it
stops in the first frame whose overlay is painted. Needs the libraries for tests and Chromium (``apt-get install
chromium``).
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

READY = "saccade ready on "
DROPPED = """content => new Promise((done, fail) => {
  const data = new DataTransfer();
  const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
  data.items.add(new File([bytes], "photo.jpg", {type: "image/jpeg"}));
  const begun = performance.now();
  setTimeout(() => fail(new Error("nothing was drawn within 30 s")), 30000);
  const look = () => {
    const canvas = document.querySelector(".stage canvas");
    const listed = document.querySelector(".list li");
    const painted = listed && canvas && canvas.width && canvas.getContext("2d")
      .getImageData(0, 0, canvas.width, canvas.height).data.some(value => value > 0);
    if (painted) done(performance.now() - begun);
    else requestAnimationFrame(look);
  };
  document.querySelector(".drop").dispatchEvent(
    new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: data}));
  requestAnimationFrame(look);
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="picodet-s")
    parser.add_argument("--models")
    parser.add_argument("--image")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(given.image) if given.image else drawn(Path(folder))
        words = ["serve", "--port", "0", "--home", f"{folder}/home", "--preload", given.model]
        words += ["--models", given.models] if given.models else []
        environ = {**os.environ, "SACCADE_CACHE_BYTES": "0", "SACCADE_ACCESS_LOG": "false"}
        command = [sys.executable, "-m", "saccade", *words]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
        try:
            ready = server.stdout.readline() if server.stdout else ""
            taken = measured(ready.removeprefix(READY).strip(), given.model, photo, given.rounds)
        finally:
            server.terminate()
            server.wait()
    print(f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {photo.name}, {given.model}")
    print("seconds from the photo's drop to its boxes")
    print(f"first page  {taken[0]:.3f}")
    print(f"later pages {statistics.median(taken[1:]):.3f} ({min(taken[1:]):.3f} – {max(taken[1:]):.3f})")


def measured(url: str, model: str, photo: Path, rounds: int) -> list[float]:
    """Seconds of one fresh page and then of ``rounds`` more."""
    content = base64.b64encode(photo.read_bytes()).decode()
    with (
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"]) as browser,
    ):
        return [dropped(browser, f"{url}/#/play/{model}", content) for _ in range(rounds + 1)]


def dropped(browser: Browser, address: str, content: str) -> float:
    """Seconds of one page."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    try:
        page = context.new_page()
        page.goto(address)
        page.locator(".drop").wait_for()
        return float(page.evaluate(DROPPED, content)) / 1000
    finally:
        context.close()


def drawn(folder: Path) -> Path:
    """The documentation's street."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs"))
    from scene import scene

    photo = folder / "street.jpg"
    scene().save(photo, quality=90)
    return photo


if __name__ == "__main__":
    main()

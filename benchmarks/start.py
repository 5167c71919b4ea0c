"""How long the command line takes to start: its import, its help, and a photo's first answer from a compiled model.

    python benchmarks/start.py [--model NAME] [--models DIR] [--image FILE] [--rounds 5]

Every figure is of fresh processes. The model is fetched and compiled before.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMPORT = "import saccade.cli"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="picodet-s")
    parser.add_argument("--models")
    parser.add_argument("--image")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(given.image) if given.image else drawn(Path(folder))
        predict = ["-m", "saccade", "predict", str(photo), "-m", given.model, "--json"]
        predict += ["--models", given.models] if given.models else []
        run([sys.executable, *predict])
        rows = {
            "an empty Python process": ["-c", ""],
            "import of the command line": ["-c", IMPORT],
            "saccade --help": ["-m", "saccade", "--help"],
            f"saccade predict, {given.model}": predict,
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
        for _ in range(given.rounds):
            for name, words in rows.items():
                taken[name].append(run([sys.executable, *words]))
    print(f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; seconds, median (least – most)")
    for name, both in taken.items():
        (wall, least, most), (cpu, *_) = (
            (statistics.median(column), min(column), max(column)) for column in zip(*both, strict=True)
        )
        print(f"{name:<32} {wall:.3f} ({least:.3f} – {most:.3f}), of the processors {cpu:.3f}")


def run(command: list[str]) -> tuple[float, float]:
    """Seconds from start to end of a process, and the processors' seconds it took: those hardly mind other load."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def drawn(folder: Path) -> Path:
    """A picture of a usual photo's size."""
    from saccade.cli.bench import made_photo

    path = folder / "photo.jpg"
    path.write_bytes(made_photo())
    return path


if __name__ == "__main__":
    main()

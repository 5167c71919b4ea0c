"""The Makefile on machines that lack something."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HALF = """#!/bin/sh
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo "ensurepip is not available"; exit 1;;
esac
"""
"""A Python as Debian has it without python3-venv: what it makes is no environment, but looks like one."""
SED = """#!/bin/sh
for word; do set -- "$@" "$(printf %s "$word" | {sed} 's/[\\]t/t/g')"; shift; done
exec {sed} "$@"
"""
"""A sed as macOS has had it: what is a tab to others is the letter t to it."""


pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def test_an_environment_that_could_not_be_made_is_made_anew_the_next_time(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    python = tmp_path / "half"
    python.write_text(HALF)
    python.chmod(0o755)
    for _ in range(2):
        words = ["make", "--no-print-directory", "serve", f"PYTHON={python}"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0
        assert done.stdout.splitlines()[-1] == "ensurepip is not available"
        assert not (tmp_path / ".venv").exists()


def test_what_can_be_made_is_listed_in_two_columns_also_by_the_tools_of_macos(tmp_path: Path) -> None:
    tool = tmp_path / "sed"
    tool.write_text(SED.format(sed=shutil.which("sed")))
    tool.chmod(0o755)
    words = ["make", "--no-print-directory", f"PATH={tmp_path}:/usr/bin:/bin"]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "  make serve        Install what is needed and serve" in told
    assert "  make test-models  Run the longest tests" in told

"""What is being made leaves nothing behind, whatever its maker ends by."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from saccade.drafts import draft

WORKS = """
import sys
from pathlib import Path
from saccade.drafts import draft
with draft(Path(sys.argv[1]), "part-") as folder:
    (folder / "half").write_bytes(b"of it")
    print(folder, flush=True)
    sys.stdin.read()
"""


def worker(home: Path) -> tuple[subprocess.Popen[str], Path]:
    """Another process at work, and its folder."""
    command = [sys.executable, "-c", WORKS, str(home)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_process_left_is_cleared_by_the_next_and_nobody_elses_work(tmp_path: Path) -> None:
    (killed, left), (busy, used) = worker(tmp_path), worker(tmp_path)
    killed.kill()
    killed.wait()
    assert (left / "half").exists()
    other = tmp_path / "another"
    other.mkdir()
    with draft(tmp_path, "part-") as mine:
        assert set(tmp_path.iterdir()) == {mine, used, other}
        assert (used / "half").read_bytes() == b"of it"
    busy.communicate("")
    assert list(tmp_path.iterdir()) == [other]


def test_a_folder_is_gone_after_a_failure_and_stays_where_it_was_moved_to(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), draft(tmp_path / "home", "part-") as folder:
        (folder / "half" / "of it").write_bytes(b"")
    with draft(tmp_path / "home", "part-") as folder:
        (folder / "all").write_bytes(b"of it")
        folder.rename(tmp_path / "home" / "made")
    assert [path.name for path in (tmp_path / "home").rglob("*")] == ["made", "all"]

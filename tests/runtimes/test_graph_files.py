"""Graphs whose weights lie elsewhere."""

from __future__ import annotations

from pathlib import Path

from saccade.runtimes.graph_files import together


def linked(folder: Path) -> tuple[str, str]:
    """A graph and its weights as the Hub's cache has them: links that lead elsewhere."""
    blobs, shown = folder / "blobs", folder / "snapshots"
    for one in (blobs, shown):
        one.mkdir()
    for name in ("m.onnx", "m.onnx_data"):
        (blobs / f"{name}-hash").write_text(name)
        (shown / name).symlink_to(blobs / f"{name}-hash")
    return str(shown / "m.onnx"), str(shown / "m.onnx_data")


def test_what_a_worker_that_was_killed_while_it_opened_a_graph_has_left_goes(tmp_path: Path) -> None:
    """A copy of a whole model stayed for good each time."""
    files, near = linked(tmp_path), tmp_path / "compiled"
    left = near / "graph-left"
    left.mkdir(parents=True)
    (left / "m.onnx").write_text("weights")
    with together(files, str(near)) as another, together(files, str(near)) as graph:
        assert (graph.read_text(), (graph.parent / "m.onnx_data").read_text()) == ("m.onnx", "m.onnx_data")
        assert another.read_text() == "m.onnx", "another worker may be reading it now"
        assert not left.exists()
    assert list(near.iterdir()) == []

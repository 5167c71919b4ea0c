"""The comparison with peers: its callers, what it keeps, and how it tells ratios."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from benchmarks.peers import caller, table
from benchmarks.peers.candidates import Candidate
from benchmarks.peers.results import MISSING, Level, Results, Turn
from benchmarks.peers.run import request

BOX = {"box": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        ([{"label": "cat", "score": 0.9, "box": {}}, {"label": "dog", "score": 0.8, "box": {}}], 2),
        ({"images": [{"results": [BOX, BOX, BOX], "shape": [4, 5]}], "metadata": {}}, 3),
        ({"success": True, "message": "", "data": [BOX]}, 1),
        ({"results": []}, 0),
        ({"outputs": [{"name": "answer", "data": [json.dumps({"results": [BOX, BOX]})]}]}, 2),
    ],
    ids=["Hugging Face", "HUB", "first Ultralytics", "none", "KServe"],
)
def test_objects_are_counted_in_the_words_of_every_server(answer: object, count: int) -> None:
    assert caller.objects(json.dumps(answer).encode()) == count


def asked(answers: Sequence[Sequence[bytes]], concurrency: int, calls: int) -> caller.Found:
    """What callers find at a server that gives these answers in turn, each in these pieces."""
    given = iter(answers)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            try:
                await reader.readuntil(b"\r\n\r\nphoto")
            except asyncio.IncompleteReadError:
                break
            for piece in next(given):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.005)
        writer.close()

    async def both() -> caller.Found:
        async with await asyncio.start_server(handle, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            return await caller.closed(port, [caller.request(port, "/", b"photo")], concurrency, calls)

    return asyncio.run(both())


def test_answers_in_pieces_and_in_chunks_are_read_whole() -> None:
    plain = (b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 4\r\n\r\n[", b"{}]")
    chunked = (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n[{}\r\n", b"1;x\r\n]\r\n0\r\n", b"\r\n")
    for pieces in (plain, chunked):
        found = asked([pieces] * 3, 1, 3)
        assert (len(found.seconds), found.failed, found.bodies) == (3, 0, {0: b"[{}]"})
        assert min(found.seconds) > 0.009


def test_what_is_refused_counts_as_failed_and_not_as_an_answer() -> None:
    refused = (b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",)
    good = (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",)
    found = asked([good, refused, refused, good], 2, 4)
    assert (len(found.seconds), found.failed) == (2, 2)


def test_a_photo_is_sent_as_the_server_wants_it() -> None:
    plain = request(Candidate("g", "n", path="/models/m"), 80, b"JPEG")
    assert plain.startswith(b"POST /models/m HTTP/1.1\r\n")
    assert plain.endswith(b"\r\n\r\nJPEG")
    assert b'name="image"' in request(Candidate("g", "n", form="image"), 80, b"JPEG")
    head, _, body = request(Candidate("g", "n", form="kserve"), 80, b"JPEG").partition(b"\r\n\r\n")
    size = int(head.decode().split("Inference-Header-Content-Length: ")[1].split("\r\n")[0])
    assert json.loads(body[:size])["inputs"][0]["parameters"] == {"binary_data_size": 8}
    assert body[size:] == b"\x04\x00\x00\x00JPEG"


def level(per_second: float, cpu_ms: float) -> Level:
    return Level(per_second, p50_ms=1, slowest_ms=2, cpu_ms=cpu_ms, callers_cpu_ms=0.1, failed=0, others=0.0)


def turn(name: str, number: int, per_second: float, cpu_ms: float = 10, broken: str = "") -> Turn:
    levels = {count: level(per_second, cpu_ms) for count in (1, 4, 16)}
    return Turn("g", number, name, levels, memory_bytes=100, objects=3, broken=broken)


def test_an_interrupted_round_is_measured_again_as_a_whole(tmp_path: Path) -> None:
    results = Results.opened(tmp_path / "r.json")
    results.head = {"commit": "abc"}
    results.add(turn("saccade auto", 0, 50))
    results.add(turn("peer", 0, 10, broken="it ended with 1"))
    again = Results.opened(tmp_path / "r.json")
    assert again.head == {"commit": "abc"}
    assert again.has("g", 0, ["saccade auto"])
    assert not again.has("g", 0, ["saccade auto", "peer"])
    again.drop("g", 0)
    assert again.turns == []
    again.add(turn("peer", 0, 0, broken=f"{MISSING}: no wheel"))
    assert again.has("g", 0, ["peer"])


def test_ratios_are_of_the_same_turn_and_medians_over_the_turns() -> None:
    turns = [turn("saccade auto", 0, 10), turn("saccade auto", 1, 40), turn("saccade auto", 2, 90)]
    turns += [turn("peer", 0, 10, 20), turn("peer", 1, 10, 20), turn("peer", 2, 10, 40)]
    lines = "\n".join(table._ratios(turns, ["saccade auto", "peer"]))
    assert "| peer | auto | 4.00× | 4.00× | 4.00× | 0.50 | 0.50 | 1.00 |" in lines


def test_a_loop_is_compared_with_the_same_precision_and_shapes_only() -> None:
    assert table.comparable("saccade auto", "bare loop, auto")
    assert not table.comparable("saccade f32", "bare loop, auto")
    assert not table.comparable("saccade auto", "bare loop, auto, rectangles")
    assert table.comparable("saccade auto, rectangles", "bare loop, auto, rectangles")
    assert table.comparable("saccade auto, ViT-base", "FastAPI + transformers pipeline, ViT-base")
    assert not table.comparable("saccade auto, ViT-base", "FastAPI + transformers pipeline, DETR-ResNet-50")


def test_a_peer_that_did_not_run_is_in_the_table_with_the_reason(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.json", {"date": "d", "cpu": "c", "flags": "f", "commit": "x", "versions": "v"}, [])
    results.turns = [turn("saccade auto", 0, 50), Turn("g", 0, "peer", broken=f"{MISSING}: no wheel")]
    assert f"| peer | {MISSING}: no wheel |" in table.whole(results)

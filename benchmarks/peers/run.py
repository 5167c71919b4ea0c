"""saccade beside its peers: the same weights, the same photos, one run, interleaved.

    python benchmarks/peers/run.py --model yolov8n.onnx --photos FOLDER [--checkpoint yolov8n.pt] [--only NAME …]

Every peer lives in an environment of its own under ``.envs``, made on first use. One server runs at a time; the peers
take turns for several rounds, so that a slow minute of the machine meets all of them. Requests are a fixed number that
is drained before the next peer begins. Throughput, latency, CPU seconds per request (of the server's whole process
tree) and memory (PSS) are medians over the rounds; ratios are against the bare loop of the same run. The load generator
(``saccade.cli.load``) runs on the same cores; its own share is measured against a bare ASGI server and printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psutil

from saccade.cli.load import drive

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))

from _pytest.outcomes import Skipped  # noqa: E402
from tests.clients import environments  # noqa: E402

LEVELS = (1, 4, 16)
TORCH = "torch==2.13.0"
PLAIN = ("onnxruntime==1.31.1", "opencv-python-headless==5.0.0.93", "numpy", "openvino==2026.4.1")
NO_VISION = {
    "torchvision/__init__.py": "from . import ops\n__version__ = '0.28.0'\n",
    "torchvision/ops/__init__.py": (
        "import torch\n"
        "def nms(boxes, scores, iou_threshold):\n"
        "    order = scores.sort(descending=True, stable=True).indices\n"
        "    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])\n"
        "    keep = []\n"
        "    while order.numel():\n"
        "        i, order = order[0], order[1:]\n"
        "        keep.append(i)\n"
        "        low = torch.maximum(boxes[i, :2], boxes[order, :2])\n"
        "        high = torch.minimum(boxes[i, 2:], boxes[order, 2:])\n"
        "        inside = (high - low).clamp(min=0).prod(1)\n"
        "        order = order[inside / (area[i] + area[order] - inside) <= iou_threshold]\n"
        "    return torch.stack(keep) if keep else order\n"
    ),
}
"""No wheel of torchvision loads beside the CPU build of torch; ultralytics needs this one function of it."""


@dataclass
class Peer:
    """One server under one configuration."""

    name: str
    python: Path
    command: list[str]
    variables: dict[str, str] = field(default_factory=dict)
    path: str = "/"
    form: str = ""
    rows: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    memory: list[int] = field(default_factory=list)
    broken: str = ""


def peers(options: argparse.Namespace) -> Iterator[Peer]:
    """All that are asked for, with their environments made."""
    model = str(Path(options.model).resolve())
    folder = ROOT / ".cache" / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    link = folder / "models" / Path(model).name
    link.unlink(missing_ok=True)
    link.symlink_to(model)
    stem = Path(model).stem
    here = Path(sys.executable)
    for precision in ("auto", "f32"):
        words = ["-m", "saccade", "serve", "--models", str(folder / "models"), "--preload", stem, "--no-access-log"]
        words += ["--home", str(folder / "home"), "--precision", precision, "--port", "{port}"]
        yield Peer(f"saccade {precision}", here, words, path=f"/v1/predict/{stem}", form="image")
    plain = {"BENCH_MODEL": model, "BENCH_ENGINE": "onnxruntime"}
    yield Peer("bare ASGI (floor of the load generator)", here, [str(HERE / "serve_bare.py")])
    ultralytics = (TORCH, "onnxruntime==1.31.1", "fastapi", "uvicorn")
    if wanted(options, "ultralytics"):
        python = environment(
            "peer-ultralytics", *ultralytics, "ultralytics==8.4.190", "onnx", alone=(), modules=NO_VISION
        )
        script = [str(HERE / "serve_ultralytics.py")]
        if options.checkpoint:
            yield Peer("FastAPI + ultralytics .pt", python, script, {"BENCH_MODEL": options.checkpoint})
        yield Peer("FastAPI + ultralytics .onnx", python, script, {"BENCH_MODEL": model})
    if wanted(options, "litserve"):
        python = environment("peer-litserve", "litserve==0.2.19", *PLAIN)
        script = [str(HERE / "serve_litserve.py")]
        yield Peer("LitServe, ONNX Runtime", python, script, {**plain, "BENCH_THREADS": "2"})
        tuned = {**plain, "BENCH_WORKERS": "2", "BENCH_THREADS": "1"}
        yield Peer("LitServe, ONNX Runtime, 2 workers", python, script, tuned)
        yield Peer("LitServe, OpenVINO, 2 workers", python, script, {**tuned, "BENCH_ENGINE": "openvino"})
    if wanted(options, "mosec"):
        python = environment("peer-mosec", "mosec==0.9.8", "msgspec", *PLAIN)
        tuned = {**plain, "BENCH_WORKERS": "2", "BENCH_THREADS": "1"}
        yield Peer("Mosec, ONNX Runtime, 2 workers", python, [str(HERE / "serve_mosec.py")], tuned, "/inference")
    if wanted(options, "bentoml"):
        python = environment("peer-bentoml", "bentoml==1.4.40", *PLAIN)
        words = ["-m", "bentoml", "serve", "serve_bentoml:Yolo", "--port", "{port}", "--host", "127.0.0.1"]
        tuned = {**plain, "BENCH_WORKERS": "2", "BENCH_THREADS": "1", "BENTOML_DO_NOT_TRACK": "True"}
        yield Peer("BentoML, ONNX Runtime, 2 workers", python, words, tuned, "/predict", "photo")
    if wanted(options, "ray"):
        python = environment("peer-ray", "ray[serve]==2.60.0", *PLAIN)
        script = [str(HERE / "serve_ray.py")]
        yield Peer("Ray Serve, ONNX Runtime, 1 replica", python, script, {**plain, "BENCH_THREADS": "2"})
        quick = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
        tuned = {**plain, "BENCH_WORKERS": "2", "BENCH_THREADS": "1", **quick}
        yield Peer("Ray Serve + HAProxy, ONNX Runtime, 2 replicas", python, script, tuned)


def environment(name: str, *requirements: str, **more: Any) -> Path:
    """The peer's interpreter; one that cannot be installed here is told in the table instead of ending the run."""
    try:
        return environments.environment(name, *requirements, **more)
    except Skipped as skipped:
        return Path(f"missing: {skipped.msg}"[:300])


def wanted(options: argparse.Namespace, name: str) -> bool:
    return not options.only or name in options.only


def measure(peer: Peer, photos: Sequence[bytes], calls: int) -> None:
    """One round of one peer."""
    if str(peer.python).startswith("missing"):
        peer.broken = str(peer.python)
        return
    try:
        with running(peer) as (port, process):
            url = f"http://127.0.0.1:{port}{peer.path}"
            for photo in photos[:2]:
                asyncio.run(sent(url, photo, peer.form, 2, 4))
            for level in LEVELS:
                before = cpu_seconds(process)
                reports = [asyncio.run(sent(url, photo, peer.form, level, calls)) for photo in photos]
                spent = cpu_seconds(process) - before
                whole = sum(report.whole_s for report in reports)
                answered = sum(len(report.seconds) for report in reports)
                failed = sum(count for report in reports for status, count in report.statuses.items() if status != 200)
                ordered = sorted(second for report in reports for second in report.seconds)
                peer.rows.setdefault(level, []).append(
                    {
                        "per_second": answered / whole,
                        "p50_ms": 1e3 * ordered[len(ordered) // 2],
                        "p99_ms": 1e3 * ordered[int(0.99 * (len(ordered) - 1))],
                        "cpu_ms": 1e3 * spent / answered,
                        "failed": failed,
                    }
                )
            peer.memory.append(memory(process))
    except Exception as error:
        peer.broken = f"{type(error).__name__}: {error}"[:300]


async def sent(url: str, photo: bytes, form: str, concurrency: int, calls: int) -> Any:
    body, headers = photo, {"content-type": "image/jpeg"}
    if form:
        edge = "saccade-edge"
        head = f'--{edge}\r\nContent-Disposition: form-data; name="{form}"; filename="photo.jpg"\r\n'
        body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + photo + f"\r\n--{edge}--\r\n".encode()
        headers = {"content-type": f"multipart/form-data; boundary={edge}"}
    return await drive(url, body, headers, concurrency=concurrency, calls=calls)


@contextmanager
def running(peer: Peer) -> Iterator[tuple[int, psutil.Process]]:
    """The peer's server on a free port of this machine, ended with its whole tree."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [word.replace("{port}", str(port)) for word in peer.command]
    quiet = {"YOLO_AUTOINSTALL": "False", "YOLO_OFFLINE": "True", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    environ = {**os.environ, **quiet, **peer.variables, "BENCH_PORT": str(port), "PYTHONPATH": str(HERE)}
    child = subprocess.Popen(
        [str(peer.python), *words], cwd=HERE, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    process = psutil.Process(child.pid)
    try:
        await_open(child, port)
        yield port, process
    finally:
        tree = [process, *process.children(recursive=True)] if process.is_running() else []
        for one in reversed(tree):
            try:
                one.terminate()
            except psutil.NoSuchProcess:
                continue
        _, alive = psutil.wait_procs(tree, timeout=10)
        for one in alive:
            one.kill()
        child.wait()


def await_open(child: subprocess.Popen[bytes], port: int, patience_s: float = 180) -> None:
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if child.poll() is not None:
            raise RuntimeError(f"the server ended with {child.returncode} before it was ready")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).read()
            return
        except urllib.error.HTTPError as error:
            if error.code in (404, 405):
                return
        except OSError:
            pass
        time.sleep(0.5)
    raise RuntimeError("the server was not ready in time")


def cpu_seconds(process: psutil.Process) -> float:
    """User and system seconds of the whole tree."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
            total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


def memory(process: psutil.Process) -> int:
    """Bytes of the whole tree, shared pages counted once."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            facts = one.memory_full_info()
            total += getattr(facts, "pss", facts.rss)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def table(found: Sequence[Peer]) -> str:
    """Markdown: medians over the rounds."""
    lines = [
        "| server | req/s at 1 | at 4 | at 16 | p50 ms at 1 | p99 ms at 16 | CPU ms/request | memory MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for peer in found:
        if not peer.rows.get(LEVELS[-1]):
            lines.append(f"| {peer.name} | did not run: {peer.broken} | | | | | | |")
            continue
        mid = {
            level: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
            for level, rows in peer.rows.items()
        }
        speed = " | ".join(f"{mid[level]['per_second']:.1f}" for level in LEVELS)
        rest = f"{mid[1]['p50_ms']:.1f} | {mid[16]['p99_ms']:.0f} | {mid[16]['cpu_ms']:.1f}"
        lines.append(f"| {peer.name} | {speed} | {rest} | {statistics.median(peer.memory) / 1e6:.0f} |")
    return "\n".join(lines)


def ratios(found: Sequence[Peer]) -> str:
    """How many times faster saccade is, round by round, as medians."""
    ours = {peer.name: peer for peer in found if peer.name.startswith("saccade")}
    lines = [
        "| against | saccade auto: at 1 | at 4 | at 16 | saccade f32: at 1 | at 4 | at 16 |",
        "|---|---|---|---|---|---|---|",
    ]
    for peer in found:
        if peer.name in ours or peer.name.startswith("bare") or not peer.rows.get(LEVELS[-1]):
            continue
        cells = []
        for name in ("saccade auto", "saccade f32"):
            for level in LEVELS:
                pairs = zip(ours[name].rows[level], peer.rows[level], strict=False)
                cells.append(f"{statistics.median(a['per_second'] / b['per_second'] for a, b in pairs):.2f}×")
        lines.append(f"| {peer.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="a YOLO detection graph (.onnx) of 640 pixels")
    parser.add_argument("--checkpoint", help="the same weights as .pt, for the peer that wants one")
    parser.add_argument("--photos", required=True, help="a folder of JPEGs")
    parser.add_argument("--only", nargs="*", default=[], help="ultralytics litserve mosec bentoml ray")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=48, help="calls per photo and level")
    parser.add_argument("--count", type=int, default=3, help="how many photos")
    parser.add_argument("--json", help="also write everything that was measured")
    options = parser.parse_args()
    photos = [file.read_bytes() for file in sorted(Path(options.photos).glob("*.jpg"))[: options.count]]
    found = list(peers(options))
    for number in range(options.rounds):
        for peer in found:
            print(f"round {number + 1} of {options.rounds}: {peer.name}", file=sys.stderr, flush=True)
            measure(peer, photos, options.calls)
            if peer.broken:
                print(f"  {peer.broken}", file=sys.stderr, flush=True)
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout
    cores = os.cpu_count()
    print(f"{date.today()}, {cores} cores of {platform.processor() or platform.machine()}, commit {revision.strip()}\n")
    print(table(found), ratios(found), sep="\n\n")
    if options.json:
        kept = [{"name": peer.name, "rows": peer.rows, "memory": peer.memory, "broken": peer.broken} for peer in found]
        Path(options.json).write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()

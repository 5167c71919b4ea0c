"""Who takes part: saccade and every peer under each of its configurations, in groups that are measured side by side."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers import environments
from benchmarks.peers.environments import ROOT, Missing, interpreter
from benchmarks.peers.server import QUIET

from saccade.stores.ultralytics import Exporter

HERE = Path(__file__).resolve().parent
CACHE = ROOT / ".cache" / "peers"
CORES = str(len(os.sched_getaffinity(0)))
RAY = (str(HERE / "serve_ray.py"),)
DYNAMIC = "-dynamic"
"""The export of a checkpoint for inputs of any size is called like the graph of 640 pixels with this behind it."""

CALLS = {1: 8, 4: 16, 16: 48}
FEW = {1: 2, 4: 4, 16: 16}
"""How many calls a round has for so many callers."""

CHECKPOINTS = {
    "ViT-base": ("google/vit-base-patch16-224", "image-classification", CALLS),
    "DETR-ResNet-50": ("facebook/detr-resnet-50", "object-detection", FEW),
}
"""Published configurations with random weights, for want of the Hub: the task, and how many calls."""


@dataclass(frozen=True)
class Candidate:
    """One server under one configuration, or a loop without a server.

    ``words`` follow the interpreter; ``{port}`` stands for the port. ``form`` is how a photo is sent: "" as the body,
    "kserve" as the KServe protocol has it, else as the file of a form's field. ``calls`` per number of callers.
    """

    group: str
    name: str
    environment: str = ""
    words: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    path: str = "/"
    form: str = ""
    calls: Mapping[int, int] = field(default_factory=lambda: CALLS)
    loop: bool = False

    def python(self) -> Path:
        """Raises Missing."""
        return interpreter(self.environment) if self.environment else Path(sys.executable)


class House:
    """The models as files: the graph, the export of the checkpoint, the checkpoints of transformers."""

    def __init__(self, graph: Path, checkpoint: Path | None, photos: list[Path]) -> None:
        self.folder = CACHE / "models"
        self.home = CACHE / "home"
        self.photos = photos
        self.checkpoint = checkpoint or self._made(graph)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stem = graph.stem
        link = self.folder / graph.name
        link.unlink(missing_ok=True)
        link.symlink_to(graph.resolve())

    @staticmethod
    def _made(graph: Path) -> Path | None:
        """The graph's weights as a checkpoint, made once by the peer's own program; None where that cannot be."""
        target = CACHE / f"{graph.stem}.pt"
        if target.exists():
            return target
        CACHE.mkdir(parents=True, exist_ok=True)
        try:
            python = interpreter("ultralytics")
        except Missing:
            return None
        words = [str(python), str(HERE / "checkpoint.py"), str(graph.resolve()), str(target)]
        made = subprocess.run(words, cwd=CACHE, env={**os.environ, **QUIET}, capture_output=True, text=True)
        if made.returncode != 0:
            print(f"no checkpoint: {made.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return target if target.exists() else None

    def dynamic(self) -> str:
        """The name of the export of any size, which is made once by the peer's own program."""
        assert self.checkpoint is not None
        target = self.folder / f"{self.stem}{DYNAMIC}.onnx"
        if not target.exists():
            Exporter(CACHE, interpreter("ultralytics")).export(self.checkpoint, target)
        return target.stem

    def pipeline(self, name: str) -> Path:
        """A checkpoint's folder, filled once."""
        folder = CACHE / "checkpoints" / name.replace("/", "--")
        if not (folder / "preprocessor_config.json").is_file():
            script = ROOT / "tests" / "convert" / "published.py"
            subprocess.run(
                [str(interpreter("transformers")), str(script), name, str(folder), os.devnull],
                check=True,
                capture_output=True,
            )
        return folder


def candidates(house: House, groups: tuple[str, ...]) -> Iterator[Candidate]:
    """All of the groups, ours first in each; a group that needs what is not there says so instead."""
    for group in groups:
        yield from GROUPS[group](house)


def engine(house: House) -> Iterator[Candidate]:
    """What the server costs: the same parts in a bare loop, with and without rectangles."""
    yield from ours("engine", house, *_with_rectangles(house))
    for precision in ("auto", "f32"):
        yield loop("engine", f"bare loop, {precision}", house, house.stem, precision)
    if house.checkpoint is not None:
        yield loop("engine", "bare loop, auto, rectangles", house, house.dynamic(), "auto")
        yield loop("engine", "bare loop, auto, dynamic graph", house, house.dynamic(), "auto", shapes="0")
        yield loop("engine", "bare loop, auto, dynamic graph as exported", house, house.dynamic(), "auto", "0", "whole")
    yield Candidate("engine", "bare ASGI (the callers' own cost)", words=(str(HERE / "serve_bare.py"),))


def ultralytics(house: House) -> Iterator[Candidate]:
    """FastAPI around ``YOLO.predict``, as a tutorial has it."""
    yield from ours("ultralytics", house, *_with_rectangles(house))

    def peer(name: str, model: Path, **variables: str) -> Candidate:
        words = (str(HERE / "serve_ultralytics.py"),)
        return Candidate("ultralytics", name, "ultralytics", words, {"BENCH_MODEL": str(model), **variables})

    if house.checkpoint is not None:
        yield peer("FastAPI + ultralytics .pt", house.checkpoint)
        yield peer("FastAPI + ultralytics .pt, 2 workers", house.checkpoint, BENCH_WORKERS="2")
        yield peer(f"FastAPI + ultralytics .pt, {CORES} torch threads", house.checkpoint, BENCH_THREADS=CORES)
    yield peer("FastAPI + ultralytics .onnx", house.folder / f"{house.stem}.onnx")


def onnxruntime(house: House) -> Iterator[Candidate]:
    """Servers without model code, with ONNX Runtime and plain OpenCV inside."""
    yield from ours("onnxruntime", house, house.stem)
    graph = str(house.folder / f"{house.stem}.onnx")
    default = {"BENCH_MODEL": graph, "BENCH_THREADS": CORES}
    tuned = {"BENCH_MODEL": graph, "BENCH_WORKERS": CORES, "BENCH_THREADS": "1"}
    many = f", {CORES} workers × 1 thread"

    def peer(name: str, package: str, words: tuple[str, ...], variables: dict[str, str], **more: str) -> Candidate:
        return Candidate("onnxruntime", name, package, words, variables, **more)  # type: ignore[arg-type]

    lit, mosec = (str(HERE / "serve_litserve.py"),), (str(HERE / "serve_mosec.py"),)
    bento = ("-m", "bentoml", "serve", "serve_bentoml:Yolo", "--port", "{port}", "--host", "127.0.0.1")
    triton = (str(HERE / "serve_triton.py"),)
    yield peer(f"LitServe, 1 worker × {CORES} threads", "litserve", lit, default, path="/predict")
    yield peer(f"LitServe{many}", "litserve", lit, tuned, path="/predict")
    yield peer(f"Mosec{many}", "mosec", mosec, tuned, path="/inference")
    yield peer(f"BentoML{many}", "bentoml", bento, tuned, path="/predict", form="photo")
    yield peer(f"Triton (PyTriton){many}", "triton", triton, tuned, path="/v2/models/yolo/infer", form="kserve")


def ray(house: House) -> Iterator[Candidate]:
    """Ray Serve as it comes."""
    yield from ours("ray", house, house.stem)
    default = {"BENCH_MODEL": str(house.folder / f"{house.stem}.onnx"), "BENCH_THREADS": CORES}
    yield Candidate("ray", f"Ray Serve, 1 replica × {CORES} threads", "ray", RAY, default)


def ray_tuned(house: House) -> Iterator[Candidate]:
    """Ray Serve as its pages on performance advise; a group of its own, for two clusters would meet each other."""
    yield from ours("ray-tuned", house, house.stem)
    quick = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
    graph = str(house.folder / f"{house.stem}.onnx")
    tuned = {"BENCH_MODEL": graph, "BENCH_WORKERS": CORES, "BENCH_THREADS": "1", **quick}
    yield Candidate("ray-tuned", f"Ray Serve, HAProxy, {CORES} replicas × 1 thread", "ray", RAY, tuned)


def openvino(house: House) -> Iterator[Candidate]:
    """The best of the peers with our own runtime and precision in it."""
    yield from ours("openvino", house, house.stem)
    graph = str(house.folder / f"{house.stem}.onnx")
    words = (str(HERE / "serve_litserve.py"),)
    for precision in ("auto", "f32"):
        given = {"BENCH_MODEL": graph, "BENCH_ENGINE": "openvino", "BENCH_PRECISION": precision}
        lone, many = {**given, "BENCH_THREADS": CORES}, {**given, "BENCH_WORKERS": CORES, "BENCH_THREADS": "1"}
        name = f"LitServe + OpenVINO {precision}"
        yield Candidate("openvino", f"{name}, 1 worker × {CORES} threads", "litserve", words, lone, "/predict")
        yield Candidate("openvino", f"{name}, {CORES} workers × 1 thread", "litserve", words, many, "/predict")


def transformers(house: House) -> Iterator[Candidate]:
    """``transformers.pipeline`` behind FastAPI, which is what the toolkit of inference endpoints is."""
    for short, (name, task, calls) in CHECKPOINTS.items():
        folder = house.pipeline(name)
        for precision in ("auto", "f32"):
            words = _serve(house, folder.parent, folder.name, precision)
            words += ("--converter-python", str(interpreter("transformers")))
            header = f"/models/{folder.name}"
            yield Candidate("transformers", f"saccade {precision}, {short}", "", words, path=header, calls=calls)
        variables = {"BENCH_MODEL": str(folder), "BENCH_TASK": task, "BENCH_THREADS": CORES}
        script = (str(HERE / "serve_pipeline.py"),)
        title = f"FastAPI + transformers pipeline, {short}"
        yield Candidate("transformers", title, "transformers", script, variables, calls=calls)


GROUPS = {
    "engine": engine,
    "ultralytics": ultralytics,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "ray": ray,
    "ray-tuned": ray_tuned,
    "transformers": transformers,
}


def ours(group: str, house: House, *models: str) -> Iterator[Candidate]:
    """saccade at both precisions, asked as the Ultralytics clients ask."""
    for model in models:
        rectangles = ", rectangles" if model.endswith(DYNAMIC) else ""
        for precision in ("auto", "f32"):
            words = _serve(house, house.folder, model, precision)
            name = f"saccade {precision}{rectangles}"
            yield Candidate(group, name, "", words, path=f"/v1/predict/{model}", form="image")


def loop(
    group: str, name: str, house: House, model: str, precision: str, shapes: str = "4", ends: str = "late"
) -> Candidate:
    """The bare loop over the photos."""
    photos = [str(photo) for photo in house.photos]
    words = (str(HERE / "loop.py"), str(house.folder), model, precision, shapes, ends, *photos)
    return Candidate(group, name, words=words, loop=True)


def _with_rectangles(house: House) -> list[str]:
    return [house.stem] if house.checkpoint is None else [house.stem, house.dynamic()]


def _serve(house: House, folder: Path, model: str, precision: str) -> tuple[str, ...]:
    words = ("-m", "saccade", "serve", "--models", str(folder), "--preload", model, "--no-access-log")
    return (*words, "--home", str(house.home), "--precision", precision, "--port", "{port}")


def versions() -> str:
    """What stands in the environments of the peers, for the head of the table."""
    packages = {
        "ultralytics": ("ultralytics", "torch"),
        "litserve": ("litserve", "onnxruntime", "openvino"),
        "mosec": ("mosec",),
        "bentoml": ("bentoml",),
        "triton": ("nvidia-pytriton",),
        "ray": ("ray",),
        "transformers": ("transformers",),
    }
    return ", ".join(f"{p} {environments.version(name, p)}" for name, all_ in packages.items() for p in all_)


__all__ = ["GROUPS", "Candidate", "House", "Missing", "candidates", "versions"]

"""One checkpoint → one OpenVINO graph, checked against the checkpoint. Runs as a process of its own.

``main`` reads a :class:`saccade.convert.Job` from standard input and writes one JSON object a line to standard output:
progress, and at last the outcome. It needs the extra ``saccade[transformers]``; the server never imports it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import msgspec
from numpy.typing import NDArray

from saccade import families
from saccade.call import Options
from saccade.card import Card
from saccade.convert.agreement import Agreement, Numbers, agreement, numbers
from saccade.convert.job import GRAPH, Job, Line, Outcome, Report
from saccade.convert.pictures import pictures
from saccade.convert.transformers_tracing import convertible, shapes_stay_traced
from saccade.errors import Error, RunFailed, UnsupportedModel
from saccade.families.family import Family, Prepared
from saccade.model import Model
from saccade.runtimes.session import Compute
from saccade.runtimes.torch import normalised
from saccade.runtimes.transformers import libraries, module

CLOSE = 2e-3
"""Raw outputs may differ by so much of the largest one."""
FAITHFUL = 0.97
"""Where they differ by more (a model that picks queries may order them otherwise), so many answers must agree."""
STEPS = 5


def main() -> None:
    """Converts the job on standard input. Anything a library prints goes to standard error."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)

    def tell(line: Line) -> None:
        out.write(msgspec.json.encode(line).decode() + "\n")

    try:
        report = convert(job, lambda what, done: tell(Line(what=what, done=done, total=STEPS)))
        tell(Line(outcome=Outcome(report=report)))
    except Error as error:
        extra = getattr(error, "extra", None)
        tell(Line(outcome=Outcome(error=type(error).__name__, message=error.message, extra=extra)))


def convert(job: Job, tell: Callable[[str, int], None]) -> Report:
    """Writes the graph and its report into the job's folder.

    Raises:
        UnsupportedModel: the architecture does not convert, or the graph answers otherwise than the checkpoint.
    """
    card, started = job.card, time.perf_counter()
    torch, transformers = libraries()
    job = msgspec.structs.replace(job, threads=job.threads or os.cpu_count() or 1)
    torch.set_num_threads(job.threads)
    tell("opening the checkpoint", 0)
    checkpoint = module(card)
    family = families.find(card.family)(card)
    images = pictures(job.images)
    prepared = [family.prepare(image, Options()) for image in images]
    shapes = {one.tensors[""].shape for one in prepared}
    references = [answered(torch, checkpoint, family, one) for one in prepared]
    checkpoint = convertible(checkpoint)
    failures: list[str] = []
    for way in (by_openvino, by_onnx):
        tell(f"converting ({way.__name__.removeprefix('by_')})", 1)
        try:
            way(torch, checkpoint, family, prepared, len(shapes) > 1, Path(job.folder))
        except Exception as error:
            failures.append(f"{way.__name__}: {first_line(error)}")
            continue
        converted = msgspec.structs.replace(
            card, runtime="openvino", files=(str(Path(job.folder) / GRAPH), str(Path(job.folder) / GRAPH[:-3]) + "bin")
        )
        try:
            tell("checking the graph against the checkpoint", 2)
            exact, errors = checked(converted, family, prepared, references, "f32", job)
            if errors.largest_error > CLOSE * max(1.0, errors.largest_value) and exact.share < FAITHFUL:
                failures.append(f"{way.__name__}: agrees with the checkpoint in {exact.share:.1%} of its answers only")
                continue
            tell("checking the fast precision", 3)
            fast, _ = checked(converted, family, prepared, references, "auto", job)
        except RunFailed as error:
            failures.append(f"{way.__name__}: {error.message}")
            continue
        return Report(
            way=way.__name__.removeprefix("by_"),
            dynamic=len(shapes) > 1,
            images=len(images),
            input_hw=None if len(shapes) > 1 else next(iter(shapes))[1:3],
            numbers=errors,
            f32=exact,
            auto=fast,
            precision="auto" if fast.share >= job.certain else "f32",
            tried=tuple(failures),
            torch=str(torch.__version__),
            transformers=transformers.__version__,
            seconds=round(time.perf_counter() - started, 1),
        )
    raise UnsupportedModel(f"'{card.name}' could not be converted into a graph ({'; '.join(failures)}).")


def answered(torch: Any, checkpoint: Any, family: Family, prepared: Prepared) -> list[NDArray[Any]]:
    """The checkpoint's own outputs."""
    with torch.inference_mode():
        outputs = checkpoint(torch.from_numpy(normalised(prepared.tensors[""], family.pixels().get(""))))
    return [output.float().numpy() for output in outputs]


def checked(
    card: Card,
    family: Family,
    prepared: Sequence[Prepared],
    references: Sequence[Sequence[NDArray[Any]]],
    precision: str,
    job: Job,
) -> tuple[Agreement, Numbers]:
    """How far the graph's answers and raw numbers are from the checkpoint's."""
    compute = msgspec.convert({"precision": precision, "threads": job.threads, "lone": False, "shapes": 0}, Compute)
    model = Model(card, compute)
    try:
        outputs = [model.run(one.tensors) for one in prepared]
    finally:
        model.close()
    differences = numbers(references, outputs)
    pairs = [
        (family.read(reference, one.frame, options), family.read(output, one.frame, options))
        for reference, output, one in zip(references, outputs, prepared, strict=True)
        for options in job.readings()
    ]
    return agreement(pairs), differences


def by_openvino(
    torch: Any, checkpoint: Any, family: Family, prepared: Sequence[Prepared], free: bool, folder: Path
) -> None:
    """OpenVINO's own reader of traced torch modules; keeps height and width free if they vary."""
    openvino = converter()
    example = torch.from_numpy(normalised(prepared[0].tensors[""], family.pixels().get("")))
    shape = [1, 3, -1, -1] if free else list(example.shape)
    with torch.no_grad(), shapes_stay_traced():
        graph = openvino.convert_model(checkpoint, example_input=example, input=shape)
    openvino.save_model(graph, folder / GRAPH, compress_to_fp16=False)


def by_onnx(
    torch: Any, checkpoint: Any, family: Family, prepared: Sequence[Prepared], free: bool, folder: Path
) -> None:
    """torch's exporter, whose ONNX OpenVINO then reads."""
    openvino = converter()
    example = torch.from_numpy(normalised(prepared[0].tensors[""], family.pixels().get("")))
    height, width = torch.export.Dim("height", min=32, max=4096), torch.export.Dim("width", min=32, max=4096)
    shapes = ({2: height, 3: width},) if free else None
    path = folder / "model.onnx"
    with torch.no_grad():
        torch.onnx.export(checkpoint, (example,), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
    openvino.save_model(openvino.Core().read_model(path), folder / GRAPH, compress_to_fp16=False)
    for left in folder.glob("model.onnx*"):
        left.unlink()


def converter() -> ModuleType:
    """OpenVINO with its converter tools; these report every start to their maker unless their telemetry is absent."""
    modules = cast(dict[str, ModuleType | None], sys.modules)
    modules.setdefault("openvino_telemetry", None)
    return import_module("openvino")


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__

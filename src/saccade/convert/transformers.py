"""One checkpoint → one OpenVINO graph, checked against the checkpoint. Runs as a process of its own.

``main`` reads a :class:`saccade.convert.Job` from standard input and writes one JSON object a line to standard output:
progress, and at last the outcome. It needs the extra ``saccade[transformers]``; the server never imports it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, cast

import msgspec
from numpy.typing import NDArray

from saccade import families
from saccade.call import Options
from saccade.card import Card
from saccade.convert.agreement import Agreement, Numbers, agreement, numbers
from saccade.convert.coarse import shrunk_first
from saccade.convert.deformable import without_stacks
from saccade.convert.job import GRAPH, Job, Line, Outcome, Report, Texts, files_of, texted
from saccade.convert.pictures import pictures
from saccade.convert.transformers_towers import Reference, picture_tower, text_tower
from saccade.convert.transformers_tracing import convertible, shapes_stay_traced
from saccade.errors import Error, RunFailed, UnsupportedModel, first_line
from saccade.families.clip import TEXT_GRAPH, TOKENIZER
from saccade.families.family import Family, Prepared, Worded
from saccade.model import Model, Words
from saccade.ops.resize import Frame
from saccade.results import Result
from saccade.runtimes.session import Compute
from saccade.runtimes.torch import normalised
from saccade.runtimes.transformers import libraries, module, whole

CLOSE = 2e-3
"""Raw outputs may differ by so much of the largest one."""
FAITHFUL = 0.97
"""Where they differ by more (a model that picks queries may order them otherwise), so many answers must agree."""
STEPS = 5
PICTURE = "pixel_values"
"""The name of a graph's image input."""
SHORTEST, LONGEST = {"texts": 1, "tokens": 2, "height": 32, "width": 32}, 4096
"""How long a free axis may be, which torch's exporter wants to know."""

Free: TypeAlias = Mapping[int, str]
"""The axes of an input that may vary, by number."""


def main() -> None:
    """Converts the job on standard input. Anything a library prints goes to standard error."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)

    def tell(line: Line) -> None:
        out.write(msgspec.json.encode(line).decode() + "\n")

    try:
        report = convert(job, lambda what, done, way: tell(Line(what=what, done=done, total=STEPS, way=way)))
        tell(Line(outcome=Outcome(report=report)))
    except Unfed as error:
        tell(Line(outcome=Outcome(error=UnsupportedModel.__name__, message=error.message, unfed=True)))
    except Error as error:
        extra = getattr(error, "extra", None)
        tell(Line(outcome=Outcome(error=type(error).__name__, message=error.message, extra=extra)))


class Unfed(UnsupportedModel):
    """The checkpoint does not take pictures as its family prepares them."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A checkpoint and what it answers to some pictures; ``beside`` is what became of texts."""

    card: Card
    checkpoint: Any
    family: Family
    prepared: Sequence[Prepared]
    references: Sequence[Sequence[NDArray[Any]]]
    texts: Texts | None
    beside: Sequence[NDArray[Any]]

    @property
    def free(self) -> bool:
        """Whether pictures come in different sizes."""
        return len({one.tensors[""].shape for one in self.prepared}) > 1

    def inputs(self) -> dict[str, Any]:
        """The first picture's tensors by the names of the graph's inputs."""
        picture, *others = given(self.family, self.prepared[0])
        names = [name for name in self.prepared[0].tensors if name]
        return {PICTURE: picture, **dict(zip(names, others, strict=True))}


def convert(job: Job, tell: Callable[[str, int, str], None]) -> Report:
    """Writes the graph and its report into the job's folder.

    Raises:
        UnsupportedModel: the architecture does not convert, or the graph answers otherwise than the checkpoint.
    """
    started = time.perf_counter()
    torch, transformers = libraries()
    job = msgspec.structs.replace(job, threads=job.threads or os.cpu_count() or 1)
    torch.set_num_threads(job.threads)
    tell("opening the checkpoint", 0, "")
    subject = opened(job, tell)
    failures = list(job.tried)
    for way in job.ways:
        try:
            tell(f"converting ({way})", 1, way)
            made(subject, way, Path(job.folder))
            tell("checking the graph against the checkpoint", 2, way)
            exact, errors = checked(subject, "f32", job)
            if errors.largest_error > CLOSE * max(1.0, errors.largest_value) and exact.share < FAITHFUL:
                failures.append(f"{way}: agrees with the checkpoint in {exact.share:.1%} of its answers only")
                continue
            tell("checking the fast precision", 3, way)
            fast, _ = checked(subject, "auto", job)
        except RunFailed as error:
            failures.append(f"{way}: {error.message}")
            continue
        return Report(
            way=way,
            dynamic=subject.free,
            images=len(subject.prepared),
            input_hw=None if subject.free else subject.prepared[0].frame.input_hw,
            numbers=errors,
            f32=exact,
            auto=fast,
            precision="auto" if fast.share >= job.certain else "f32",
            texts=subject.texts,
            tried=tuple(failures),
            labels=labels(subject),
            torch=str(torch.__version__),
            transformers=transformers.__version__,
            seconds=round(time.perf_counter() - started, 1),
        )
    raise UnsupportedModel(f"'{job.card.name}' could not be converted into a graph ({'; '.join(failures)}).")


def opened(job: Job, tell: Callable[[str, int, str], None]) -> Subject:
    """The checkpoint, ready to be converted.

    Raises:
        Unfed: it fails on what its family prepares.
    """
    torch, _ = libraries()
    card = job.card
    texts: Texts | None = None
    beside: Sequence[NDArray[Any]] = ()
    if card.task == "zero-shot-classify":
        model = whole(card)
        texts, beside = text_half(job, model, tell)
        card, checkpoint = texted(card, texts, Path(job.folder)), picture_tower(torch, model, card)
    else:
        checkpoint = module(card)
    family = families.find(card.family)(card)
    prepared = [family.prepare(image, Options()) for image in pictures(job.images)]
    try:
        references = [answered(torch, checkpoint, family, one) for one in prepared]
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise Unfed(
            f"'{card.name}' does not take pictures as '{card.family}' prepares them: {first_line(error)}"
        ) from None
    return Subject(card, convertible(checkpoint), family, prepared, references, texts, beside)


def given(family: Family, prepared: Prepared) -> list[Any]:
    """What the checkpoint is called with: the picture, then the other tensors."""
    torch, _ = libraries()
    picture = normalised(prepared.tensors[""], family.pixels().get(""))
    return [torch.from_numpy(tensor) for tensor in (picture, *others(prepared))]


def others(prepared: Prepared) -> list[NDArray[Any]]:
    return [tensor for name, tensor in prepared.tensors.items() if name]


def answered(torch: Any, checkpoint: Any, family: Family, prepared: Prepared) -> list[NDArray[Any]]:
    """The checkpoint's own outputs."""
    with torch.inference_mode():
        outputs = checkpoint(*given(family, prepared))
    return [output.float().numpy() for output in outputs]


def labels(subject: Subject) -> dict[int, str]:
    """Those that the checkpoint knows by itself: timm's, whose config.json leaves out ImageNet's."""
    config = subject.card.config.get("config")
    if subject.texts is not None or not isinstance(config, dict) or "id2label" in config:
        return {}
    return {int(number): str(label) for number, label in subject.checkpoint.model.config.id2label.items()}


def made(subject: Subject, way: str, folder: Path) -> None:
    """Writes the graph. Raises RunFailed."""
    free: Free = {2: "height", 3: "width"} if subject.free else {}
    try:
        MAKERS[way](subject.checkpoint, subject.inputs(), free, folder / GRAPH)
    except Exception as error:
        raise RunFailed(first_line(error)) from error


def checked(subject: Subject, precision: str, job: Job) -> tuple[Agreement, Numbers]:
    """How far the graph's answers and raw numbers are from the checkpoint's."""
    files = tuple(map(str, files_of(Path(job.folder), subject.texts)))
    card = msgspec.structs.replace(subject.card, runtime="openvino", files=files)
    compute = msgspec.convert({"precision": precision, "threads": job.threads, "lone": False, "shapes": 0}, Compute)
    model = Model(card, compute)
    try:
        outputs = [model.run(one.tensors) for one in subject.prepared]
    finally:
        model.close()
    differences = numbers(subject.references, outputs)

    def read(found: Sequence[NDArray[Any]], frame: Frame, options: Options) -> Result:
        return subject.family.read([*found, *subject.beside], frame, options)

    pairs = [
        (read(reference, one.frame, options), read(output, one.frame, options))
        for reference, output, one in zip(subject.references, outputs, subject.prepared, strict=True)
        for options in job.readings()
    ]
    return agreement(pairs), differences


def text_half(job: Job, model: Any, tell: Callable[[str, int, str], None]) -> tuple[Texts, list[NDArray[Any]]]:
    """Writes the graph for texts and their tokenizer, and gives the checkpoint's features of the job's labels.

    Raises:
        UnsupportedModel: they do not convert, or answer otherwise than the checkpoint.
    """
    torch, _ = libraries()
    card, folder, failures = job.card, Path(job.folder), list(job.tried)
    reference, tower = Reference(card, model), text_tower(torch, model)
    reference.write(folder / TOKENIZER)
    longest = int(model.config.text_config.max_position_embeddings)
    for way in job.ways:
        tell("converting the half for texts", 0, way)
        texts = Texts(inputs=reference.inputs, longest=longest, way=way)
        family = families.find(card.family)(texted(card, texts, folder))
        if not isinstance(family, Worded):
            break
        options = job.readings()[0]
        example = reference(family.texts(options))
        with torch.inference_mode():
            expected = [output.numpy() for output in tower(*example)]
        try:
            named = dict(zip(reference.inputs, example, strict=True))
            MAKERS[way](tower, named, {0: "texts", 1: "tokens"}, folder / TEXT_GRAPH)
            words = Words(family, Compute(threads=job.threads))
            try:
                errors = numbers([expected], [words(options)])
            finally:
                words.close()
        except Exception as error:
            failures.append(f"texts {way}: {first_line(error)}")
            continue
        if errors.largest_error <= CLOSE * max(1.0, errors.largest_value):
            return msgspec.structs.replace(texts, numbers=errors), expected
        failures.append(f"texts {way}: numbers differ by {errors.largest_error:.2g}")
    raise UnsupportedModel(f"The half of '{card.name}' for texts could not be converted ({'; '.join(failures)}).")


def by_openvino(checkpoint: Any, example: Mapping[str, Any], free: Free, path: Path) -> None:
    """OpenVINO's own reader of traced torch modules; every input has the same free axes."""
    openvino = converter()
    torch, _ = libraries()
    shapes = [
        [-1 if axis in free_axes(free, tensor) else length for axis, length in enumerate(tensor.shape)]
        for tensor in example.values()
    ]
    with torch.no_grad(), shapes_stay_traced():
        graph = openvino.convert_model(checkpoint, example_input=tuple(example.values()), input=shapes)
    for port, name in zip(graph.inputs, example, strict=True):
        port.get_tensor().set_names({name})
    made_quicker(graph)
    openvino.save_model(graph, path, compress_to_fp16=False)


def by_onnx(checkpoint: Any, example: Mapping[str, Any], free: Free, path: Path) -> None:
    """torch's exporter, whose ONNX OpenVINO then reads."""
    openvino = converter()
    torch, _ = libraries()
    axes = {axis: torch.export.Dim(name, min=SHORTEST[name], max=LONGEST) for axis, name in free.items()}
    between = path.with_suffix(".onnx")
    with torch.no_grad():
        torch.onnx.export(
            checkpoint,
            tuple(example.values()),
            between,
            input_names=list(example),
            dynamo=True,
            dynamic_shapes=tuple(free_axes(axes, tensor) for tensor in example.values()) if free else None,
            verbose=False,
        )
    graph = openvino.Core().read_model(between)
    made_quicker(graph)
    openvino.save_model(graph, path, compress_to_fp16=False)
    for left in path.parent.glob(f"{between.name}*"):
        left.unlink()


def made_quicker(graph: Any) -> None:
    """Has the graph compute the same in fewer steps."""
    without_stacks(graph)
    shrunk_first(graph)


MAKERS: Mapping[str, Callable[[Any, Mapping[str, Any], Free, Path], None]] = {
    "openvino": by_openvino,
    "onnx": by_onnx,
}


def free_axes(free: Mapping[int, Any], tensor: Any) -> dict[int, Any]:
    """Those that the tensor has; an input that is no picture has none of a picture's."""
    return {axis: free[axis] for axis in free if max(free) < tensor.ndim}


def converter() -> ModuleType:
    """OpenVINO with its converter tools; these report every start to their maker unless their telemetry is absent."""
    modules = cast(dict[str, ModuleType | None], sys.modules)
    modules.setdefault("openvino_telemetry", None)
    return import_module("openvino")

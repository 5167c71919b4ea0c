"""Graphs of detectors without the arithmetic that ends them, for families that do it themselves for what they keep.

Which convolutions end the heads is looked up in the graph. That their numbers, finished as the family does it, are what
the graph answers with is tried with random numbers, and only then the end is left out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from importlib import import_module
from itertools import islice, permutations, product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from saccade.ops.grids import Grids, Level, ranked_above, table_of
from saccade.runtimes.openvino_graph import core, fold, library, name_new

log = logging.getLogger(__name__)

VERDICT = "grids-2.json"
"""What was found about a graph, beside its compiled forms; the number changes with the arithmetic."""

TRIAL_HW = (256, 384)
"""A graph of free shape is tried with pictures of this size."""

TRIES = 64
RELATIVE, ABSOLUTE = 1e-4, 2e-3
"""How far the two may lie apart, in pixels and probabilities."""

Names = list[list[str]]
"""Of the nodes that give the parts of each level, the finest first; empty: the graph stays whole."""


def without_ends(graph: Any, grids: Grids, files: Sequence[str], folder: Path | None, half: bool) -> Any:
    """The graph with the heads' last convolutions in place of the output with detections, level by level, as
    (n, height, width, numbers); the graph itself if it has no such heads. ``half``: as bits of bfloat16.

    What was found is kept in the folder, so that the next opening of these files does not have to try it again.
    """
    nodes = {node.get_friendly_name(): node for node in graph.get_ops()}
    question = repr((grids, [_moment(file) for file in files]))
    known = _recalled(folder, question)
    if known is None or not all(name in nodes for level in known for name in level):
        try:
            known = _found(graph, grids)
        except (RuntimeError, TypeError, ValueError) as error:
            log.debug("the heads of a graph cannot be looked at: %s", type(error).__name__)
            known = []
        _remember(folder, question, known)
    if not known:
        return graph
    operations = import_module("openvino.opset13")
    results = []
    for name in (name for level in known for name in level):
        part = operations.transpose(nodes[name], np.array([0, 2, 3, 1]))
        results.append(operations.result(operations.convert(part, "bf16") if half else part))
        name_new(results[-1], nodes[name].output(0), f"{name}/grid")
    table = _table(graph)
    results += [result for result in graph.get_results() if result != table]
    return library().Model(results, graph.get_parameters(), graph.get_friendly_name())


def _moment(file: str) -> tuple[int, int] | None:
    with suppress(OSError):
        facts = Path(file).stat()
        return facts.st_size, facts.st_mtime_ns
    return None


class _Verdict(msgspec.Struct, frozen=True):
    names: Names
    mark: str


def _mark(question: str, names: Names) -> str:
    """Of an answer and what it was the answer to: nodes of another graph, or changed on the disk, would give boxes that
    look like any others."""
    return blake2b(repr((question, names)).encode(), digest_size=16).hexdigest()


def _recalled(folder: Path | None, question: str) -> Names | None:
    if folder is None:
        return None
    with suppress(OSError, msgspec.DecodeError):
        verdict = msgspec.json.decode((folder / VERDICT).read_bytes(), type=_Verdict)
        return verdict.names if verdict.mark == _mark(question, verdict.names) else None
    return None


def _remember(folder: Path | None, question: str, names: Names) -> None:
    if folder is None:
        return
    with suppress(OSError):  # nothing can be kept there
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{VERDICT}.{os.getpid()}"
        draft.write_bytes(msgspec.json.encode(_Verdict(names, _mark(question, names))))
        draft.replace(folder / VERDICT)


def _table(graph: Any) -> Any | None:
    """The result with the detections: the first with three axes."""
    for result in graph.get_results():
        rank = result.get_output_partial_shape(0).rank
        if rank.is_static and rank.get_length() == 3:
            return result
    return None


def _found(graph: Any, grids: Grids) -> Names:
    """The names of the nodes that give what the arithmetic begins with, if it is that of :mod:`saccade.ops.grids`."""
    trial = graph.clone()
    if len(trial.inputs) != 1:
        return []
    shape = trial.inputs[0].get_partial_shape()
    if shape.rank.is_dynamic or len(shape) != 4 or (shape[1].is_static and shape[1].get_length() != 3):
        return []
    size = [(1, 3, *TRIAL_HW)[axis] if length.is_dynamic else length.get_length() for axis, length in enumerate(shape)]
    trial.reshape({0: size})
    fold(trial)
    table = _table(trial)
    if table is None:
        return []
    ends = _ends(table)
    levels = _by_level(ends, grids)
    if not levels or len({node.get_friendly_name() for node in ends}) != len(ends):
        return []
    numbers = np.random.default_rng(0)
    given = {
        node.get_friendly_name(): numbers.normal(size=node.output(0).get_shape()).astype(np.float32) for node in ends
    }
    answer = _answer(table, ends, given)
    for order in _orders(levels, answer[0].shape, grids, given):
        parts: list[Level] = [tuple(given[name][:1].transpose(0, 2, 3, 1) for name in level) for level in order]
        with suppress(ValueError):  # no numbers of such a role
            told = _told(parts, grids, (size[2], size[3]))
            if told.shape == answer[0].shape and np.allclose(told, answer[0], RELATIVE, ABSOLUTE):
                return order
    return []


def _ends(table: Any) -> list[Any]:
    """The last convolutions, with their biases, of all ways that lead to the table; none if something else begins one.

    A convolution without a bias, like the one behind a softmax, belongs to the arithmetic.
    """
    ends: list[Any] = []
    seen: set[str] = set()
    waiting = [table.input_value(0).get_node()]
    while waiting:
        node = waiting.pop()
        if node.get_friendly_name() in seen:
            continue
        seen.add(node.get_friendly_name())
        before = [value.get_node() for value in node.input_values()]
        kinds = [other.get_type_name() for other in before]
        if node.get_type_name() == "Add" and sorted(kinds) == ["Constant", "Convolution"]:
            ends.append(node)
        elif node.get_type_name() == "Parameter":
            return []
        else:
            waiting += before
    return ends


def _by_level(ends: Sequence[Any], grids: Grids) -> list[list[Any]]:
    """The nodes by the size of their grids, the largest first; none if the levels are not complete."""
    levels: dict[tuple[int, ...], list[Any]] = {}
    for node in ends:
        levels.setdefault(tuple(node.output(0).get_shape()[2:]), []).append(node)
    if any(len(level) != grids.width for level in levels.values()):
        return []
    return [levels[size] for size in sorted(levels, reverse=True)]


def _answer(table: Any, ends: Sequence[Any], given: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """What the arithmetic at the end of the graph makes of these numbers."""
    made = library()
    parameters = []
    for node in ends:
        parameter = import_module("openvino.opset13").parameter(node.output(0).get_shape(), made.Type.f32)
        for reader in node.output(0).get_target_inputs():
            reader.replace_source_output(parameter.output(0))
        parameters.append(parameter)
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1"}
    compiled = core().compile_model(made.Model([table], parameters, "end"), "CPU", exact)
    answer: NDArray[np.float32] = compiled([given[node.get_friendly_name()] for node in ends])[0]
    return answer


def _told(levels: Sequence[Level], grids: Grids, input_hw: tuple[int, int]) -> NDArray[np.float32]:
    """What the family would make of the numbers."""
    return ranked_above(levels, grids, input_hw, 0.0) if grids.ranked else table_of(levels, grids, input_hw)


def _orders(
    levels: Sequence[Sequence[Any]], shape: tuple[int, ...], grids: Grids, given: dict[str, NDArray[np.float32]]
) -> Iterator[Names]:
    """Every way in which the nodes of the levels can be sides, classes and further numbers of such a table."""

    def channels(names: Sequence[str]) -> list[int]:
        return [given[name].shape[1] for name in names]

    def fits(names: Sequence[str]) -> bool:
        sides, classes, *extras = channels(names)
        told = 6 + sum(extras) == shape[1] if grids.ranked else 4 + classes + sum(extras) == shape[0]
        return told and sides % 4 == 0

    ways = [[list(names) for names in permutations(node.get_friendly_name() for node in level)] for level in levels]
    ways[0] = [way for way in ways[0] if fits(way)]
    alike = (order for order in product(*ways) if all(channels(way) == channels(order[0]) for way in order))
    for order in islice(alike, TRIES):
        yield list(order)

"""Graphs of detectors without the arithmetic that ends them, for families that do it themselves for what they keep.

Which convolutions end the heads is looked up in the graph. That their numbers, finished as the family does it, are what
the graph answers with is tried with random numbers, and only then the end is left out. So are the convolutions before
it that only sides or further numbers need: the graph ends with the features that these are computed from, and what
comes of them at the places that matter is tried in the same way.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from importlib import import_module
from itertools import islice, permutations, product
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from saccade.ops.branches import Branch
from saccade.ops.grids import Grids, Level, Tensor, ranked_above, table_of
from saccade.runtimes.openvino_branches import Everywhere, chain_to, true_to
from saccade.runtimes.openvino_graph import exactly, fold, library, name_new

log = logging.getLogger(__name__)

VERDICT = "grids-3.json"
"""What was found about a graph, beside its compiled forms; the number changes with the arithmetic."""

TRIAL_HW = (256, 384)
"""A graph of free shape is tried with pictures of this size."""

TRIES = 64
RELATIVE, ABSOLUTE = 1e-4, 2e-3
"""How far the two may lie apart, in pixels and probabilities."""

Names = list[list[str]]


class Heads(msgspec.Struct, frozen=True):
    """``levels``: names of the nodes that give the parts of each level, the finest first; empty: the graph stays whole.
    ``late``: those of them that branches give."""

    levels: Names = []
    late: list[str] = []


class Part(NamedTuple):
    """One array of a level: an output of the graph, or what a branch makes of it."""

    output: int
    branch: Branch | None = None


def without_ends(
    graph: Any, grids: Grids, files: Sequence[str], folder: Path | None, threads: int, half: bool
) -> tuple[Any, list[Part]]:
    """The graph without the arithmetic that makes its table of detections, and the arrays that stand for it, level by
    level; its other outputs come behind these, those with four axes channels last. If it has no such heads, the graph
    itself, and no arrays.

    ``half``: arrays are bits of bfloat16. What was found is kept in the folder, so that the next opening of these files
    does not have to try it again.
    """
    nodes = {node.get_friendly_name(): node for node in graph.get_ops()}
    question = repr((grids, [_moment(file) for file in files]))
    known = _recalled(folder, question)
    if known is None or not all(name in nodes for level in known.levels for name in level):
        try:
            known = _found(graph, grids)
        except (RuntimeError, TypeError, ValueError) as error:
            log.debug("the heads of a graph cannot be looked at: %s", type(error).__name__)
            known = Heads()
        _remember(folder, question, known)
    if not known.levels:
        return graph, []
    operations = import_module("openvino.opset13")
    outputs: dict[str, int] = {}
    results: list[Any] = []

    def ended(source: Any, label: str, best: bool = False) -> int:
        """Which output of the new graph gives this one of the old, or the largest of its channels."""
        if label not in outputs:
            outputs[label] = len(results)
            node = operations.reduce_max(source, np.array([1]), keep_dims=True) if best else source
            node = operations.transpose(node, np.array([0, 2, 3, 1]))
            results.append(operations.result(operations.convert(node, "bf16") if half else node))
            name_new(results[-1], source, label)
        return outputs[label]

    def part(name: str) -> Part:
        chain = chain_to(nodes[name]) if name in known.late else None
        if chain is None:
            return Part(ended(nodes[name].output(0), f"{name}/grid"))
        branch = Branch(chain.layers, Everywhere(chain.layers, threads, half))
        return Part(ended(chain.features, f"{chain.label}/features"), branch)

    parts: list[Part] = []
    for sides, classes, *extras in known.levels:
        best = Part(ended(nodes[classes].output(0), f"{classes}/best", best=True))
        parts += [part(sides), part(classes), best, *map(part, extras)]
    table = _table(graph)
    for result in graph.get_results():
        if result != table and _axes(result) == 4:
            maps = operations.transpose(result.input_value(0), np.array([0, 2, 3, 1]))
            results.append(operations.result(maps))
            name_new(results[-1], result.input_value(0), f"{result.get_friendly_name()}/channels last")
        elif result != table:
            results.append(result)
    return library().Model(results, graph.get_parameters(), graph.get_friendly_name()), parts


def _moment(file: str) -> tuple[int, int] | None:
    with suppress(OSError):
        facts = Path(file).stat()
        return facts.st_size, facts.st_mtime_ns
    return None


class _Verdict(msgspec.Struct, frozen=True):
    heads: Heads
    mark: str


def _mark(question: str, heads: Heads) -> str:
    """Of an answer and what it was the answer to: nodes of another graph, or changed on the disk, would give boxes that
    look like any others."""
    return blake2b(repr((question, heads)).encode(), digest_size=16).hexdigest()


def _recalled(folder: Path | None, question: str) -> Heads | None:
    if folder is None:
        return None
    with suppress(OSError, msgspec.DecodeError):
        verdict = msgspec.json.decode((folder / VERDICT).read_bytes(), type=_Verdict)
        return verdict.heads if verdict.mark == _mark(question, verdict.heads) else None
    return None


def _remember(folder: Path | None, question: str, heads: Heads) -> None:
    if folder is None:
        return
    with suppress(OSError):  # nothing can be kept there
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{VERDICT}.{os.getpid()}"
        draft.write_bytes(msgspec.json.encode(_Verdict(heads, _mark(question, heads))))
        draft.replace(folder / VERDICT)


def _table(graph: Any) -> Any | None:
    """The result with the detections: the first with three axes."""
    return next((result for result in graph.get_results() if _axes(result) == 3), None)


def _axes(result: Any) -> int | None:
    rank = result.get_output_partial_shape(0).rank
    return rank.get_length() if rank.is_static else None


def _found(graph: Any, grids: Grids) -> Heads:
    """The nodes that give what the arithmetic begins with, if it is that of :mod:`saccade.ops.grids`."""
    trial = graph.clone()
    if len(trial.inputs) != 1:
        return Heads()
    shape = trial.inputs[0].get_partial_shape()
    if shape.rank.is_dynamic or len(shape) != 4 or (shape[1].is_static and shape[1].get_length() != 3):
        return Heads()
    size = [(1, 3, *TRIAL_HW)[axis] if length.is_dynamic else length.get_length() for axis, length in enumerate(shape)]
    trial.reshape({0: size})
    fold(trial)
    table = _table(trial)
    if table is None:
        return Heads()
    ends = _ends(table)
    levels = _by_level(ends, grids)
    if not levels or len({node.get_friendly_name() for node in ends}) != len(ends):
        return Heads()
    whole = trial.clone()
    numbers = np.random.default_rng(0)
    given = {
        node.get_friendly_name(): numbers.normal(size=node.output(0).get_shape()).astype(np.float32) for node in ends
    }
    answer = _answer(table, ends, given)
    for order in _orders(levels, answer[0].shape, grids, given):
        parts = [_level(given[name][:1].transpose(0, 2, 3, 1) for name in level) for level in order]
        with suppress(ValueError):  # no numbers of such a role
            told = _told(parts, grids, (size[2], size[3]))
            if told.shape == answer[0].shape and np.allclose(told, answer[0], RELATIVE, ABSOLUTE):
                return Heads(order, _late(whole, order))
    return Heads()


def _level(parts: Iterable[Tensor]) -> Level:
    sides, classes, *extras = parts
    return sides, classes, classes.max(axis=3, keepdims=True), *extras


def _late(graph: Any, levels: Names) -> list[str]:
    """Those nodes of sides and further numbers that branches give."""
    nodes = {node.get_friendly_name(): node for node in graph.get_ops()}
    names = [name for sides, _, *extras in levels for name in (sides, *extras)]
    chains = {name: chain for name in names if (chain := chain_to(nodes[name])) is not None}
    true = true_to(list(chains.values()), [nodes[name] for name in chains]) if chains else []
    return [name for name, holds in zip(chains, true, strict=True) if holds]


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
    if any(len(level) != (3 if grids.extra else 2) for level in levels.values()):
        return []
    return [levels[size] for size in sorted(levels, reverse=True)]


def _answer(table: Any, ends: Sequence[Any], given: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """What the arithmetic at the end of the graph makes of these numbers."""
    filled = []
    for node in ends:
        parameter = import_module("openvino.opset13").parameter(node.output(0).get_shape(), library().Type.f32)
        for reader in node.output(0).get_target_inputs():
            reader.replace_source_output(parameter.output(0))
        filled.append((parameter, given[node.get_friendly_name()]))
    return exactly([table], filled)[0]


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

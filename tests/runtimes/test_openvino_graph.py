"""What OpenVINO's graphs lose before they are compiled, and that their answers stay what they were."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save

from saccade import runtimes
from saccade.card import Card
from saccade.ops.branches import Deferred, Layer
from saccade.ops.grids import Grids, levels_of, ranked_above, rows_above, table_of
from saccade.runtimes import openvino_branches, openvino_grids
from saccade.runtimes.openvino_graph import core, with_split_convolutions
from saccade.runtimes.session import Compute, Session

EXACT = Compute(precision="f32", threads=2)
HW = (64, 96)
STEPS = (8, 16, 32)
BINS, CLASSES = 8, 5


class Toy:
    """A graph under construction."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.shape = shape
        self.numbers = np.random.default_rng(3)

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"n{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=names[0], **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, source: str, channels: int, before: int, step: int = 1, side: int = 0) -> str:
        """A convolution whose squares touch, or, given their side, one that keeps the size of the grid."""
        width = side or step
        weights = self.numbers.normal(size=(channels, before, width, width)) / (width * before**0.5)
        bias = self.numbers.normal(size=channels)
        constants = [self.constant(value.astype(np.float32)) for value in (weights, bias)]
        return str(self.add("Conv", source, *constants, strides=[step, step], pads=[side // 2] * 4))

    def silu(self, source: str) -> str:
        return str(self.add("Mul", source, self.add("Sigmoid", source)))

    def save(self, path: Path, *outputs: str) -> Path:
        given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)]
        told = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "toy", given, told, initializer=self.constants)
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        return path


def detector(
    path: Path, steps: tuple[float, ...] = STEPS, prototypes: bool = False, deep: bool = False, parted: bool = False
) -> Path:
    """A graph that ends as exported detectors do; told wrong steps, its boxes are of another scale.

    ``deep``: the numbers of its heads come out of branches of three layers; ``parted``: of features of their own, which
    are parts of one tensor.
    """
    toy = Toy((1, 3, *HW))
    flat = []

    def head(source: str, channels: int, step: int) -> str:
        if not deep:
            return toy.conv(source, channels, 3, step)
        first = toy.silu(toy.conv(source, 9, 8, side=3))
        return toy.conv(toy.add("Relu", toy.conv(first, 9, 9, side=3)), channels, 9, side=1)

    for step in STEPS:
        source = toy.silu(toy.conv("x", 24 if parted else 8, 3, step)) if deep else "x"
        sources = [source] * 3
        if parted:
            sources = toy.add("Split", source, toy.constant(np.array([8, 8, 8])), outputs=3, axis=1)
        sides, classes = head(sources[0], 4 * BINS, step), head(sources[1], CLASSES, step)
        parts = [sides, classes, *([head(sources[2], 6, step)] if prototypes else [])]
        shape = toy.constant(np.array([1, 4 * BINS + CLASSES + 6 * prototypes, -1]))
        flat.append(toy.add("Reshape", toy.add("Concat", *parts, axis=1), shape))
    sizes = toy.constant(np.array([4 * BINS, CLASSES, *([6] if prototypes else [])]))
    whole = toy.add("Concat", *flat, axis=2)
    sides, classes, *rest = toy.add("Split", whole, sizes, outputs=3 if prototypes else 2, axis=1)
    bins = toy.add("Reshape", sides, toy.constant(np.array([1, 4, BINS, -1])))
    bins = toy.add("Softmax", toy.add("Transpose", bins, perm=[0, 2, 1, 3]), axis=1)
    cells = toy.constant(np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1))
    distances = toy.add("Reshape", toy.add("Conv", bins, cells), toy.constant(np.array([1, 4, -1])))
    centres, scale = [], []
    for step, told in zip(STEPS, steps, strict=True):
        y, x = np.mgrid[0.5 : HW[0] // step, 0.5 : HW[1] // step]
        centres.append(np.stack((x.ravel(), y.ravel())))
        scale.append(np.full(x.size, told))
    anchors = toy.constant(np.concatenate(centres, axis=1)[None].astype(np.float32))
    first, last = toy.add("Split", distances, toy.constant(np.array([2, 2])), outputs=2, axis=1)
    first, last = toy.add("Sub", anchors, first), toy.add("Add", anchors, last)
    middle = toy.add("Div", toy.add("Add", first, last), toy.constant(np.float32(2)))
    boxes = toy.add("Concat", middle, toy.add("Sub", last, first), axis=1)
    boxes = toy.add("Mul", boxes, toy.constant(np.concatenate(scale)[None, None].astype(np.float32)))
    table = toy.add("Concat", boxes, toy.add("Sigmoid", classes), *rest, axis=1)
    return toy.save(path, table, *([toy.conv("x", 6, 3, 4)] if prototypes else []))


def ranked(path: Path, batch: int) -> Path:
    """A graph that ends with the best ten places of one class."""
    toy = Toy((batch, 3, *HW))
    boxes, logits = [], []
    for step in STEPS:
        shape = toy.constant(np.array([batch, 4, -1]))
        y, x = np.mgrid[0.5 : HW[0] // step, 0.5 : HW[1] // step]
        centres = toy.constant(np.stack((x.ravel(), y.ravel()) * 2)[None].astype(np.float32))
        turn = toy.constant(np.array([-1, -1, 1, 1], np.float32).reshape(1, 4, 1))
        sides = toy.add("Mul", toy.add("Reshape", toy.conv("x", 4, 3, step), shape), turn)
        boxes.append(toy.add("Mul", toy.add("Add", centres, sides), toy.constant(np.float32(step))))
        logits.append(toy.add("Reshape", toy.conv("x", 1, 3, step), toy.constant(np.array([batch, -1]))))
    scores = toy.add("Sigmoid", toy.add("Concat", *logits, axis=1))
    best, places = toy.add("TopK", scores, toy.constant(np.array([10])), outputs=2, axis=1)
    axis = toy.constant(np.array([2]))
    best, places = toy.add("Unsqueeze", best, axis), toy.add("Unsqueeze", places, axis)
    every = toy.add("Transpose", toy.add("Concat", *boxes, axis=2), perm=[0, 2, 1])
    chosen = toy.add("GatherElements", every, toy.add("Concat", *[places] * 4, axis=2), axis=1)
    return toy.save(path, toy.add("Concat", chosen, best, toy.add("Sub", best, best), axis=2))


def opened(path: Path, grids: Grids | None, compute: Compute = EXACT) -> Session:
    card = Card(name="toy", task="detect", family="none", runtime="openvino", files=(str(path),))
    return runtimes.find("openvino")(card, {}, compute, grids)


def told(path: Path, grids: Grids | None, compute: Compute = EXACT) -> list[NDArray[Any]]:
    session = opened(path, grids, compute)
    try:
        return session.run({"x": np.random.default_rng(0).normal(size=(1, 3, *HW)).astype(np.float32)})
    finally:
        session.close()


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What was found in graphs that were tried."""
    seen: list[bool] = []
    found = openvino_grids._found

    def counted(*given: Any) -> Any:
        heads = found(*given)
        seen.append(bool(heads.levels))
        return heads

    monkeypatch.setattr(openvino_grids, "_found", counted)
    return seen


@pytest.mark.parametrize("form", [Grids(), Grids("coefficients")], ids=["boxes", "coefficients"])
def test_a_detector_answers_with_its_grids_where_its_family_can_finish_them(tmp_path: Path, form: Grids) -> None:
    path = detector(tmp_path / "toy.onnx", prototypes=bool(form.extra))
    whole, grids = told(path, None), told(path, form)
    levels = levels_of(grids, form)
    assert [level[0].shape for level in levels] == [(1, HW[0] // s, HW[1] // s, 4 * BINS) for s in STEPS]
    np.testing.assert_allclose(table_of(levels, form, HW), whole[0][0], rtol=1e-4, atol=1e-3)
    assert len(grids) == len(levels) * form.width + len(whole) - 1
    for rest, expected in zip(grids[len(levels) * form.width :], whole[1:], strict=True):
        np.testing.assert_allclose(rest, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", [Grids(), Grids("coefficients")], ids=["boxes", "coefficients"])
@pytest.mark.parametrize("precision", ["f32", "auto"])
def test_the_branches_of_sides_and_further_numbers_are_computed_late(
    tmp_path: Path, form: Grids, precision: Literal["f32", "auto"]
) -> None:
    path = detector(tmp_path / "toy.onnx", prototypes=bool(form.extra), deep=True)
    compute = Compute(precision=precision, threads=2)
    whole = told(path, None)[0][0]
    session = opened(path, form, compute)
    picture = np.random.default_rng(0).normal(size=(1, 3, *HW)).astype(np.float32)
    levels = levels_of(session.run({"x": picture}), form)
    assert [[isinstance(part, Deferred) for part in level] for level in levels] == [
        [True, False, False, *[True] * bool(form.extra)]
    ] * 3
    assert len(session._lanes.many.compiled.outputs) == 3 * 3 + bool(form.extra), "features are given once"  # type: ignore[attr-defined]
    close = {"rtol": 1e-4, "atol": 1e-3} if precision == "f32" else {"rtol": 0.05, "atol": 0.5}
    np.testing.assert_allclose(table_of(levels, form, HW), whole, **close)
    for conf in np.sort(table_of(levels, form, HW)[4 : 4 + CLASSES].max(axis=0))[[-3, -15]].tolist():
        rows = rows_above(levels, form, HW, conf)
        same = [int(np.abs(whole[4 : 4 + CLASSES].T - row[4 : 4 + CLASSES]).sum(axis=1).argmin()) for row in rows]
        assert len(set(same)) == len(rows) >= 3
        np.testing.assert_allclose(rows, whole[:, same].T, **close)
    session.close()


def test_a_branch_that_is_not_what_it_looks_like_stays_in_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain_to = openvino_branches.chain_to

    def misread(end: Any) -> Any:
        chain = chain_to(end)
        if chain is None or len(chain.layers[-1].bias) != 6:
            return chain
        first = chain.layers[0]
        shifted = Layer(first.weights, first.bias + np.float32(0.1), first.side, first.activation)
        return openvino_branches.Chain(chain.features, chain.entry, (shifted, *chain.layers[1:]))

    monkeypatch.setattr(openvino_grids, "chain_to", misread)
    path, form = detector(tmp_path / "toy.onnx", prototypes=True, deep=True), Grids("coefficients")
    levels = levels_of(told(path, form), form)
    assert [[isinstance(part, Deferred) for part in level] for level in levels] == [[True, False, False, False]] * 3
    np.testing.assert_allclose(table_of(levels, form, HW), told(path, None)[0][0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "change",
    [{"strides": [2, 2]}, {"dilations": [2, 2], "pads": [2] * 4}, {"pads": [1, 1, 0, 0]}, {"group": 3}],
    ids=["step", "dilation", "lopsided", "groups"],
)
def test_convolutions_of_another_kind_are_no_layers(tmp_path: Path, change: dict[str, Any]) -> None:
    toy = Toy((1, 9, 12, 12))
    weights = toy.constant(toy.numbers.normal(size=(9, 9 // change.get("group", 1), 3, 3)).astype(np.float32))
    bias = toy.constant(toy.numbers.normal(size=9).astype(np.float32))
    odd = toy.add("Conv", "x", weights, bias, **{"pads": [1] * 4, **change})
    path = toy.save(tmp_path / "toy.onnx", toy.conv(toy.silu(odd), 5, 9, side=3), toy.conv(odd, 4, 9))
    nodes = {node.get_friendly_name(): node for node in core().read_model(str(path)).get_ops()}
    ends = [node for node in nodes.values() if node.get_type_name() == "Add" and len(node.get_output_shape(0)) == 4]
    chains = [chain for end in ends if (chain := openvino_branches.chain_to(end)) is not None]
    assert [[layer.side for layer in chain.layers] for chain in chains] == [[3]]


def test_branches_of_different_outputs_of_one_node_keep_their_own_features(tmp_path: Path) -> None:
    path, form = detector(tmp_path / "toy.onnx", prototypes=True, deep=True, parted=True), Grids("coefficients")
    levels = levels_of(told(path, form), form)
    assert sum(isinstance(part, Deferred) for level in levels for part in level) == 6
    np.testing.assert_allclose(table_of(levels, form, HW), told(path, None)[0][0], rtol=1e-4, atol=1e-3)


def test_a_sum_of_two_convolutions_is_no_layer(tmp_path: Path) -> None:
    toy = Toy((1, 9, 12, 12))
    bare = [
        toy.add("Conv", "x", toy.constant(toy.numbers.normal(size=(9, 9, 3, 3)).astype(np.float32)), pads=[1] * 4)
        for _ in range(2)
    ]
    path = toy.save(tmp_path / "toy.onnx", toy.conv(toy.silu(toy.add("Add", *bare)), 5, 9, side=3))
    nodes = core().read_model(str(path)).get_ops()
    (end,) = [node for node in nodes if node.get_output_shape(0) == [1, 5, 12, 12] and node.get_type_name() == "Add"]
    chain = openvino_branches.chain_to(end)
    assert chain is not None
    assert [layer.side for layer in chain.layers] == [3]


def test_a_graph_whose_end_computes_something_else_stays_whole(tmp_path: Path) -> None:
    path = detector(tmp_path / "toy.onnx", steps=(8, 16, 31))
    (table,) = told(path, Grids())
    assert table.shape == (1, 4 + CLASSES, sum(HW[0] * HW[1] // s**2 for s in STEPS))
    (table,) = told(detector(tmp_path / "toy.onnx"), Grids("angle"))
    assert table.ndim == 3


@pytest.mark.parametrize("batch", [1, 2])
def test_a_detector_that_ranks_its_places_answers_with_its_grids(tmp_path: Path, batch: int) -> None:
    path, form = ranked(tmp_path / "toy.onnx", batch), Grids(ranked=10)
    (whole,), grids = told(path, None), told(path, form)
    levels = levels_of([part[:1] for part in grids], form)
    assert [level[1].shape for level in levels] == [(1, HW[0] // s, HW[1] // s, 1) for s in STEPS]
    np.testing.assert_allclose(ranked_above(levels, form, HW, 0.0), whole[0], rtol=1e-4, atol=1e-3)


def test_what_was_found_about_a_graph_is_not_tried_again(tmp_path: Path, trials: list[bool]) -> None:
    kept = Compute(precision="f32", threads=2, cache_dir=str(tmp_path / "compiled"))
    path = detector(tmp_path / "toy.onnx")
    first = told(path, Grids(), kept)
    compiled = sorted((tmp_path / "compiled").rglob("*.blob"))
    again = told(path, Grids(), kept)
    assert trials == [True]
    assert sorted((tmp_path / "compiled").rglob("*.blob")) == compiled, "the graph was compiled anew"
    assert [part.shape for part in first] == [part.shape for part in again]
    (verdict,) = (tmp_path / "compiled").rglob(openvino_grids.VERDICT)
    written = json.loads(verdict.read_bytes())
    others = [level[::-1] for level in written["heads"]["levels"]], [["gone", "lost"]], [[]]
    for damaged in (b"{", *(json.dumps({**written, "heads": {"levels": names}}).encode() for names in others)):
        verdict.write_bytes(damaged)
        again = told(path, Grids(), kept)
        assert [part.shape for part in first] == [part.shape for part in again]
    trials.clear()
    os.utime(path, (0, 0))
    told(path, Grids(), kept)
    assert trials == [True], "the file may be another of the same size"


def test_what_was_found_holds_for_these_files_and_this_head_alone(tmp_path: Path) -> None:
    kept = Compute(precision="f32", threads=2, cache_dir=str(tmp_path / "compiled"))
    path = detector(tmp_path / "toy.onnx", prototypes=True)
    assert len(told(path, Grids("coefficients"), kept)) == 3 * 4 + 1
    assert [part.ndim for part in told(path, Grids(), kept)] == [3, 4], "a head of another form was taken apart"
    path = detector(tmp_path / "toy.onnx", steps=(8, 16, 31), prototypes=True)
    assert [part.ndim for part in told(path, Grids("coefficients"), kept)] == [3, 4], "another file was taken apart"


def test_an_answer_that_is_held_is_not_written_over(tmp_path: Path) -> None:
    session = opened(detector(tmp_path / "toy.onnx"), Grids())
    pictures = np.random.default_rng(0).normal(size=(6, 1, 3, *HW)).astype(np.float32)
    held = [session.run({"x": picture})[0][0, :2] for picture in pictures]
    kept = [part.copy() for part in held]
    again = [session.run({"x": picture})[0][0, :2].copy() for picture in pictures]
    for part, copy, repeated in zip(held, kept, again, strict=True):
        np.testing.assert_array_equal(part, copy)
        np.testing.assert_array_equal(part, repeated)
    compiled = session._lanes.many  # type: ignore[attr-defined]
    made = compiled._made
    del held, part
    for picture in pictures:
        session.run({"x": picture})
    assert compiled._made == made <= len(pictures) + 1, "requests are not used again"
    session.close()


def test_computing_all_places_of_a_branch_holds_no_answer(tmp_path: Path) -> None:
    form = Grids()
    session = opened(detector(tmp_path / "toy.onnx", deep=True), form)
    picture = np.random.default_rng(0).normal(size=(1, 3, *HW)).astype(np.float32)
    for _ in range(3):
        levels = levels_of(session.run({"x": picture}), form)
        assert len(table_of(levels, form, HW)) == 4 + CLASSES
        for level in levels:
            everywhere = level[0].branch.everywhere  # type: ignore[attr-defined]
            np.testing.assert_allclose(
                everywhere(level[0]),
                level[0].branch.at(level[0], np.arange(level[0].shape[1] * level[0].shape[2])),  # type: ignore[attr-defined]
                rtol=1e-4,
                atol=1e-4,
            )
        del levels, level, everywhere
    compiled = session._lanes.many  # type: ignore[attr-defined]
    assert len(compiled._idle) == compiled._made == 1
    session.close()


def test_convolutions_whose_channels_are_split_become_one_for_each_part(tmp_path: Path) -> None:
    toy = Toy((1, 3, 16, 16))
    parts = []
    for activation in ("silu", "Relu", "Tanh"):
        source = toy.conv("x", 8, 3)
        active = toy.silu(source) if activation == "silu" else toy.add(activation, source)
        parts += toy.add("Split", active, toy.constant(np.array([6, 2])), outputs=2, axis=1)
    rows = toy.add("Relu", toy.conv("x", 8, 3))
    parts += toy.add("Split", rows, toy.constant(np.array([6, 10])), outputs=2, axis=2)
    path = toy.save(tmp_path / "toy.onnx", *parts)
    graph = core().read_model(str(path))
    given = np.random.default_rng(1).normal(size=(1, 3, 16, 16)).astype(np.float32)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    before = [np.array(part) for part in core().compile_model(graph, "CPU", exact)([given]).values()]
    with_split_convolutions(graph)
    kinds = Counter(node.get_type_name() for node in graph.get_ops())
    assert kinds["Convolution"] == 2 + 2 + 1 + 1
    splits = kinds["Split"] + kinds["VariadicSplit"]
    assert splits == 2, "only that behind an activation that is not known, and that of no channels stay"
    after = [np.array(part) for part in core().compile_model(graph, "CPU", exact)([given]).values()]
    for expected, part in zip(before, after, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("axes", "bias", "split"),
    [
        ((8,), (1, 8, 1), True),
        ((6, 4, 4), (1, 8, 1, 1, 1), True),
        ((5, 5), (8, 1, 1), True),
        ((5, 8), (8,), False),
        ((2, 4), (1, 1, 2, 4), False),
    ],
    ids=["one axis", "three axes", "two axes", "as wide as there are channels", "as large as there are channels"],
)
def test_what_is_added_to_a_convolution_before_a_split_is_added_where_it_was(
    tmp_path: Path, axes: tuple[int, ...], bias: tuple[int, ...], split: bool
) -> None:
    toy = Toy((1, 3, *axes))
    weights = toy.constant(toy.numbers.normal(size=(8, 3, *[1] * len(axes))).astype(np.float32))
    added = toy.constant(toy.numbers.normal(size=bias).astype(np.float32))
    active = toy.add("Relu", toy.add("Add", toy.add("Conv", "x", weights), added))
    parts = toy.add("Split", active, toy.constant(np.array([6, 2])), outputs=2, axis=1)
    graph = core().read_model(str(toy.save(tmp_path / "toy.onnx", *parts)))
    given = np.random.default_rng(1).normal(size=(1, 3, *axes)).astype(np.float32)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    before = [np.array(part) for part in core().compile_model(graph, "CPU", exact)([given]).values()]
    with_split_convolutions(graph)
    assert Counter(node.get_type_name() for node in graph.get_ops())["Convolution"] == 1 + split
    after = [np.array(part) for part in core().compile_model(graph, "CPU", exact)([given]).values()]
    for expected, part in zip(before, after, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)

"""Tokens that are added to a transformer change none of its numbers, and are added where they pay only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray
from openvino import opset13 as opset

from saccade.runtimes import openvino as runtime
from saccade.runtimes.openvino_tokens import with_full_steps
from saccade.runtimes.session import Compute

TOKENS, HEADS, WIDTH = 197, 2, 8
CHANNELS = HEADS * WIDTH
chance = np.random.default_rng(11)


def numbers(*shape: int) -> Any:
    return opset.constant((chance.standard_normal(shape) / 4).astype(np.float32))


def linear(value: Any, wide: int = CHANNELS) -> Any:
    deep = value.get_output_shape(0)[-1]
    return opset.add(opset.matmul(value, numbers(wide, deep), False, True), numbers(1, 1, wide))


def normed(value: Any) -> Any:
    made = opset.mvn(value, np.array([2]), True, 1e-6, "inside_sqrt")
    return opset.add(opset.multiply(made, numbers(CHANNELS)), numbers(CHANNELS))


def heads(value: Any) -> Any:
    tokens = value.get_output_shape(0)[1]
    parted = opset.reshape(value, np.array([1, tokens, HEADS, WIDTH]), False)
    return opset.transpose(parted, np.array([0, 2, 1, 3]))


def joined(value: Any) -> Any:
    together = opset.transpose(value, np.array([0, 2, 1, 3]))
    return opset.reshape(together, np.array([1, value.get_output_shape(0)[2], CHANNELS]), False)


def attention(value: Any) -> Any:
    """As OpenVINO reads torch's own."""
    queries, keys, values = (heads(linear(value)) for _ in range(3))
    return joined(opset.scaled_dot_product_attention(queries, keys, values))


def with_bias(value: Any) -> Any:
    """As BEiT: what is added to the products depends on where both tokens lie."""
    tokens = value.get_output_shape(0)[1]
    queries, keys, values = (heads(linear(value)) for _ in range(3))
    return joined(opset.scaled_dot_product_attention(queries, keys, values, numbers(1, HEADS, tokens, tokens)))


def written_out(value: Any) -> Any:
    """As exports to ONNX have it."""
    queries, keys, values = (heads(linear(value)) for _ in range(3))
    turned = opset.transpose(keys, np.array([0, 1, 3, 2]))
    products = opset.multiply(opset.matmul(queries, turned, False, False), opset.constant(np.float32(0.3)))
    return joined(opset.matmul(opset.softmax(products, -1), values, False, False))


def fused(value: Any) -> Any:
    """As timm: queries, keys and values come out of one product."""
    tokens = value.get_output_shape(0)[1]
    parts = opset.reshape(linear(value, 3 * CHANNELS), np.array([1, tokens, 3, HEADS, WIDTH]), False)
    parts = opset.transpose(parts, np.array([2, 0, 3, 1, 4]))
    queries, keys, values = (opset.gather(parts, np.int64(place), np.int64(0)) for place in range(3))
    return joined(opset.scaled_dot_product_attention(queries, keys, values))


def split(value: Any) -> Any:
    parts = opset.split(linear(value, 3 * CHANNELS), np.int64(2), 3)
    queries, keys, values = (
        heads(opset.squeeze(opset.unsqueeze(part, np.int64(0)), np.int64(0))) for part in parts.outputs()
    )
    return joined(opset.scaled_dot_product_attention(queries, keys, values))


def with_computed_bias(value: Any) -> Any:
    """As BEiT traced by torch: the graph computes of its own shapes what it adds, which is no constant yet."""
    count = opset.gather(opset.shape_of(value), np.array([1]), np.int64(0))
    length = opset.squeeze(count, np.int64(0))
    every = opset.multiply(opset.multiply(length, length), np.int64(HEADS))
    shape = opset.concat([np.array([1, HEADS]), count, count], 0)
    bias = opset.reshape(opset.sin(opset.range(np.int64(0), every, np.int64(1), "f32")), shape, False)
    queries, keys, values = (heads(linear(value)) for _ in range(3))
    return joined(opset.scaled_dot_product_attention(queries, keys, values, bias))


def class_token(value: Any) -> Any:
    return opset.gather(value, np.int64(0), np.int64(1))


def last_token(value: Any) -> Any:
    return opset.gather(value, np.int64(-1), np.int64(1))


def mean_token(value: Any) -> Any:
    return opset.reduce_mean(value, np.array([1]), False)


def places(value: Any) -> Any:
    """As a decoder takes them: a map of 14 × 14."""
    cut = opset.slice(value, np.array([1]), np.array([1 << 40]), np.array([1]), np.array([1]))
    turned = opset.transpose(cut, np.array([0, 2, 1]))
    return opset.reshape(turned, np.array([1, CHANNELS, 14, 14]), False)


def whole(value: Any) -> Any:
    return value


def flattened(value: Any) -> Any:
    return opset.reshape(value, np.array([1, -1]), False)


def encoder(mix: Callable[[Any], Any], end: Callable[[Any], Any], tokens: int = TOKENS, layers: int = 2) -> Any:
    """A ViT: a class token before the places, where they lie, layers, an end."""
    picture = opset.parameter([1, tokens - 1, CHANNELS], np.float32)
    value = opset.add(opset.concat([numbers(1, 1, CHANNELS), picture], 1), numbers(1, tokens, CHANNELS))
    for _ in range(layers):
        value = opset.add(value, linear(mix(normed(value))))
        value = opset.add(value, linear(opset.gelu(linear(normed(value), 24), "erf")))
    return openvino.Model([end(normed(value))], [picture], "encoder")


def answers(graph: Any) -> list[NDArray[Any]]:
    given = np.random.default_rng(3).standard_normal(tuple(graph.inputs[0].shape)).astype(np.float32)
    found = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([given])
    return [np.array(value) for value in found.values()]


def rows(graph: Any) -> list[int]:
    """Of the products with weights."""
    return [
        node.input_value(0).get_shape()[-2]
        for node in graph.get_ordered_ops()
        if node.get_type_name() == "MatMul" and node.input_value(1).get_node().get_type_name() == "Constant"
    ]


MIXES = (attention, with_bias, with_computed_bias, written_out, fused, split)
ENDS = (class_token, last_token, mean_token, places, whole, flattened)


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("end", ENDS)
def test_every_answer_stays_and_every_product_has_full_steps(
    mix: Callable[[Any], Any], end: Callable[[Any], Any]
) -> None:
    graph = encoder(mix, end)
    before, shapes = answers(graph), [list(port.get_partial_shape()) for port in graph.outputs]
    assert np.abs(before[0]).max() > 0.1
    products = rows(graph)
    assert set(products) == {197}
    fuller = with_full_steps(graph)
    assert rows(fuller) == [200] * len(products)
    assert rows(graph) == products
    assert [list(port.get_partial_shape()) for port in fuller.outputs] == shapes
    for mine, theirs in zip(answers(fuller), before, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("mix", [attention, with_bias, written_out])
def test_weights_in_half_precision_are_weights_too(mix: Callable[[Any], Any], tmp_path: Path) -> None:
    """Exports keep them so, and make floats of them in the graph."""
    openvino.save_model(encoder(mix, class_token), tmp_path / "half.xml", compress_to_fp16=True)
    graph = openvino.Core().read_model(tmp_path / "half.xml")
    assert "Convert" in {node.get_type_name() for node in graph.get_ops()}
    fuller = with_full_steps(graph)
    products = [node for node in fuller.get_ops() if node.get_type_name() == "MatMul"]
    assert {node.input_value(0).get_shape()[-2] for node in products} == {200}
    np.testing.assert_allclose(answers(fuller)[0], answers(graph)[0], atol=1e-5)


def test_what_lies_between_layers_may_be_asked_for_too() -> None:
    """As DPT: the tokens of several layers are outputs, or feed something else."""
    graph = encoder(attention, class_token)
    sums = [node for node in graph.get_ordered_ops() if node.get_type_name() == "Add" and len(rows_of(node)) == 3]
    graph.add_outputs([sums[len(sums) // 2].output(0)])
    fuller = with_full_steps(graph)
    assert fuller is not graph
    for mine, theirs in zip(answers(fuller), answers(graph), strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def rows_of(node: Any) -> list[int]:
    return list(node.output(0).get_shape())


@pytest.mark.parametrize(("streams", "in_half", "more"), [(1, True, True), (2, True, False), (1, False, False)])
def test_only_several_threads_get_more_tokens_in_bfloat16_only(
    streams: int, in_half: bool, more: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_in_half", lambda compute: in_half)
    compiled = runtime._compiled(encoder(attention, class_token), Compute(threads=2), streams)
    names = " ".join(node.get_friendly_name() for node in compiled.get_runtime_model().get_ops())
    assert ("/fuller" in names) == more


def test_the_graph_is_named_alike_every_time() -> None:
    """Compiled graphs are found again by the names of all nodes."""
    names = []
    for _ in range(2):
        graph = encoder(with_bias, places)
        for number, node in enumerate(graph.get_ordered_ops()):
            node.set_friendly_name(f"node {number}")
        names.append([node.get_friendly_name() for node in with_full_steps(graph).get_ordered_ops()])
    assert len(names[0]) == len(set(names[0]))
    assert names[0] == names[1]


@pytest.mark.parametrize("tokens", [50, 192, 196, 198, 208, 577])
def test_where_it_does_not_pay_nothing_changes(tokens: int) -> None:
    graph = encoder(attention, class_token, tokens)
    assert with_full_steps(graph) is graph


def test_a_few_products_are_left_alone() -> None:
    graph = encoder(attention, class_token, layers=1)
    assert with_full_steps(graph) is graph


def test_two_encoders_after_each_other_both_get_tokens() -> None:
    picture = opset.parameter([1, 197, CHANNELS], np.float32)
    value: Any = picture
    for tokens in (197, 257):
        more = tokens - value.get_output_shape(0)[1]
        value = opset.concat([value, numbers(1, more, CHANNELS)], 1) if more else value
        for _ in range(2):
            value = opset.add(value, linear(attention(normed(value))))
    graph = openvino.Model([value], [picture], "two")
    fuller = with_full_steps(graph)
    assert sorted(rows(fuller)) == [200] * 8 + [260] * 8
    np.testing.assert_allclose(answers(fuller)[0], answers(graph)[0], atol=1e-5)


def test_tokens_of_several_pictures_are_left_alone() -> None:
    pictures = opset.parameter([2, TOKENS, CHANNELS], np.float32)
    value: Any = pictures
    for _ in range(10):
        value = opset.add(value, opset.matmul(value, numbers(CHANNELS, CHANNELS), False, True))
    graph = openvino.Model([value], [pictures], "several")
    assert with_full_steps(graph) is graph

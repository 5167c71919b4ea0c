"""Masks that are wanted in a coarse size only, computed in that size.

Between its layers a mask transformer multiplies every query with every pixel's features and then shrinks the masks, to
know where the next layer may look (Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation",
CVPR 2022, section 3.2.1). Shrinking and multiplying are both linear, and the features are the same for all queries and
layers: shrunk first, there is a small part to multiply, and the shrinking is done once a size.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

PRODUCT = "bqc,bchw->bqhw"
LINEAR = ("linear", "linear_onnx")


def shrunk_first(graph: Any) -> int:
    """Rewrites every shrunk product of an ``openvino.Model`` in place; returns how many there were."""
    opset = import_module("openvino.opset13")
    shrunk: dict[tuple[str, ...], Any] = {}
    changed = 0
    for node in graph.get_ordered_ops():
        if node.get_type_name() != "Interpolate" or not is_shrunk_product(node):
            continue
        product = node.input_value(0).get_node()
        queries, features = product.input_value(0), product.input_value(1)
        size, axes = node.input_value(1), node.input_value(2)
        key = tuple(f"{value.get_node().get_name()}:{value.get_index()}" for value in (features, size, axes))
        if key not in shrunk:
            shrunk[key] = opset.interpolate(features, size, axes=axes, **node.get_attributes())
        node.output(0).replace(opset.einsum([queries, shrunk[key]], PRODUCT).output(0))
        changed += 1
    if changed:
        graph.validate_nodes_and_infer_types()
    return changed


def is_shrunk_product(shrinking: Any) -> bool:
    """Whether a resizing of height and width takes a product of queries and features that nobody else needs, and makes
    it smaller."""
    product, how = shrinking.input_value(0).get_node(), shrinking.get_attributes()
    if product.get_type_name() != "Einsum" or product.get_attributes()["equation"] != PRODUCT:
        return False
    if len(product.output(0).get_target_inputs()) != 1 or len(shrinking.inputs()) != 3:
        return False
    axes = shrinking.input_value(2).get_node()
    if axes.get_type_name() != "Constant" or axes.get_data().tolist() != [2, 3]:
        return False
    if (
        how["mode"] not in LINEAR
        or how["shape_calculation_mode"] != "sizes"
        or any((*how["pads_begin"], *how["pads_end"]))
    ):
        return False
    before, after = (value.get_partial_shape() for value in (product.output(0), shrinking.output(0)))
    return all(
        before[axis].is_static and after[axis].is_static and after[axis].get_length() < before[axis].get_length()
        for axis in (2, 3)
    )

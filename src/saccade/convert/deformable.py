"""Deformable attention written so that a processor reads what it sampled once.

Models sample every level of the feature maps, stack the samples, weigh them and add them up (Zhu et al., "Deformable
DETR", ICLR 2021, equation 3; Mask2Former, OneFormer, RT-DETR and D-FINE do likewise). The stack alone is tens of
megabytes a layer, and its last axis, the few points of a place, is too short for vector instructions. Here each level
is weighed and added up by itself, with the places as last axis, and each of its points where there are many places: the
same sum in another order.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

SHAPING = ("Reshape", "Unsqueeze")
MANY = 1000
"""From so many places on every point is sampled by itself."""


def without_stacks(graph: Any) -> int:
    """Rewrites every deformable attention of an ``openvino.Model`` in place; returns how many there were."""
    opset = import_module("openvino.opset13")
    changed = 0
    for node in graph.get_ordered_ops():
        if node.get_type_name() == "ReduceSum" and (found := weighed_samples(node)):
            samples, weights = found
            added_up = point_by_point if third_of(weights) >= MANY else level_by_level
            node.output(0).replace(added_up(opset, samples, weights).output(0))
            changed += 1
    if changed:
        graph.validate_nodes_and_infer_types()
    return changed


def weighed_samples(total: Any) -> tuple[list[Any], Any] | None:
    """The GridSamples (n, channels, places, points), one a level, and the weights (n, 1, places, levels · points) whose
    products ``total`` adds up over its last axis; None if it adds up anything else."""
    product, axes = total.input_value(0).get_node(), total.input_value(1).get_node()
    if (
        product.get_type_name() != "Multiply"
        or axes.get_type_name() != "Constant"
        or total.get_attributes()["keep_dims"]
    ):
        return None
    if axes.get_data().tolist() not in (-1, 3, [-1], [3]):
        return None
    for stack, weights in ((0, 1), (1, 0)):
        samples = stacked_samples(product.input_value(stack))
        beside = product.input_value(weights)
        if samples and rank_of(beside) == 4 and beside.get_partial_shape()[3] == sum(map(points_of, samples)):
            return samples, beside
    return None


def stacked_samples(value: Any) -> list[Any]:
    """The GridSamples that were joined along their points, or along a new axis before these; [] if none were."""
    join = without_shaping(value)
    if join.get_type_name() != "Concat" or rank_of(value) != 4:
        return []
    rank = rank_of(join.input_value(0))
    samples = [without_shaping(join.input_value(number)) for number in range(len(join.inputs()))]
    if any(sample.get_type_name() != "GridSample" or not points_of(sample) for sample in samples):
        return []
    along_points = rank == 4 and join.get_attributes()["axis"] in (-1, 3)
    new_axis = rank == 5 and join.get_attributes()["axis"] in (-2, 3)
    return samples if along_points or new_axis else []


def rank_of(value: Any) -> int:
    """-1 if it is free."""
    rank = value.get_partial_shape().rank
    return -1 if rank.is_dynamic else int(rank.get_length())


def without_shaping(value: Any) -> Any:
    node = value.get_node()
    while node.get_type_name() in SHAPING:
        node = node.input_value(0).get_node()
    return node


def points_of(sample: Any) -> int:
    """How many points a place has: the third axis of the grid (n, places, points, 2); 0 if that is free."""
    return third_of(sample.input_value(1))


def third_of(value: Any) -> int:
    """The length of its third axis; 0 if that is free."""
    length = value.get_partial_shape()[2]
    return 0 if length.is_dynamic else int(length.get_length())


def level_by_level(opset: Any, samples: list[Any], weights: Any) -> Any:
    """The sum (n, channels, places)."""
    turned = np.array([0, 1, 3, 2])
    total, first = None, 0
    for sample in samples:
        last = first + points_of(sample)
        grid = opset.transpose(sample.input_value(1), np.array([0, 2, 1, 3]))
        level = opset.grid_sample(sample.input_value(0), grid, sample.get_attributes())
        share = opset.slice(weights, np.array([first]), np.array([last]), np.array([1]), np.array([3]))
        part = opset.reduce_sum(opset.multiply(level, opset.transpose(share, turned)), np.array([2]), False)
        total = part if total is None else opset.add(total, part)
        first = last
    return total


def point_by_point(opset: Any, samples: list[Any], weights: Any) -> Any:
    """The sum (n, channels, places), each point of a place sampled by itself: weighing and adding is one step then,
    without a sum along an axis. Of few places the many samplings would cost more than that saves."""
    points_first = np.array([2, 0, 1, 3])
    every = sum(map(points_of, samples))
    shares = opset.split(opset.transpose(weights, np.array([3, 0, 1, 2])), np.int64(0), every)
    total, number = None, 0
    for sample in samples:
        points = points_of(sample)
        grids = opset.split(opset.transpose(sample.input_value(1), points_first), np.int64(0), points)
        for point in range(points):
            grid = opset.transpose(grids.output(point), np.array([1, 0, 2, 3]))
            part = opset.grid_sample(sample.input_value(0), grid, sample.get_attributes())
            share = opset.transpose(shares.output(number), np.array([1, 2, 0, 3]))
            part = opset.multiply(part, share)
            total = part if total is None else opset.add(total, part)
            number += 1
    return opset.squeeze(total, np.array([2]))

"""Choosing the largest numbers in the order in which torch chooses them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saccade.results import FloatArray

PARTIAL_SORT = 64
"""torch sorts (``std::partial_sort``) where at least so many values are offered for each one wanted."""


def torch_topk_unsorted(values: FloatArray, count: int) -> NDArray[np.intp]:
    """Places of the ``count`` largest of (n,), as ``torch.topk(values, count, sorted=False)`` on a CPU orders them.

    With few values for each wanted one torch leaves them in the order of libstdc++'s ``std::nth_element``, which is
    followed here step by step, because the order decides which of two overlapping instances is painted last.
    """
    if count * PARTIAL_SORT <= len(values):
        return np.argsort(-values, kind="stable")[:count]
    order = list(range(len(values)))
    nth_element(order, values.tolist(), count - 1)
    return np.array(order[:count], np.intp)


def nth_element(order: list[int], values: list[float], nth: int) -> None:
    """``std::nth_element`` of libstdc++ with "greater" as the comparison, on places instead of values."""
    first, last = 0, len(order)
    depth = 2 * (len(order).bit_length() - 1)
    while last - first > 3:
        if depth == 0:
            heap_select(order, values, first, nth + 1, last)
            order[first], order[nth] = order[nth], order[first]
            return
        depth -= 1
        split = partition(order, values, first, last)
        if split <= nth:
            first = split
        else:
            last = split
    insertion_sort(order, values, first, last)


def partition(order: list[int], values: list[float], first: int, last: int) -> int:
    """Around the median of three, which is moved to the front before."""
    middle = first + (last - first) // 2
    median_to_front(order, values, first, first + 1, middle, last - 1)
    pivot = values[order[first]]
    low, high = first + 1, last
    while True:
        while values[order[low]] > pivot:
            low += 1
        high -= 1
        while pivot > values[order[high]]:
            high -= 1
        if not low < high:
            return low
        order[low], order[high] = order[high], order[low]
        low += 1


def median_to_front(order: list[int], values: list[float], front: int, a: int, b: int, c: int) -> None:
    first, second, third = values[order[a]], values[order[b]], values[order[c]]
    if first > second:
        chosen = b if second > third else c if first > third else a
    else:
        chosen = a if first > third else c if second > third else b
    order[front], order[chosen] = order[chosen], order[front]


def insertion_sort(order: list[int], values: list[float], first: int, last: int) -> None:
    order[first:last] = sorted(order[first:last], key=lambda place: -values[place])


def heap_select(order: list[int], values: list[float], first: int, middle: int, last: int) -> None:
    """Any order of the largest is as good as libstdc++'s here: it comes to this only for adversarial input."""
    ranked = sorted(order[first:last], key=lambda place: -values[place])
    order[first:last] = ranked
    order[first], order[middle - 1] = order[middle - 1], order[first]

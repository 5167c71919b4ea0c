"""From logits to probabilities, in single precision."""

from __future__ import annotations

import numpy as np

from saccade.results import FloatArray

LOWEST = np.float32(-80)
"""Below it a sigmoid is 0 in single precision, and its exponential would overflow."""


def softmax(logits: FloatArray) -> FloatArray:
    """Over the last axis."""
    powers: FloatArray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def sigmoid(logits: FloatArray) -> FloatArray:
    powers: FloatArray = np.exp(-np.maximum(logits, LOWEST))
    powers += np.float32(1)
    return np.reciprocal(powers, out=powers)

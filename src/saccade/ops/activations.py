"""From logits to probabilities, in single precision."""

from __future__ import annotations

import numpy as np

from saccade.results import FloatArray


def softmax(logits: FloatArray) -> FloatArray:
    """Over the last axis."""
    powers: FloatArray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def sigmoid(logits: FloatArray) -> FloatArray:
    powers: FloatArray = np.negative(logits)
    with np.errstate(over="ignore"):  # of what is larger than every number the reciprocal is 0, as it should be
        np.exp(powers, out=powers)
    powers += np.float32(1)
    return np.reciprocal(powers, out=powers)

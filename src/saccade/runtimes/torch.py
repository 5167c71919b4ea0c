"""torch, the runtime for architectures that no graph converter takes; slower, and needs ``saccade[transformers]``."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.card import Card, Pixels
from saccade.errors import RunFailed, first_line, short_of
from saccade.ops.grids import Grids
from saccade.runtimes.session import Compute, Session
from saccade.runtimes.transformers import libraries, module


def RUNTIME(card: Card, pixels: Mapping[str, Pixels], compute: Compute, grids: Grids | None = None) -> Session:
    """See :class:`saccade.runtimes.session.Runtime`."""
    return TorchSession(card, pixels, compute)


class TorchSession:
    """A module in evaluation mode; see :class:`saccade.runtimes.session.Session`."""

    batchable = True

    def __init__(self, card: Card, pixels: Mapping[str, Pixels], compute: Compute) -> None:
        self._torch, _ = libraries()
        self._name = card.name
        self._pixels = pixels.get("")
        self._device = "cuda" if compute.device == "cuda" and self._torch.cuda.is_available() else "cpu"
        self._module: Any = module(card).to(self._device)
        # Threads of torch are a property of the process; a worker serves one model.
        self._torch.set_num_threads(max(1, compute.threads))
        self._lock = threading.Lock()

    def run(self, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """See the contract; one call at a time, each with all threads."""
        torch = self._torch
        if self._module is None:
            raise RunFailed(f"The model '{self._name}' is closed.")
        with self._lock, torch.inference_mode():
            pictures = [self._given(tensor, "") for name, tensor in tensors.items() if not name]
            others = {name: self._given(tensor, name) for name, tensor in tensors.items() if name}
            try:
                outputs = self._module(*pictures, **others)
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (*pictures, *others.values()))
                reason = first_line(error)
                raise short_of(error) or RunFailed(
                    f"The model '{self._name}' failed on an input of shape {shapes}: {reason}"
                ) from None
            return [output.float().cpu().numpy() for output in outputs]

    def _given(self, tensor: NDArray[Any], name: str) -> Any:
        """A tensor on the device; the image input's arithmetic is done here."""
        found = tensor if name else normalised(tensor, self._pixels)
        return self._torch.from_numpy(np.ascontiguousarray(found)).to(self._device)

    def close(self) -> None:
        self._module = None


def normalised(picture: NDArray[Any], pixels: Pixels | None) -> NDArray[np.float32]:
    """Bytes (n, h, w, 3) → floats (n, 3, h, w); what is no bytes passes through."""
    if pixels is None:
        return np.ascontiguousarray(picture, np.float32)
    values = picture.astype(np.float32)
    if pixels.order == "BGR":
        values = values[..., ::-1]
    mean, std = np.array(pixels.mean, np.float32), np.array(pixels.std, np.float32)
    values = (values * np.float32(pixels.scale) - mean) / std
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)

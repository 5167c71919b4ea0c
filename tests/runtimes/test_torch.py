"""What is told when a module of torch fails; torch itself is not needed."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from saccade.card import Card
from saccade.errors import Overloaded, RunFailed
from saccade.runtimes import torch
from saccade.runtimes.session import Compute

ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4096000000 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        (ALLOCATOR, Overloaded, "memory"),
        (
            "size of tensor a (3) must match\nmore",
            RunFailed,
            r"shape \(1, 2\): RuntimeError: size of tensor a \(3\) must match$",
        ),
    ],
)
def test_a_module_that_fails_says_why_and_a_lack_of_memory_blames_no_picture(
    monkeypatch: pytest.MonkeyPatch, words: str, kind: type[Exception], told: str
) -> None:
    def module(*tensors: Any) -> None:
        raise RuntimeError(words)

    library = SimpleNamespace(
        cuda=SimpleNamespace(is_available=bool),
        set_num_threads=lambda count: None,
        inference_mode=nullcontext,
        from_numpy=lambda array: SimpleNamespace(to=lambda device: array),
    )
    monkeypatch.setattr(torch, "libraries", lambda: (library, None))
    monkeypatch.setattr(torch, "module", lambda card: SimpleNamespace(to=lambda device: module))
    card = Card(name="m", task="classify", family="classifier", runtime="torch", files=())
    session = torch.RUNTIME(card, {}, Compute())
    with pytest.raises(kind, match=told):
        session.run({"": np.zeros((1, 2), np.float32)})

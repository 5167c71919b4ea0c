"""Files opened without the network by libraries that would fetch what a file names from the Hugging Face Hub."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

_alone = threading.Lock()


@contextmanager
def offline() -> Iterator[None]:
    """Keeps huggingface_hub, through which transformers and timm ask the Hub, from all requests meanwhile, in this
    process; what its cache holds is found. One at a time.

    ``local_files_only`` is not enough: it is forgotten for a backbone that a config.json names, and for the names of
    classes that a preprocessor_config.json does.
    """
    constants: Any = import_module("huggingface_hub.constants")
    with _alone:
        before = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before


def kept_back(error: BaseException | None) -> bool:
    """Whether this comes of a request that :func:`offline` did not let through."""
    while error is not None:
        if type(error).__name__ == "OfflineModeIsEnabled":
            return True
        error = error.__cause__ or error.__context__
    return False


ELSEWHERE = (
    "is in part on the Hub, which saccade does not ask of its own accord. Load it with transformers where the network "
    "may be used, and take what save_pretrained writes"
)
"""What to say then of a model."""

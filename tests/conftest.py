"""What all tests share: where the local test data lies, and skipping cleanly where it does not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

# Environments are made without bytecode; each process would compile all that it imports, for seconds with Ray or torch.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Reference libraries run ONNX Runtime by themselves, which reports to its maker when it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# A shell that starts this in the background has it, and all that it starts, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")  # a busy machine is no failure


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with specifications and test data beside the checkout; tests that need it are skipped without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def data(shared: Path) -> Path:
    """Models, images, videos and golden answers."""
    return shared / "data"

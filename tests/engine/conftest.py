"""Tests of the engines with torch: they run inside the serving image, `python3 -m pytest tests/engine`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoints import write


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Compute in one thread: two would wait for each other at every step on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Mistral with grouped key heads."""
    return write(tmp_path_factory.mktemp("checkpoint"))

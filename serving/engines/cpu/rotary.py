"""The tables of the rotary embedding: cosine and sine of the angles of every position.

A CPU has nothing to compile. These tables stand for it: they are kept and loaded as compiled graphs are on Neuron, so that every cluster
shows the way from the store to the replicas.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from serving.engines.artifacts import Store, keep, key_of, try_to_keep
from serving.engines.checkpoint import Shape, identity
from serving.settings import Settings

Tables = tuple[Tensor, Tensor]
"""Cosine and sine, [positions, head_dim] each: the second half of a head turns with the first, and the sine has the sign with which the
other half is added."""
FILE = "rotary.pt"
LAYOUT = 2
"""Number of the tables' layout, which is a part of their key: change it with `compute`."""

log = logging.getLogger(__name__)


def compute(shape: Shape, positions: int) -> Tables:
    """Return the tables of these positions."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    frequencies = 1.0 / shape.theta**exponents
    if long := shape.long_rope:
        turns = long.first_positions * frequencies / (2 * torch.pi)
        kept = ((turns - long.low) / (long.high - long.low)).clamp(0, 1)
        frequencies = frequencies * (kept + (1 - kept) / long.factor)
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies)
    return angles.cos().repeat(1, 2), torch.cat((-angles.sin(), angles.sin()), dim=1)


def key(folder: Path, positions: int) -> str:
    """Return the key of the tables, made from everything that they depend on."""
    about = {"engine": "cpu", "layout": LAYOUT, "folder": identity(folder), "positions": positions, "torch": torch.__version__}
    return key_of(about)


def tables(folder: Path, shape: Shape, positions: int, store: Store | None) -> Tables:
    """Return the tables: those of the store, or computed and stored."""
    if store is None:
        return compute(shape, positions)
    wanted = key(folder, positions)
    if found := store.fetch(wanted):
        log.info("loads the compiled artifacts %s", wanted)
        loaded: Tables = torch.load(found / FILE, weights_only=True)
        return loaded
    computed = compute(shape, positions)
    try_to_keep(store, wanted, _writer(computed))
    return computed


def compile_ahead(settings: Settings, store: Store) -> tuple[str, bool]:
    """Put the tables into the store if they are not there; return their key, and whether this call put them there.

    Raises:
        BadCheckpoint: the model's folder has no checkpoint that the engine can compute.
    """
    shape = Shape.read(settings.model)
    positions = min(settings.positions, shape.positions)
    wanted = key(settings.model, positions)
    if store.has(wanted):
        return wanted, False
    return wanted, keep(store, wanted, _writer(compute(shape, positions)))


def _writer(computed: Tables) -> Callable[[Path], None]:
    return lambda new: torch.save(computed, new / FILE)

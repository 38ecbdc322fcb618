"""What the name of an engine stands for: its code, its packages, its resources, its limits. Importing it needs nothing else.

A step engine is `make`d and gets the scheduler of serving.engines.batching around it. An engine that batches by itself
would be a profile whose `text_engine` returns it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from serving.settings import Settings

if TYPE_CHECKING:
    from serving.engines.batching import BatchingEngine
    from serving.engines.callbacks import Observer
    from serving.engines.contract import StepEngine

ABANDONED = 70
"""Exit code of a process that gave its devices back by dying."""


@dataclass(frozen=True)
class Profile:
    """One engine. What a deployment really gives it stands in manifests/engine-NAME.yaml."""

    name: str
    factory: str
    """module:function of Settings → StepEngine; imported by the process that computes, when it does."""
    packages: tuple[str, ...]
    """What its image needs beside numpy and what the API needs."""
    slots: int
    """Sequences at once, to begin with."""
    positions: int
    """Tokens of each, prompt and answer, to begin with."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that the process gets before the factory is imported, unless it has them."""
    ray_resources: Mapping[str, int] = field(default_factory=dict)
    """Of an engine's replica, beside CPUs. Ray hides all other devices from its process."""
    kubernetes_resources: Mapping[str, int] = field(default_factory=dict)
    """Of the worker's container, beside CPU and memory."""
    holds_devices: bool = False
    """What computes belongs to the process until it is dead, however broken the engine is."""

    def make(self, settings: Settings) -> StepEngine:
        """The step engine, at the pace that the settings ask for. Takes as long as loading the model does.

        Raises:
            Exception: whatever the engine raises when it cannot start.
        """
        from serving.engines.paced import PacedEngine

        for name, value in self.environment.items():
            os.environ.setdefault(name, value)
        module, function = self.factory.split(":")
        engine: StepEngine = getattr(import_module(module), function)(settings)
        return PacedEngine(engine, settings.steps_per_s) if settings.steps_per_s else engine

    def text_engine(self, settings: Settings, observer: Observer | None = None) -> BatchingEngine:
        """The text engine, not started yet.

        Raises:
            BadCheckpoint: the model's folder does not say how an answer ends.
        """
        from serving.engines.batching import BatchingEngine
        from serving.engines.checkpoint import ends

        return BatchingEngine(lambda: self.make(settings), ends(settings.model), settings.max_queue, settings.stuck_after_s, observer)

    def abandon(self, why: object) -> None:
        """To be called when the engine is broken for good. Where it holds devices this ends the process at once: an orderly
        end would wait for the thread that is stuck in them, and the replica that comes instead would find them taken."""
        if self.holds_devices:
            print(f"leeward: the {self.name} engine is given up, and its devices with it: {why}", file=sys.stderr, flush=True)
            os._exit(ABANDONED)


_PROFILES = (
    Profile(
        name="cpu",
        factory="serving.engines.cpu.engine:build",
        packages=("torch", "safetensors"),
        slots=16,
        positions=2048,
        # How long threads spin that wait for each other. By default it is so long that where others want the cores they take
        # each other's time to compute (on two busy cores a step took seven times as long); not at all costs as much as the
        # step itself (82 ms instead of 47).
        environment={"GOMP_SPINCOUNT": "20000"},
    ),
    # Those of AWS's inference image of Neuron SDK 2.25, the last that has them, and boto3 for the compiled artifacts.
    Profile(
        name="neuron",
        factory="serving.engines.neuron.engine:build",
        packages=(
            "torch-neuronx==2.7.0.2.9.9357",
            "neuronx-cc==2.20.9961.0",
            "transformers-neuronx==0.13.1216",
            "transformers==4.48.*",
            "boto3",
        ),
        slots=8,
        positions=4096,
        # Tensor parallel over the two cores of one chip: a pod that asks for one chip needs no scheduler extension.
        ray_resources={"neuron_cores": 2},
        kubernetes_resources={"aws.amazon.com/neuron": 1},
        holds_devices=True,
    ),
)


def named(name: str) -> Profile:
    """The profile of that name.

    Raises:
        ValueError: there is none; says which there are.
    """
    for profile in _PROFILES:
        if profile.name == name:
            return profile
    raise ValueError(f"there is no engine {name!r}; there are {', '.join(profile.name for profile in _PROFILES)}")

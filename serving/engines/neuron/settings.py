"""Settings of the neuron engine beyond Settings, and the plan of what is compiled for it. Standard library only."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.engines.checkpoint import BadCheckpoint, Shape
from serving.settings import Settings

PREFIX = "LEEWARD_NEURON_"
TP_DEGREES = (1, 2, 4, 8, 24)
"""Numbers of cores over which Inf2 can split a model."""
Buckets = tuple[int, ...]


@dataclass(frozen=True)
class NeuronSettings:
    """The neuron engine's settings. Each field is read from LEEWARD_NEURON_ and its name in capitals. Buckets are written 512,2048,4096."""

    tp_degree: int = 2
    """Cores that compute one step together: a chip of Inferentia2 has two."""
    context_buckets: Buckets = ()
    """Lengths to which prompts are padded, with one compiled graph each; the last is the longest prompt. Empty: an eighth of the positions,
    half of them, and all."""
    token_buckets: Buckets = ()
    """Lengths of history, with one compiled graph each; the last must be the positions. Empty: a quarter of the positions, and all."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> NeuronSettings:
        """Read the settings; a variable that is not set has its default.

        Raises:
            ValueError: a value has the wrong type; the message names the variable.
        """
        degree = env.get(PREFIX + "TP_DEGREE", "2")
        if degree not in map(str, TP_DEGREES):
            raise ValueError(f"{PREFIX}TP_DEGREE must be one of {', '.join(map(str, TP_DEGREES))}, not {degree!r}")
        return cls(
            tp_degree=int(degree),
            context_buckets=_buckets(PREFIX + "CONTEXT_BUCKETS", env),
            token_buckets=_buckets(PREFIX + "TOKEN_BUCKETS", env),
        )


@dataclass(frozen=True)
class Plan:
    """One compilation: another plan needs other compiled graphs."""

    folder: Path
    """Folder of the checkpoint."""
    vocabulary: int
    slots: int
    tp_degree: int
    context_buckets: Buckets
    token_buckets: Buckets
    amp: str = "bf16"
    """Floating-point type in which the chip computes."""

    @property
    def positions(self) -> int:
        """Tokens that a slot can hold."""
        return self.token_buckets[-1]

    @property
    def max_prompt(self) -> int:
        """Tokens of the longest prompt: it fits the largest bucket, and leaves one position for an answer."""
        return min(self.context_buckets[-1], self.positions - 1)


def plan(settings: Settings, neuron: NeuronSettings) -> Plan:
    """Return the plan for the settings and the checkpoint on disk.

    Raises:
        BadCheckpoint: the folder has no checkpoint of a Mistral.
        ValueError: the buckets do not fit the positions, or the model was made for fewer.
    """
    shape, positions = Shape.read(settings.model), settings.positions
    if shape.architecture != "mistral":
        raise BadCheckpoint(f"the neuron engine computes Mistral's architecture, and {settings.model} is a {shape.architecture}")
    context = neuron.context_buckets or _parts(positions, 8, 2, 1)
    tokens = neuron.token_buckets or _parts(positions, 4, 1)
    if positions > shape.positions:
        raise ValueError(f"LEEWARD_POSITIONS is {positions}, and the model in {settings.model} was made for {shape.positions}")
    if tokens[-1] != positions:
        raise ValueError(f"the last of {PREFIX}TOKEN_BUCKETS must be LEEWARD_POSITIONS, {positions}, not {tokens[-1]}")
    if context[-1] > positions:
        raise ValueError(f"the last of {PREFIX}CONTEXT_BUCKETS must be at most LEEWARD_POSITIONS, {positions}, not {context[-1]}")
    return Plan(settings.model, shape.vocabulary, settings.slots, neuron.tp_degree, context, tokens)


def _buckets(name: str, env: Mapping[str, str]) -> Buckets:
    text = env.get(name, "")
    found = tuple(int(number) for number in re.findall(r"\d+", text))
    if text != ",".join(map(str, found)) or sorted({*found} - {0}) != [*found]:
        raise ValueError(f"{name} must be ascending whole numbers with commas between them, not {text!r}")
    return found


def _parts(positions: int, *divisors: int) -> Buckets:
    """Return the positions divided by each divisor, ascending, at least 2: the library takes a prompt of one token for a decode."""
    return tuple(sorted({max(2, positions // divisor) for divisor in divisors}))

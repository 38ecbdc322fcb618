"""What a serving process is told by its environment, and the limits it keeps.

One frozen value, made once when a replica starts. Standard library only.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

PREFIX = "LEEWARD_"


@dataclass(frozen=True)
class Settings:
    """Limits and pace of one replica. Each field is read from LEEWARD_ and its name in capitals."""

    engine: str = "cpu"
    """Name of the engine (serving.engines.profiles)."""
    model: Path = Path("/opt/leeward/model")
    """Folder with the checkpoint: config.json and safetensors."""
    model_name: str = "mistral"
    """What the API calls the model."""
    slots: int = 16
    """Answers that one replica computes at the same time."""
    positions: int = 2048
    """Tokens of prompt and answer together."""
    max_tokens: int = 1024
    """Longest answer, and the length of one that does not say."""
    max_queue: int = 512
    """Requests that wait for a slot in one replica; the next one is refused (429)."""
    deadline_s: float = 120.0
    """Seconds in which an answer must be whole. Bounds how long a stream lives, and so how long a worker must be allowed to
    shut down: manifests/rayservice.yaml has the other half."""
    stuck_after_s: float = 60.0
    """Seconds after which a step that does not end makes the replica unhealthy."""
    threads: int = 0
    """Threads that compute; 0: as many as the process may use cores."""
    steps_per_s: float = 0.0
    """Decode steps a second at most; 0: as many as it can. A tiny model would be done in a blink; paced like a 7B its streams
    live long enough for a fault to meet them."""
    api_key: str = field(default="", repr=False)
    """Who calls must know it; empty: anybody may call."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """The defaults, where the environment does not say otherwise.

        Raises:
            ValueError: a value is not of its field's kind or out of bounds; the message names the variable.
        """
        given = {f.name: _read(PREFIX + f.name.upper(), f.default, env) for f in fields(cls) if PREFIX + f.name.upper() in env}
        return cls(**given)


_MAY_BE_ZERO = ("LEEWARD_THREADS", "LEEWARD_STEPS_PER_S")


def _read(name: str, default: Any, env: Mapping[str, str]) -> Any:
    """The variable's value, of the default's type."""
    text = env[name]
    if isinstance(default, (str, Path)):
        return type(default)(text)
    kind = "whole number" if isinstance(default, int) else "number"
    try:
        value = type(default)(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf or (value == 0 and name in _MAY_BE_ZERO)):
        raise ValueError(f"{name} must be a positive {kind}, not {text!r}")
    return value

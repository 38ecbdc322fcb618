"""Settings and limits of a serving process, read from its environment.

One frozen value, created once when a replica starts. Standard library only.
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
    """Name of the model in the API."""
    slots: int = 16
    """Answers that one replica computes at the same time."""
    positions: int = 2048
    """Tokens of prompt and answer together at most."""
    max_tokens: int = 1024
    """Tokens of the longest answer, and of an answer for which the request gives no limit."""
    max_queue: int = 512
    """Requests that wait in one replica when no slot is free; the next one is refused (429)."""
    deadline_s: float = 120.0
    """Seconds in which an answer must be complete. Bounds how long a stream lives, and so the grace periods with which a worker shuts
    down: those are in manifests/rayservice.yaml."""
    stuck_after_s: float = 60.0
    """Seconds after which a step that does not end ends the replica's process."""
    threads: int = 0
    """Threads that compute; 0: one for each core that the process may use."""
    steps_per_s: float = 0.0
    """Decode steps per second at most; 0: no limit. A tiny model would answer in an instant; at the pace of a 7B its streams live long
    enough to be hit by a fault."""
    artifacts: str = ""
    """Place of what the engine compiles: a folder, or s3://bucket/prefix. Empty: it is not kept, and each start compiles."""
    api_key: str = field(default="", repr=False)
    """Key that every request must have; empty: no key is needed."""
    allowed_origins: str = ""
    """Origins whose pages may call the API from a browser (CORS), separated by commas, or * for all; empty: none."""

    @property
    def origins(self) -> list[str]:
        """The allowed origins, one by one."""
        return [origin.strip() for origin in self.allowed_origins.split(",") if origin.strip()]

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings; a variable that is not set has its default.

        Raises:
            ValueError: a value has the wrong type or is out of bounds; the message names the variable.
        """
        given = {f.name: _read(PREFIX + f.name.upper(), f.default, env) for f in fields(cls) if PREFIX + f.name.upper() in env}
        return cls(**given)


_MAY_BE_ZERO = ("LEEWARD_THREADS", "LEEWARD_STEPS_PER_S")


def _read(name: str, default: Any, env: Mapping[str, str]) -> Any:
    """Return the variable's value, with the type of the default."""
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

"""What the serving process is told by its environment, and the limits it keeps at the door.

One frozen value, made once when a replica starts. Standard library only.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Number = TypeVar("Number", int, float)
PREFIX = "LEEWARD_"


@dataclass(frozen=True)
class Settings:
    """Limits and pace of one replica."""

    model: Path = Path("/opt/leeward/model")
    """Folder with the weights (LEEWARD_MODEL)."""
    stream_tokens_per_s: float = 10.0
    """Pace of a stream (LEEWARD_STREAM_TOKENS_PER_S). A tiny model would be done in a blink; paced like a 7B it lives
    long enough for a fault to meet it."""
    default_tokens: int = 16
    """Tokens of an answer when the request does not say."""
    max_tokens: int = 128
    """Longest answer (LEEWARD_MAX_TOKENS). With the pace it bounds how long a stream lives, and so how long a worker
    must be allowed to shut down: manifests/rayservice.yaml has the other half."""
    max_sentence: int = 2000
    """Characters. Refused before any work is done."""
    max_prompt_tokens: int = 1024
    """Prompt and answer together stay well inside the model's positions."""
    threads: int = 2
    """Requests that compute at the same time in one replica; the others wait their turn between two tokens."""

    @property
    def longest_stream_s(self) -> float:
        """Seconds that the longest answer takes at the set pace."""
        return self.max_tokens / self.stream_tokens_per_s

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """The defaults, where the environment does not say otherwise.

        Raises:
            ValueError: a value is not a number, or not positive; the message names the variable.
        """
        defaults = cls()
        return cls(
            model=Path(env.get(PREFIX + "MODEL", str(defaults.model))),
            stream_tokens_per_s=_positive(env, "STREAM_TOKENS_PER_S", defaults.stream_tokens_per_s),
            max_tokens=_positive(env, "MAX_TOKENS", defaults.max_tokens),
        )


def _positive(env: Mapping[str, str], name: str, default: Number) -> Number:
    """A number of the default's type."""
    text = env.get(PREFIX + name, str(default))
    try:
        value = type(default)(text)
    except ValueError:
        value = type(default)(0)
    if not 0 < value < math.inf:
        kind = "whole number" if isinstance(default, int) else "number"
        raise ValueError(f"{PREFIX}{name} must be a positive {kind}, not {text!r}")
    return value

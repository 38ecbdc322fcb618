"""Compile ahead of the replicas: `python3 -m serving.engines.compilation`.

The settings come from the same environment variables as a replica's. Afterwards LEEWARD_ARTIFACTS has what its engine compiles, which takes
Neuron many minutes, and every replica loads it.
"""

from __future__ import annotations

import sys

from serving.engines import profiles
from serving.engines.artifacts import store_at
from serving.settings import Settings


def compile_ahead(settings: Settings) -> str:
    """Compile, unless the store has the result; return a sentence about what was done.

    Raises:
        ValueError: no store is set, or the engine compiles nothing, or it cannot compute the model.
    """
    if not settings.artifacts:
        raise ValueError("LEEWARD_ARTIFACTS must name the place: a folder, or s3://bucket/prefix")
    key, ours = profiles.named(settings.engine).compile_ahead(settings, store_at(settings.artifacts))
    return f"{settings.artifacts} has {key}{' now' if ours else ''}"


if __name__ == "__main__":
    try:
        print(compile_ahead(Settings.from_env()), flush=True)
    except ValueError as error:
        sys.exit(f"{error}")

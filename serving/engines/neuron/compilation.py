"""Compile ahead, where there are the Neuron packages and no chip: `python -m serving.engines.neuron.compilation`. **Never run.**

Told by the same environment as the replicas. Afterwards LEEWARD_NEURON_ARTIFACTS holds what a replica loads in minutes
instead of compiling it for many.
"""

from __future__ import annotations

import sys

from serving.engines.neuron import model as neuron_model
from serving.engines.neuron.artifacts import store_at
from serving.engines.neuron.settings import NeuronSettings, plan
from serving.settings import Settings


def compile_ahead(settings: Settings, neuron: NeuronSettings) -> str:
    """The artifacts are in the store; returns a sentence on what was done.

    Raises:
        BadCheckpoint, ValueError: see `plan`; or there is no store.
    """
    if not neuron.artifacts:
        raise ValueError("LEEWARD_NEURON_ARTIFACTS must say where to: a folder, or s3://bucket/prefix")
    wanted, store = plan(settings, neuron), store_at(neuron.artifacts)
    key = neuron_model.key(wanted)
    if store.has(key):
        return f"{neuron.artifacts} has {key}"
    model = neuron_model.construct(wanted)
    model.cpu_compile()
    ours = neuron_model.keep(model, wanted, store)
    return f"{neuron.artifacts} has {key}{' now' if ours else ', from another that was first'}"


if __name__ == "__main__":
    try:
        print(compile_ahead(Settings.from_env(), NeuronSettings.from_env()))
    except ValueError as error:
        sys.exit(f"{error}")

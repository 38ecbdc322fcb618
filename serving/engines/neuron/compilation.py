"""Compile ahead, on a machine with the Neuron packages and no chip: `python -m serving.engines.neuron.compilation`. **Never run.**

The settings come from the same environment variables as a replica's. Afterwards LEEWARD_NEURON_ARTIFACTS has the compiled graphs, which a
replica then loads; compiling them takes it many minutes.
"""

from __future__ import annotations

import sys

from serving.engines.neuron import model as neuron_model
from serving.engines.neuron.artifacts import store_at
from serving.engines.neuron.settings import NeuronSettings, plan
from serving.settings import Settings


def compile_ahead(settings: Settings, neuron: NeuronSettings) -> str:
    """Put the artifacts into the store if they are not there; return a sentence about what was done.

    Raises:
        BadCheckpoint, ValueError: see `plan`; ValueError also if no store is set.
    """
    if not neuron.artifacts:
        raise ValueError("LEEWARD_NEURON_ARTIFACTS must name the place: a folder, or s3://bucket/prefix")
    wanted, store = plan(settings, neuron), store_at(neuron.artifacts)
    key = neuron_model.key(wanted)
    if store.has(key):
        return f"{neuron.artifacts} has {key}"
    model = neuron_model.construct(wanted)
    model.cpu_compile()
    ours = neuron_model.keep(model, wanted, store)
    return f"{neuron.artifacts} has {key}{' now' if ours else ', from another process that was first'}"


if __name__ == "__main__":
    try:
        print(compile_ahead(Settings.from_env(), NeuronSettings.from_env()))
    except ValueError as error:
        sys.exit(f"{error}")

"""Compile for a chip on a machine with the Neuron packages and without one. **Never run.**"""

from __future__ import annotations

from serving.engines.artifacts import Store, keep
from serving.engines.neuron import model as neuron_model
from serving.engines.neuron.settings import NeuronSettings, plan
from serving.settings import Settings


def compile_ahead(settings: Settings, store: Store) -> tuple[str, bool]:
    """Put the graphs into the store if they are not there; return their key, and whether this call put them there.

    Raises:
        BadCheckpoint, ValueError: see `plan`.
    """
    wanted = plan(settings, NeuronSettings.from_env())
    key = neuron_model.key(wanted)
    if store.has(key):
        return key, False
    model = neuron_model.construct(wanted)
    model.cpu_compile()
    return key, keep(store, key, lambda folder: model.save(str(folder)))

"""The step engine on Inferentia2, over transformers-neuronx with continuous batching. **Never run on a chip**: there was none.

The library has rules that it does not document. The code here is tested against a stand-in that enforces them one by one
(tests/engine/fake_tnx.py):

- a decode writes token 0 at position 0 of the rows that it does not name: every live slot is in every decode;
- a prompt of one token is taken for a decode: prompts have at least two;
- a prompt longer than the largest bucket, and a position beyond it, end in errors without a message;
- ids and positions must have one data type, or the scatter of a decode fails.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from serving.engines.artifacts import Store, keep, store_at
from serving.engines.checks import check_decode, check_prefill
from serving.engines.contract import Limits, Logits
from serving.engines.neuron import model as neuron_model
from serving.engines.neuron.settings import NeuronSettings, Plan, plan
from serving.settings import Settings


def build(settings: Settings) -> NeuronEngine:
    """Return the engine for the settings and LEEWARD_NEURON_…, with the model on its cores.

    Raises:
        NoCores: the process may not use as many cores as the model is split over.
        BadCheckpoint: the model's folder has no checkpoint; it must be downloaded first.
        ValueError: the settings do not fit each other.
    """
    neuron = NeuronSettings.from_env()
    neuron_model.require_cores(neuron.tp_degree, os.environ)
    wanted = plan(settings, neuron)
    model = neuron_model.construct(wanted)
    neuron_model.to_cores(model, wanted, store_at(settings.artifacts) if settings.artifacts else None)
    return NeuronEngine(model, wanted)


def compile_ahead(settings: Settings, store: Store) -> tuple[str, bool]:
    """Compile without a chip, and put the graphs into the store if they are not there; return their key, and whether this call did that.

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


class NeuronEngine:
    """A step engine over a MistralForSampling that is on the cores."""

    def __init__(self, model: Any, plan: Plan) -> None:
        self._model = model
        self._limits = Limits(
            slots=plan.slots, positions=plan.positions, max_prompt=plan.max_prompt, vocabulary=plan.vocabulary, min_prompt=2
        )

    @property
    def limits(self) -> Limits:
        """The limits of this engine."""
        return self._limits

    def prefill(self, slot: int, ids: Sequence[int]) -> Logits:
        """Compute a prompt; see StepEngine. The library pads it to the bucket. Raises what `check_prefill` does."""
        check_prefill(self._limits, slot, ids)
        return self._forward([list(ids)], [list(range(len(ids)))], [slot])[0]

    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Compute a token in each slot; see StepEngine. Raises what `check_decode` does."""
        check_decode(self._limits, slots, tokens, positions)
        return self._forward([[token] for token in tokens], [[position] for position in positions], list(slots))

    def close(self) -> None:
        """Do nothing: the process keeps the cores until it ends. See Profile.abandon."""

    @torch.inference_mode()
    def _forward(self, ids: list[list[int]], places: list[list[int]], rows: list[int]) -> Logits:
        """Call the library once; return [rows, vocabulary]."""
        given = [torch.tensor(numbers, dtype=torch.int64) for numbers in (ids, places, rows)]
        logits: torch.Tensor = self._model(given[0], cache_ids=given[1], start_ids=given[2])
        found: Logits = logits.to(torch.float32).numpy()
        return found

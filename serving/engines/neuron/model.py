"""The model of transformers-neuronx: constructed, compiled or loaded, put on the cores. **Never run on a chip**: there was none.

Written after the source of the library's last public version and the notes of Neuron SDK 2.25. The library is imported when a model is
constructed: the import takes the cores that are visible to the process, and fails without the Neuron packages.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from serving.engines.artifacts import Store, key_of, try_to_keep
from serving.engines.checkpoint import identity
from serving.engines.neuron.settings import Plan

VISIBLE_CORES = "NEURON_RT_VISIBLE_CORES"
_ATTENTION = "SHARD_OVER_HEADS"
"""How attention is split: each core has whole key heads, which works for Mistral's eight on 1, 2, 4 or 8 cores."""
_COMPILED_BY = ("transformers-neuronx", "torch-neuronx", "neuronx-cc")

log = logging.getLogger(__name__)


class NoCores(RuntimeError):
    """The process may not use as many cores as the model is split over."""


def require_cores(tp_degree: int, env: Mapping[str, str]) -> None:
    """Return if this process was given as many cores as the model needs. Call this before the library is imported.

    Raises:
        NoCores: it was not. A process for which no cores are named would take every core of the node.
    """
    named = env.get(VISIBLE_CORES, "")
    if _count(named) != tp_degree:
        raise NoCores(
            f"{VISIBLE_CORES} is {named!r}, and the model is split over {tp_degree} cores; "
            'the replica must ask for them (ray_actor_options: {"resources": {"neuron_cores": …}})'
        )


def key(plan: Plan) -> str:
    """Return the key of the compiled artifacts, made from everything that they depend on.

    Raises:
        PackageNotFoundError: the Neuron packages are not installed.
    """
    about = asdict(plan) | {"folder": identity(plan.folder), "attention": _ATTENTION}
    return key_of(about | {package: version(package) for package in _COMPILED_BY})


def construct(plan: Plan) -> Any:
    """Return the MistralForSampling of the plan, with the weights in the host's memory; it is not compiled and on no core yet."""
    from transformers_neuronx import GQA, ContinuousBatchingConfig, MistralForSampling, NeuronConfig

    return MistralForSampling.from_pretrained(
        str(plan.folder),
        batch_size=plan.slots,
        n_positions=list(plan.token_buckets),
        # The default is half of the positions, and a longer prompt would raise an AssertionError.
        context_length_estimate=list(plan.context_buckets),
        amp=plan.amp,
        tp_degree=plan.tp_degree,
        neuron_config=NeuronConfig(
            continuous_batching=ContinuousBatchingConfig(batch_size_for_shared_caches=plan.slots),
            group_query_attention=getattr(GQA, _ATTENTION),
        ),
    )


def to_cores(model: Any, plan: Plan, store: Store | None) -> None:
    """Put the model on its cores, with the artifacts of the store, or compile it, which takes long, and store the result."""
    found = store.fetch(key(plan)) if store else None
    if found:
        log.info("loads the compiled artifacts %s", key(plan))
        model.load(str(found))
    model.to_neuron()
    if store and not found:
        try_to_keep(store, key(plan), lambda folder: model.save(str(folder)))


def _count(named: str) -> int:
    """Return the number of cores in `0,1` or `0-3`; 0 for any other text."""
    try:
        ends = [[int(end) for end in part.split("-")] for part in named.split(",")]
    except ValueError:
        return 0
    return sum(part[-1] - part[0] + 1 for part in ends)

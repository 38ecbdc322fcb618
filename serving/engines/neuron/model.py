"""The model of transformers-neuronx: constructed, compiled or loaded, put on the cores. **Never run on a chip**: there was none.

Written to the source of the library's last public version and to Neuron SDK 2.25's notes. The library is imported when a
model is constructed: its import takes the cores that the process may see, and fails where the Neuron packages are not.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from serving.engines.checkpoint import identity
from serving.engines.neuron.artifacts import Store, key_of
from serving.engines.neuron.settings import Plan

VISIBLE_CORES = "NEURON_RT_VISIBLE_CORES"
_ATTENTION = "SHARD_OVER_HEADS"
"""Each core has whole key heads: exact for Mistral's eight on 1, 2, 4 or 8 cores."""
_COMPILED_BY = ("transformers-neuronx", "torch-neuronx", "neuronx-cc")

log = logging.getLogger(__name__)


class NoCores(RuntimeError):
    """The process may not use as many cores as the model is split over."""


def require_cores(tp_degree: int, env: Mapping[str, str]) -> None:
    """Ray, or whoever started this process, gave it as many cores as the model needs. To be asked before the import.

    Raises:
        NoCores: it did not. A process that names none would take every core of the node.
    """
    named = env.get(VISIBLE_CORES, "")
    if _count(named) != tp_degree:
        raise NoCores(
            f"{VISIBLE_CORES} is {named!r}, and the model is split over {tp_degree} cores; "
            'the replica must ask for them (ray_actor_options: {"resources": {"neuron_cores": …}})'
        )


def key(plan: Plan) -> str:
    """Of the compiled artifacts: of everything that they depend on.

    Raises:
        PackageNotFoundError: the Neuron packages are not installed.
    """
    about = asdict(plan) | {"folder": identity(plan.folder), "attention": _ATTENTION}
    return key_of(about | {package: version(package) for package in _COMPILED_BY})


def construct(plan: Plan) -> Any:
    """The MistralForSampling of the plan, with the weights in the host's memory; neither compiled nor on a core yet."""
    from transformers_neuronx import GQA, ContinuousBatchingConfig, MistralForSampling, NeuronConfig

    return MistralForSampling.from_pretrained(
        str(plan.folder),
        batch_size=plan.slots,
        n_positions=list(plan.token_buckets),
        # Not given it would be half of the positions, and a longer prompt an AssertionError.
        context_length_estimate=list(plan.context_buckets),
        amp=plan.amp,
        tp_degree=plan.tp_degree,
        neuron_config=NeuronConfig(
            continuous_batching=ContinuousBatchingConfig(batch_size_for_shared_caches=plan.slots),
            group_query_attention=getattr(GQA, _ATTENTION),
        ),
    )


def to_cores(model: Any, plan: Plan, store: Store | None) -> None:
    """The model is on its cores: by the artifacts of the store, or compiled now, which takes long, and kept there."""
    found = store.fetch(key(plan)) if store else None
    if found:
        model.load(str(found))
    model.to_neuron()
    if store and not found:
        try:
            keep(model, plan, store)
        except Exception:
            # The next start will compile again; this one need not, for it has.
            log.exception("what was compiled could not be kept")


def keep(model: Any, plan: Plan, store: Store) -> bool:
    """What was compiled is in the store; returns whether it was this call that put it there."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        return store.publish(key(plan), Path(folder))


def _count(named: str) -> int:
    """Cores in `0,1` or `0-3`; 0 for what is neither."""
    try:
        ends = [[int(end) for end in part.split("-")] for part in named.split(",")]
    except ValueError:
        return 0
    return sum(part[-1] - part[0] + 1 for part in ends)

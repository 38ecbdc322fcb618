"""Signatures of transformers-neuronx as recorded from its source (aws-neuron/transformers-neuronx @ 1ade6d7, version 0.13.x):
name → default, REQUIRED if there is none. Data only; the stand-in refuses other arguments, as the library does."""

from __future__ import annotations

from typing import Any

REQUIRED: Any = object()

MISTRAL: dict[str, Any] = {
    "n_positions": 2048,
    "batch_size": 1,
    "amp": "f32",
    "tp_degree": 2,
    "context_length_estimate": None,
    "context_unroll": None,
    "unroll": None,
    "neuron_config": None,
}
"""mistral/model.py, MistralForSampling.__init__; keyword only, after config. Only the stand-in refuses others."""

FORWARD: dict[str, Any] = {"input_ids": REQUIRED, "cache_ids": None, "start_ids": None}
"""Arguments of forward in mistral/model.py."""

NEURON_CONFIG: dict[str, Any] = {
    "sparse_attn": None,
    "quant": None,
    "kv_cache_quant": None,
    "continuous_batching": None,
    "attention_layout": "HSB",
    "collectives_layout": "HSB",
    "cache_layout": "SBH",
    "padding_side": "left",
    "group_query_attention": None,
    "sequence_parallel_norm": False,
    "on_device_embedding": False,
    "on_device_generation": None,
    "all_reduce_dtype": None,
    "cast_logits_dtype": "float32",
    "fuse_qkv": False,
    "qkv_tiling": False,
    "weight_tiling": False,
    "log_softmax_scores": False,
    "shard_over_sequence": False,
    "output_all_logits": False,
    "compilation_worker_count": None,
}
"""config.py, NeuronConfig.__init__; keyword only. Other arguments raise an AssertionError, and are refused here, too."""

CONTINUOUS_BATCHING: dict[str, Any] = {
    "max_num_seqs": None,
    "batch_size_for_shared_caches": None,
    "max_model_len": None,
    "optimized_paged_attention": False,
    "enable_chunked_prefill": False,
}
"""config.py, ContinuousBatchingConfig.__init__; others assert, and without one of the first two it is a KeyError."""

GQA = ("SHARD_OVER_HEADS", "SHARD_OVER_BATCH", "REPLICATED_HEADS", "ALL_GATHER_HEADS")
"""The constants in its constants.py."""

AMP = ("f32", "f16", "bf16")
"""Names of data types in dtypes.py."""


def bound(signature: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return all arguments of a call, defaults included.

    Raises:
        AssertionError: one is unknown or missing.
    """
    assert given.keys() <= signature.keys(), f"unexpected keyword arguments {sorted(given.keys() - signature.keys())}"
    found = {**signature, **given}
    assert REQUIRED not in found.values(), f"{[name for name, value in found.items() if value is REQUIRED]} missing"
    return found

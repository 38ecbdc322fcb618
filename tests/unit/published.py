"""Configurations of published Mistral models, and checkpoints of them without weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

V03: dict[str, Any] = {
    "model_type": "mistral",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": 32768,
    "eos_token_id": 2,
}
"""The configuration of Mistral-7B-Instruct-v0.3."""
V01 = V03 | {"sliding_window": 4096, "rope_theta": 10000.0, "vocab_size": 32000}
"""Configuration of v0.1, which has a sliding window."""


def write(folder: Path, config: dict[str, Any], header: bytes = b"{}", data: bytes = b"weights") -> Path:
    """Write a checkpoint with one file of weights."""
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    return folder

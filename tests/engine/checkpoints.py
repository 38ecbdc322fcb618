"""Small random Mistrals and Llamas on disk, written by transformers, for the tests that run inside the serving image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

VOCABULARY = 211
"""Size of the test vocabulary; not a multiple of a block size, so that the edges of matrices are computed, too."""


def write(folder: Path, max_shard_size: str = "1GB", dtype: torch.dtype = torch.float32, llama: bool = False, **changes: Any) -> Path:
    """Write a checkpoint with these changes of its configuration. The same changes give the same weights."""
    torch.manual_seed(7)
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "sliding_window": None,
        "eos_token_id": None,
        "initializer_range": 0.3,  # the default's answers hardly depend on the prompt
    }
    given = {**shape, **changes}
    net: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**given)) if llama else MistralForCausalLM(MistralConfig(**given))
    net.to(dtype).save_pretrained(folder, max_shard_size=max_shard_size)
    return folder


def reference(folder: Path) -> PreTrainedModel:
    """Load the checkpoint as a model of transformers, in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()


def prompt(length: int, seed: int = 0, vocabulary: int = VOCABULARY) -> list[int]:
    """Return this number of random tokens."""
    return torch.randint(vocabulary, (length,), generator=torch.Generator().manual_seed(1000 * length + seed)).tolist()

"""The cpu engine computes what transformers computes from the same checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import prompt, reference, write
from safetensors.torch import load_file, save_file

from serving.engines.checkpoint import BadCheckpoint
from serving.engines.contract import StepEngine
from serving.engines.cpu.engine import CpuEngine, build
from serving.settings import Settings

LONG_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
"""Wavelengths of this one are short, long and between."""

KINDS: dict[str, dict[str, Any]] = {
    "grouped heads": {},
    "one key head": {"num_key_value_heads": 1},
    "a key head each": {"num_key_value_heads": 6},
    "tied": {"tie_word_embeddings": True},
    "head size of its own": {"head_dim": 16},
    "another rotary base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "another epsilon": {"rms_norm_eps": 0.1},
    "a window that is never left": {"sliding_window": 40},
    "bfloat16": {"dtype": torch.bfloat16},
    "shards": {"max_shard_size": "40KB"},
    "Llama": {"llama": True},
    "Llama's long rotary embedding": {"llama": True, "rope_parameters": LONG_ROPE},
}


def greedy(engine: StepEngine, slot: int, ids: list[int], count: int) -> list[int]:
    """Return the likeliest tokens after a prompt."""
    tokens = [int(engine.prefill(slot, ids).argmax())]
    while len(tokens) < count:
        tokens.append(int(engine.decode([slot], tokens[-1:], [len(ids) + len(tokens) - 1])[0].argmax()))
    return tokens


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answers_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    folder = write(tmp_path, **KINDS[kind])
    engine, net = CpuEngine(folder, slots=3, positions=40), reference(folder)
    for length in (1, 2, 9, 20):
        ids = prompt(length)
        said = net.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False, pad_token_id=0)
        assert greedy(engine, 1, ids, 20) == said[0, length:].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    folder = write(tmp_path, **KINDS[kind])
    engine, ids = CpuEngine(folder, slots=2, positions=40), prompt(40)
    with torch.inference_mode():
        wanted = reference(folder)(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(engine.prefill(0, ids[:30]), wanted[29], rtol=1e-3, atol=1e-3)
    for position in range(30, 40):
        np.testing.assert_allclose(engine.decode([0], [ids[position]], [position])[0], wanted[position], rtol=1e-3, atol=1e-3)


def test_the_checkpoint_of_the_sharded_case_has_several_files(tmp_path: Path) -> None:
    assert len(list(write(tmp_path, **KINDS["shards"]).glob("*.safetensors"))) > 2


def test_the_limits_have_no_more_positions_than_the_model_was_made_for(tmp_path: Path) -> None:
    assert CpuEngine(write(tmp_path / "full"), slots=1, positions=1000).limits.positions == 128
    assert CpuEngine(write(tmp_path / "window", sliding_window=40), slots=1, positions=1000).limits.positions == 40


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    file = write(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file)
    with pytest.raises(BadCheckpoint, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        CpuEngine(tmp_path, slots=1, positions=10)


def test_an_engine_is_built_from_the_settings_and_uses_their_number_of_threads(checkpoint: Path) -> None:
    engine = build(Settings(model=checkpoint, slots=5, positions=33, threads=1))
    assert (engine.limits.slots, engine.limits.positions, torch.get_num_threads()) == (5, 33, 1)

"""A checkpoint's shape and identity are read without its weights, and unsuitable checkpoints are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from published import V01, V03, write

from serving.engines.checkpoint import BadCheckpoint, LongRope, Shape, ends, identity, weight_files


def test_the_shape_of_a_published_mistral_is_read(tmp_path: Path) -> None:
    assert Shape.read(write(tmp_path, V03)) == Shape(
        layers=32,
        hidden=4096,
        intermediate=14336,
        heads=32,
        kv_heads=8,
        head_dim=128,
        vocabulary=32768,
        positions=32768,
        epsilon=1e-05,
        theta=1000000.0,
        tied=False,
    )


def test_the_positions_never_exceed_a_sliding_window(tmp_path: Path) -> None:
    assert Shape.read(write(tmp_path, V01)).positions == 4096


@pytest.mark.parametrize(
    "rope", [{"rope_theta": 500.0}, {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "rope_theta": None}]
)
def test_the_rotary_base_is_read_from_both_formats_of_transformers(tmp_path: Path, rope: dict[str, Any]) -> None:
    assert Shape.read(write(tmp_path, V03 | rope)).theta == 500.0


def test_the_stretch_of_a_published_llama_is_read(tmp_path: Path) -> None:
    rope = {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    }
    read = Shape.read(write(tmp_path, V03 | {"model_type": "llama", "attention_bias": False, "rope_scaling": rope, "rope_theta": 500000.0}))
    assert (read.theta, read.long_rope) == (500000.0, LongRope(factor=32.0, low=1.0, high=4.0, first_positions=8192))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "qwen2"}, "model_type must be mistral or llama"),
        ({"attention_bias": True}, "attention_bias"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
        ({"rope_scaling": {"type": "yarn", "factor": 4}}, "yarn"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "longrope"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "does not say 'factor'"),
    ],
)
def test_a_part_that_the_engines_do_not_compute_is_refused_by_name(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    with pytest.raises(BadCheckpoint, match=named):
        Shape.read(write(tmp_path, V03 | change))


def test_a_missing_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="num_hidden_layers"):
        Shape.read(write(tmp_path, {key: value for key, value in V03.items() if key != "num_hidden_layers"}))


@pytest.mark.parametrize("read", [Shape.read, identity, ends])
def test_a_name_on_the_hub_is_not_a_checkpoint(read: Any) -> None:
    with pytest.raises(BadCheckpoint, match="download one first"):
        read(Path("mistralai/Mistral-7B-Instruct-v0.3"))


def test_all_shards_of_an_index_are_needed(tmp_path: Path) -> None:
    folder = write(tmp_path, V03)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    (folder / "one.safetensors").touch()
    with pytest.raises(BadCheckpoint, match=r"lacks two\.safetensors"):
        weight_files(folder)
    (folder / "two.safetensors").touch()
    assert [file.name for file in weight_files(folder)] == ["one.safetensors", "two.safetensors"]


def test_weights_in_another_format_are_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(BadCheckpoint, match=r"lacks model\.safetensors"):
        weight_files(tmp_path)


def test_end_tokens_come_from_the_generation_config_or_else_from_the_models(tmp_path: Path) -> None:
    folder = write(tmp_path, V03)
    assert ends(folder) == {2}
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 7]}')
    assert ends(folder) == {2, 7}
    (folder / "generation_config.json").write_text("{}")
    assert ends(folder) == {2}


def test_the_identity_differs_between_checkpoints_and_not_between_folders(tmp_path: Path) -> None:
    kinds = [(V03, b"{}", b"weights"), (V01, b"{}", b"weights"), (V03, b'{"a":1}', b"weights"), (V03, b"{}", b"more weights")]
    folders = [tmp_path / str(n) for n in range(5)]
    for folder, kind in zip(folders, [*kinds, kinds[0]], strict=True):
        folder.mkdir()
        write(folder, *kind)
    found = [identity(folder) for folder in folders]
    assert len(set(found)) == 4
    assert found[0] == found[4]

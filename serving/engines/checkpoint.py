"""A Mistral checkpoint on disk: its shape and its identity. Standard library only; no weight is read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class BadCheckpoint(ValueError):
    """The folder holds no checkpoint that the engines can compute; the message says why."""


@dataclass(frozen=True)
class Shape:
    """The sizes and constants of a model's architecture."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    """Number of key/value heads; heads / kv_heads query heads share one."""
    head_dim: int
    vocabulary: int
    positions: int
    """Tokens of the longest sequence that the model was made for."""
    epsilon: float
    """Constant in the root mean square norms."""
    theta: float
    """Base of the rotary embedding."""
    tied: bool
    """Whether the output matrix is the embedding."""

    @classmethod
    def read(cls, folder: Path) -> Shape:
        """Read the shape from config.json.

        Raises:
            BadCheckpoint: there is no such file, the model is not a Mistral, or has a part that the engines do not compute.
        """
        config = _config(folder)
        _refuse_foreign(config, folder)
        try:
            heads, hidden = config["num_attention_heads"], config["hidden_size"]
            return cls(
                layers=config["num_hidden_layers"],
                hidden=hidden,
                intermediate=config["intermediate_size"],
                heads=heads,
                kv_heads=config.get("num_key_value_heads") or heads,
                head_dim=config.get("head_dim") or hidden // heads,
                vocabulary=config["vocab_size"],
                positions=_positions(config),
                epsilon=config.get("rms_norm_eps", 1e-6),
                theta=_rope(config).get("rope_theta") or config.get("rope_theta") or 10000.0,
                tied=config.get("tie_word_embeddings", False),
            )
        except KeyError as missing:
            raise BadCheckpoint(f"{folder}/config.json does not say {missing}") from missing


def ends(folder: Path) -> frozenset[int]:
    """Read the tokens with which the model ends its answer.

    Raises:
        BadCheckpoint: there is no config.json.
    """
    said = _config(folder).get("eos_token_id", 2)
    generation = folder / "generation_config.json"
    if generation.exists():
        said = json.loads(generation.read_text()).get("eos_token_id", said)
    return frozenset([said] if isinstance(said, int) else said or [])


def identity(folder: Path) -> str:
    """Return a digest of the checkpoint's configuration and file layout; it does not depend on where the folder is.

    Only the header of each file is read (names, types and shapes of its tensors), not its gigabytes: enough for compiled graphs,
    which hold no weights.

    Raises:
        BadCheckpoint: there is no config.json, or no safetensors.
    """
    digest = hashlib.sha256(json.dumps(_config(folder), sort_keys=True).encode())
    for file in weight_files(folder):
        digest.update(f"{file.name} {file.stat().st_size} ".encode())
        with file.open("rb") as opened:
            digest.update(opened.read(int.from_bytes(opened.read(8), "little")))
    return digest.hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of the checkpoint, sorted; several if it is sharded.

    Raises:
        BadCheckpoint: there is none, or a file that the index names is missing.
    """
    index = folder / "model.safetensors.index.json"
    names = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else {"model.safetensors"}
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise BadCheckpoint(f"{folder} lacks {', '.join(missing)}")
    return sorted(folder / name for name in names)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except OSError as error:
        # A hub name lands here too: "mistralai/…" is a folder that does not exist.
        raise BadCheckpoint(f"{folder} is no folder with a checkpoint (config.json, safetensors); download one first") from error
    return config


def _refuse_foreign(config: dict[str, Any], folder: Path) -> None:
    """Refuse a model with a part that is not computed here: no answer is better than one computed without that part."""
    wanted = {"model_type": "mistral", "hidden_act": "silu", "quantization_config": None}
    for name, value in wanted.items():
        if config.get(name, value) != value:
            raise BadCheckpoint(f"{folder}/config.json: {name} must be {value}, not {config[name]!r}")
    kind = _rope(config).get("rope_type") or _rope(config).get("type") or "default"
    if kind != "default":
        raise BadCheckpoint(f"{folder}/config.json: rotary embeddings of type {kind!r} are not computed here")


def _positions(config: dict[str, Any]) -> int:
    """Return the longest sequence. Inside a sliding window, attention is full attention: such a model serves up to the window's length."""
    longest: int = config["max_position_embeddings"]
    return min(longest, config.get("sliding_window") or longest)


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """Return the rotary embedding's parameters: transformers 5 writes rope_parameters, 4 wrote rope_scaling and rope_theta."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}

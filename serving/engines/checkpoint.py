"""A checkpoint of Mistral's or Llama's architecture on disk: its shape and its identity. Standard library only; no weight is read.

Both are one architecture under two names: the same tensors, the same arithmetic.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class BadCheckpoint(ValueError):
    """The folder holds no checkpoint that the engines can compute; the message says why."""


@dataclass(frozen=True)
class LongRope:
    """How Llama 3 stretches the rotary embedding beyond the positions that the model was first trained with."""

    factor: float
    """Long wavelengths are multiplied by this."""
    low: float
    high: float
    """A wavelength is long if it fits less than `low` times into the first positions, short if more than `high` times."""
    first_positions: int
    """Tokens of the longest sequence before the stretch."""


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
    long_rope: LongRope | None = None
    """Stretch of the rotary embedding, if it has one."""
    architecture: str = "mistral"
    """The name of the architecture in config.json."""

    @classmethod
    def read(cls, folder: Path) -> Shape:
        """Read the shape from config.json.

        Raises:
            BadCheckpoint: there is no such file, the architecture is another one, or has a part that the engines do not compute.
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
                long_rope=_long_rope(_rope(config)),
                architecture=config.get("model_type", "mistral"),
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
    wanted: dict[str, tuple[Any, ...]] = {
        "model_type": ("mistral", "llama"),
        "hidden_act": ("silu",),
        "quantization_config": (None,),
        "attention_bias": (False, None),
        "mlp_bias": (False, None),
        "partial_rotary_factor": (1.0, None),
    }
    for name, values in wanted.items():
        if config.get(name, values[0]) not in values:
            raise BadCheckpoint(f"{folder}/config.json: {name} must be {' or '.join(map(str, values))}, not {config[name]!r}")
    if _rope_type(_rope(config)) not in ("default", "llama3"):
        raise BadCheckpoint(f"{folder}/config.json: rotary embeddings of type {_rope_type(_rope(config))!r} are not computed here")


def _rope_type(rope: dict[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "default")


def _long_rope(rope: dict[str, Any]) -> LongRope | None:
    if _rope_type(rope) != "llama3":
        return None
    return LongRope(rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"])


def _positions(config: dict[str, Any]) -> int:
    """Return the longest sequence. Inside a sliding window, attention is full attention: such a model serves up to the window's length."""
    longest: int = config["max_position_embeddings"]
    return min(longest, config.get("sliding_window") or longest)


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """Return the rotary embedding's parameters: transformers 5 writes rope_parameters, 4 wrote rope_scaling and rope_theta."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}

"""Mistral's weights for a CPU: float32, packed once by oneDNN into the layout that its kernels read.

Packed matrices are faster than BLAS, which packs at every call. And a row of a product has the same bits at every place in the batch. BLAS
does not guarantee that: its kernels for the edges of a matrix add in another order than those for the middle.
tests/engine/test_company.py shows both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from serving.engines.checkpoint import BadCheckpoint, Shape, weight_files

_pack = torch.ops.mkldnn._reorder_linear_weight
_product = torch.ops.mkldnn._linear_pointwise

Read = Callable[[str], Tensor]
"""Reads a tensor of the checkpoint by its name, in float32."""


class Matrix:
    """A packed weight matrix W: computes x Wᵀ, and fuses the operation on the product into it."""

    def __init__(self, weight: Tensor, rows: int) -> None:
        """Pack the weight [out, in]. It is fastest for `rows` rows of x, and right for any number."""
        self._packed = _pack(weight.contiguous(), rows)

    def __call__(self, x: Tensor) -> Tensor:
        """Return x Wᵀ, [rows, out], for x [rows, in]."""
        product: Tensor = _product(x, self._packed, None, "none", [], "")
        return product

    def swish(self, x: Tensor) -> Tensor:
        """Return p · sigmoid(p) for the product p, [rows, out]."""
        product: Tensor = _product(x, self._packed, None, "swish", [], "")
        return product

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the product multiplied by `other`, element by element; [rows, out]."""
        product: Tensor = _product.binary(x, other, self._packed, None, "mul")
        return product

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the product plus `other`; [rows, out]."""
        product: Tensor = _product.binary(x, other, self._packed, None, "add")
        return product


@dataclass(frozen=True)
class Layer:
    """One decoder layer. The weights of a norm are in the matrices that follow it."""

    qkv: Matrix
    """Queries, keys and values of all heads in one matrix."""
    out: Matrix
    gate: Matrix
    up: Matrix
    down: Matrix


@dataclass(frozen=True)
class Weights:
    """All weights of a model."""

    embedding: Tensor
    """The embedding, [vocabulary, hidden]."""
    layers: tuple[Layer, ...]
    head: Matrix
    """The output matrix, hidden → vocabulary, with the weights of the last norm."""


@torch.inference_mode()
def load(folder: Path, shape: Shape, rows: int) -> Weights:
    """Read a checkpoint, sharded or not; matrices are packed for this number of rows.

    Raises:
        BadCheckpoint: a tensor is missing, or the folder has no safetensors.
        RuntimeError: this build of torch has no oneDNN.
    """
    if not torch.backends.mkldnn.is_available():
        raise RuntimeError("the cpu engine needs a torch with oneDNN (torch.backends.mkldnn)")
    files = [safe_open(str(file), framework="pt") for file in weight_files(folder)]
    holders = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - it is not a mapping

    def read(name: str) -> Tensor:
        if name not in holders:
            raise BadCheckpoint(f"{folder} has no tensor {name}")
        tensor: Tensor = holders[name].get_tensor(name).to(torch.float32)
        return tensor

    embedding = read("model.embed_tokens.weight")
    return Weights(
        embedding=embedding,
        layers=tuple(_layer(read, f"model.layers.{n}", rows) for n in range(shape.layers)),
        head=Matrix(read("model.norm.weight") * (embedding if shape.tied else read("lm_head.weight")), rows),
    )


def _layer(read: Read, name: str, rows: int) -> Layer:
    def matrix(*parts: str, norm: Tensor | None = None) -> Matrix:
        weight = torch.cat([read(f"{name}.{part}_proj.weight") for part in parts])
        return Matrix(weight if norm is None else weight * norm, rows)

    norm, norm_mlp = read(f"{name}.input_layernorm.weight"), read(f"{name}.post_attention_layernorm.weight")
    return Layer(
        qkv=matrix("self_attn.q", "self_attn.k", "self_attn.v", norm=norm),
        out=matrix("self_attn.o"),
        gate=matrix("mlp.gate", norm=norm_mlp),
        up=matrix("mlp.up", norm=norm_mlp),
        down=matrix("mlp.down"),
    )

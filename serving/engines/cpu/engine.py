"""The step engine on a CPU: the forward pass of Mistral and Llama, written for decodes of many slots at once.

**An answer does not depend on the requests computed beside it.** Floats that are added in another order differ in their last bits, and a
greedy answer can then continue differently. So the result for a row depends, to the bit, only on that row's own history:

- matrices are multiplied with all slots at every decode, free ones included, by oneDNN's kernels (serving.engines.cpu.weights);
- attention is computed slot by slot, over exactly the positions that the slot holds, without padding to the longest one;
- a prefill computes its own prompt only.

This is also fast: most of the time goes into reading the weights, which costs the same for one row as for all; and a short history beside
a long one is not padded.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attention

from serving.engines.checkpoint import Shape
from serving.engines.checks import check_decode, check_prefill
from serving.engines.contract import Limits, Logits
from serving.engines.cpu import weights
from serving.engines.cpu.threads import allowed_cores
from serving.engines.cpu.weights import Layer
from serving.settings import Settings


def build(settings: Settings) -> CpuEngine:
    """Load the weights and return the engine. The same thread must call the engine afterwards: oneDNN keeps the number of threads that
    it may use for each calling thread.

    Raises:
        BadCheckpoint: the model's folder has no checkpoint that the engine can compute.
    """
    torch.set_num_threads(settings.threads or allowed_cores())
    _one_thread_for_openblas()
    return CpuEngine(settings.model, settings.slots, settings.positions)


def _one_thread_for_openblas() -> None:
    """Let OpenBLAS compute in the calling thread. Attention calls it from each of torch's threads; if each call starts more threads, a
    long prompt takes twice as long.

    The library is loaded already, perhaps by numpy, so its environment variables have no effect any more.
    """
    with suppress(OSError):  # torch was built with another library
        ctypes.CDLL("libopenblas.so.0", os.RTLD_NOLOAD | os.RTLD_NOW).openblas_set_num_threads(1)


class CpuEngine:
    """A step engine over a checkpoint folder of Mistral's or Llama's architecture, in float32."""

    def __init__(self, folder: Path, slots: int, positions: int) -> None:
        """Load the checkpoint. If the model was made for fewer positions, those are used: see `limits`.

        Raises:
            BadCheckpoint: the folder has no checkpoint that the engine can compute.
        """
        self._shape = shape = Shape.read(folder)
        positions = min(positions, shape.positions)
        self._limits = Limits(slots=slots, positions=positions, max_prompt=positions - 1, vocabulary=shape.vocabulary)
        self._weights = weights.load(folder, shape, rows=slots)
        self._cos, self._sin = _rotary(shape, positions)
        # Not initialised: only what was written is ever read, and pages that no sequence has reached take no memory.
        size = (shape.layers, slots, shape.kv_heads, positions, shape.head_dim)
        self._keys, self._values = torch.empty(size), torch.empty(size)

    @property
    def limits(self) -> Limits:
        """The limits of this engine."""
        return self._limits

    @torch.inference_mode()
    def prefill(self, slot: int, ids: Sequence[int]) -> Logits:
        """Compute a prompt; see StepEngine. Raises what `check_prefill` does."""
        check_prefill(self._limits, slot, ids)
        length = len(ids)
        cos, sin = self._cos[:length, None], self._sin[:length, None]
        x = self._weights.embedding[torch.tensor(ids)]
        for layer, all_keys, all_values in zip(self._weights.layers, self._keys, self._values, strict=True):
            queries, keys, values = (t.transpose(0, 1) for t in self._project(layer, x, cos, sin))
            all_keys[slot, :, :length], all_values[slot, :, :length] = keys, values
            x = self._finish(layer, x, _causal(queries, keys, values))
        return self._logits(x[-1:])[0]

    @torch.inference_mode()
    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Compute a token in each slot; see StepEngine. Free slots are computed too, and the results dropped. Raises what `check_decode`
        does."""
        check_decode(self._limits, slots, tokens, positions)
        live, places = torch.tensor(slots), torch.tensor(positions)
        at = torch.zeros(self._limits.slots, dtype=torch.int64)
        ids = at.index_put((live,), torch.tensor(tokens))
        at[live] = places
        cos, sin = self._cos[at, None], self._sin[at, None]
        x = self._weights.embedding[ids]
        for layer, all_keys, all_values in zip(self._weights.layers, self._keys, self._values, strict=True):
            queries, keys, values = self._project(layer, x, cos, sin)
            all_keys[live, :, places], all_values[live, :, places] = keys[live], values[live]
            x = self._finish(layer, x, _each(queries, all_keys, all_values, slots, positions))
        return self._logits(x)[list(slots)]

    def close(self) -> None:
        """Do nothing: the engine holds only memory."""

    def _project(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute queries, keys and values, [rows, their heads, head_dim] each, from x [rows, hidden]; queries and keys are rotated."""
        queries, keys = self._shape.heads, self._shape.kv_heads
        heads = layer.qkv(self._norm(x, layer.norm)).view(len(x), -1, self._shape.head_dim)
        rotated = heads[:, : queries + keys]
        one, two = rotated.chunk(2, dim=-1)
        rotated.copy_(torch.cat((one * cos - two * sin, two * cos + one * sin), dim=-1))
        return heads[:, :queries], heads[:, queries : queries + keys], heads[:, queries + keys :]

    def _finish(self, layer: Layer, x: Tensor, attended: Tensor) -> Tensor:
        """Compute the rest of the layer after attention; [rows, hidden]."""
        x = layer.out.plus(attended, x)
        h = self._norm(x, layer.norm_mlp)
        return layer.down.plus(layer.up.times(h, layer.gate.swish(h)), x)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self._shape.epsilon))

    def _logits(self, x: Tensor) -> Logits:
        logits: Logits = self._weights.head(self._norm(x, self._weights.norm)).numpy()
        return logits


def _each(queries: Tensor, keys: Tensor, values: Tensor, slots: Sequence[int], positions: Sequence[int]) -> Tensor:
    """Attend from each slot's queries to the positions that it holds; [slots, heads · head_dim], zeros for the other slots."""
    out = torch.zeros_like(queries)
    # The query heads that share a key head are in the dimension that usually has a sequence's positions.
    grouped, into = (t.unflatten(1, (keys.shape[1], -1)) for t in (queries, out))
    for slot, position in zip(slots, positions, strict=True):
        held = slice(slot, slot + 1), slice(None), slice(position + 1)
        into[slot] = attention(grouped[slot : slot + 1], keys[held], values[held])[0]
    return out.flatten(1)


def _causal(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend from every position to itself and those before. Inputs [their heads, positions, head_dim], result
    [positions, heads · head_dim]."""
    shared = queries.shape[0] // keys.shape[0]
    keys, values = keys.repeat_interleave(shared, dim=0), values.repeat_interleave(shared, dim=0)
    return attention(queries[None], keys[None], values[None], is_causal=True)[0].transpose(0, 1).flatten(1)


def _rotary(shape: Shape, positions: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of every position's angles, [positions, head_dim / 2] each."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    frequencies = 1.0 / shape.theta**exponents
    if long := shape.long_rope:
        turns = long.first_positions * frequencies / (2 * torch.pi)
        kept = ((turns - long.low) / (long.high - long.low)).clamp(0, 1)
        frequencies = frequencies * (kept + (1 - kept) / long.factor)
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies)
    return angles.cos(), angles.sin()

"""The step engine on a CPU: a Mistral's forward pass written for decodes of many slots at once.

**An answer does not depend on its company.** Floats added in another order differ in their last bits, and a greedy answer
then takes another way. So what is computed for a row depends on nothing but that row's own history, to the bit:

- matrices see all slots at every decode, free ones included, through oneDNN's kernels (serving.engines.cpu.weights);
- attention is computed slot by slot, over exactly the positions that the slot holds: no padding up to the longest one;
- a prefill sees its own prompt only.

Both are also the fast way: reading the weights takes the time, and costs the same for one row as for all; and a short
history beside a long one is not padded.
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
    """The engine that the settings ask for, with its weights loaded. The thread that calls this is the one to call the engine:
    oneDNN counts the threads it may use per thread that calls it.

    Raises:
        BadCheckpoint: the model's folder holds none that it can compute.
    """
    torch.set_num_threads(settings.threads or allowed_cores())
    _one_thread_for_openblas()
    return CpuEngine(settings.model, settings.slots, settings.positions)


def _one_thread_for_openblas() -> None:
    """Attention calls it from each of torch's threads; with threads of its own in each, a long prompt takes twice as long.

    By then it is loaded, maybe long ago by numpy, and does not look at its environment any more.
    """
    with suppress(OSError):  # torch was built with another library
        ctypes.CDLL("libopenblas.so.0", os.RTLD_NOLOAD | os.RTLD_NOW).openblas_set_num_threads(1)


class CpuEngine:
    """A step engine over a checkpoint folder of Mistral's architecture, in float32."""

    def __init__(self, folder: Path, slots: int, positions: int) -> None:
        """Positions are fewer than asked for when the model was made for fewer: see `limits`.

        Raises:
            BadCheckpoint: the folder holds none that it can compute.
        """
        self._shape = shape = Shape.read(folder)
        positions = min(positions, shape.positions)
        self._limits = Limits(slots=slots, positions=positions, max_prompt=positions - 1, vocabulary=shape.vocabulary)
        self._weights = weights.load(folder, shape, rows=slots)
        self._cos, self._sin = _rotary(shape, positions)
        # Left as it comes: only what was written is ever read, and pages that no sequence has reached take no memory.
        size = (shape.layers, slots, shape.kv_heads, positions, shape.head_dim)
        self._keys, self._values = torch.empty(size), torch.empty(size)

    @property
    def limits(self) -> Limits:
        """What it can take."""
        return self._limits

    @torch.inference_mode()
    def prefill(self, slot: int, ids: Sequence[int]) -> Logits:
        """See StepEngine. Raises what `check_prefill` does."""
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
        """See StepEngine. Free slots are computed like others and thrown away. Raises what `check_decode` does."""
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
        """There is nothing to give back but memory, which goes with the engine."""

    def _project(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [rows, hidden] → queries, keys and values, [rows, their heads, head_dim] each; the first two turned."""
        queries, keys = self._shape.heads, self._shape.kv_heads
        heads = layer.qkv(self._norm(x, layer.norm)).view(len(x), -1, self._shape.head_dim)
        turned = heads[:, : queries + keys]
        one, two = turned.chunk(2, dim=-1)
        turned.copy_(torch.cat((one * cos - two * sin, two * cos + one * sin), dim=-1))
        return heads[:, :queries], heads[:, queries : queries + keys], heads[:, queries + keys :]

    def _finish(self, layer: Layer, x: Tensor, attended: Tensor) -> Tensor:
        """The layer after attention; [rows, hidden]."""
        x = layer.out.plus(attended, x)
        h = self._norm(x, layer.norm_mlp)
        return layer.down.plus(layer.up.times(h, layer.gate.swish(h)), x)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self._shape.epsilon))

    def _logits(self, x: Tensor) -> Logits:
        logits: Logits = self._weights.head(self._norm(x, self._weights.norm)).numpy()
        return logits


def _each(queries: Tensor, keys: Tensor, values: Tensor, slots: Sequence[int], positions: Sequence[int]) -> Tensor:
    """Each slot's queries over what it holds up to its position; [slots, heads · head_dim], zeros for the others."""
    out = torch.zeros_like(queries)
    # The query heads that share a key head stand where a sequence's positions usually stand.
    grouped, into = (t.unflatten(1, (keys.shape[1], -1)) for t in (queries, out))
    for slot, position in zip(slots, positions, strict=True):
        held = slice(slot, slot + 1), slice(None), slice(position + 1)
        into[slot] = attention(grouped[slot : slot + 1], keys[held], values[held])[0]
    return out.flatten(1)


def _causal(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """[their heads, positions, head_dim] each: every position over itself and those before; [positions, heads · head_dim]."""
    shared = queries.shape[0] // keys.shape[0]
    keys, values = keys.repeat_interleave(shared, dim=0), values.repeat_interleave(shared, dim=0)
    return attention(queries[None], keys[None], values[None], is_causal=True)[0].transpose(0, 1).flatten(1)


def _rotary(shape: Shape, positions: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles, [positions, head_dim / 2] each."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), 1.0 / shape.theta**exponents)
    return angles.cos(), angles.sin()

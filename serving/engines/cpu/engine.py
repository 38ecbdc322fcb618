"""The step engine on a CPU: the forward pass of Mistral and Llama, written for decodes of many slots at once.

**An answer does not depend on the requests computed beside it.** Floats that are added in another order differ in their last bits, and a
greedy answer can then continue differently. So the result for a row depends, to the bit, only on that row's own history:

- matrices are multiplied at a few widths only, by oneDNN's kernels (serving.engines.cpu.weights), and only at those which were seen to
  give a row the same bits as all others when the engine was made (`_same_widths`);
- attention is computed over whole blocks of positions, as many as the slot's own history reaches into, whatever the others hold;
- a prefill computes its own prompt only.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import rms_norm
from torch.nn.functional import scaled_dot_product_attention as attention

from serving.engines.artifacts import Store, store_at
from serving.engines.checkpoint import Shape
from serving.engines.checks import check_decode, check_prefill
from serving.engines.contract import Limits, Logits
from serving.engines.cpu import rotary, weights
from serving.engines.cpu.threads import allowed_cores
from serving.engines.cpu.weights import Layer
from serving.settings import Settings

BLOCK = 64
"""Positions of a block: histories that end in the same one are attended to together."""


def build(settings: Settings) -> CpuEngine:
    """Load the weights and return the engine. The same thread must call the engine afterwards: oneDNN keeps the number of threads that
    it may use for each calling thread.

    Raises:
        BadCheckpoint: the model's folder has no checkpoint that the engine can compute.
    """
    torch.set_num_threads(settings.threads or allowed_cores())
    _one_thread_for_openblas()
    store = store_at(settings.artifacts) if settings.artifacts else None
    return CpuEngine(settings.model, settings.slots, settings.positions, store)


def _one_thread_for_openblas() -> None:
    """Let OpenBLAS compute in the calling thread. Attention calls it from each of torch's threads; if each call starts more threads, a
    long prompt takes twice as long.

    The library is loaded already, perhaps by numpy, so its environment variables have no effect any more.
    """
    with suppress(OSError):  # torch was built with another library
        ctypes.CDLL("libopenblas.so.0", os.RTLD_NOLOAD | os.RTLD_NOW).openblas_set_num_threads(1)


class CpuEngine:
    """A step engine over a checkpoint folder of Mistral's or Llama's architecture, in float32."""

    def __init__(self, folder: Path, slots: int, positions: int, store: Store | None = None) -> None:
        """Load the checkpoint, and what the store has for it. If the model was made for fewer positions, those are used: see `limits`.

        Raises:
            BadCheckpoint: the folder has no checkpoint that the engine can compute.
        """
        self._shape = shape = Shape.read(folder)
        positions = min(positions, shape.positions)
        self._limits = Limits(slots=slots, positions=positions, max_prompt=positions - 1, vocabulary=shape.vocabulary)
        self._weights = weights.load(folder, shape, rows=slots)
        self._cos, self._sin = rotary.tables(folder, shape, positions, store)
        # Keys and values, for the heads of both one after the other. Not initialised: a block is cleared when a sequence reaches it, and
        # those that none has reached take no memory.
        self._held = torch.empty(shape.layers, slots, 2 * shape.kv_heads, _blocks(positions), shape.head_dim)
        self._widths = [slots]
        self._widths = self._same_widths()

    @property
    def limits(self) -> Limits:
        """The limits of this engine."""
        return self._limits

    @torch.inference_mode()
    def prefill(self, slot: int, ids: Sequence[int]) -> Logits:
        """Compute a prompt; see StepEngine. Raises what `check_prefill` does."""
        check_prefill(self._limits, slot, ids)
        length, queries = len(ids), self._shape.heads
        cos, sin = self._cos[:length, None], self._sin[:length, None]
        self._held[:, slot, :, length : _blocks(length)] = 0
        x = self._weights.embedding[torch.tensor(ids)]
        for layer, held in zip(self._weights.layers, self._held, strict=True):
            heads = self._project(layer, x, cos, sin).transpose(0, 1)
            held[slot, :, :length] = heads[queries:]
            x = self._finish(layer, x, _causal(heads[:queries], *heads[queries:].chunk(2)))
        return self._logits(x[-1:])[0]

    @torch.inference_mode()
    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Compute a token in each slot; see StepEngine. Rows that fill up the width are computed too, and their results dropped. Raises
        what `check_decode` does."""
        check_decode(self._limits, slots, tokens, positions)
        rows, queries = len(slots), self._shape.heads
        filling = [0] * (next(width for width in self._widths if width >= rows) - rows)
        live, places, at = torch.tensor(slots), torch.tensor(positions), torch.tensor([*positions, *filling])
        cos, sin = self._cos[at, None], self._sin[at, None]
        runs = _runs(slots, positions)
        seen = torch.arange(_blocks(max(positions) + 1)) <= places[:, None]
        mask = torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)[:, None, None]
        for slot, position in zip(slots, positions, strict=True):
            if position % BLOCK == 0:
                self._held[:, slot, :, position : position + BLOCK] = 0
        x = self._weights.embedding[torch.tensor([*tokens, *filling])]
        for layer, held in zip(self._weights.layers, self._held, strict=True):
            heads = self._project(layer, x, cos, sin)
            held[live, :, places] = heads[:rows, queries:]
            x = self._finish(layer, x, _each(heads[:, :queries], held, runs, mask))
        return self._logits(x)[:rows]

    def close(self) -> None:
        """Do nothing: the engine holds only memory."""

    def _project(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Compute queries, keys and values, [rows, all heads, head_dim], from x [rows, hidden]; queries and keys are rotated."""
        heads = layer.qkv(self._norm(x)).view(len(x), -1, self._shape.head_dim)
        rotated = heads[:, : self._shape.heads + self._shape.kv_heads]
        one, two = rotated.chunk(2, dim=-1)
        crossed = torch.cat((two, one), dim=-1).mul_(sin)
        rotated.mul_(cos).add_(crossed)
        return heads

    def _finish(self, layer: Layer, x: Tensor, attended: Tensor) -> Tensor:
        """Compute the rest of the layer after attention; [rows, hidden]."""
        x = layer.out.plus(attended, x)
        h = self._norm(x)
        return layer.down.plus(layer.up.times(h, layer.gate.swish(h)), x)

    def _norm(self, x: Tensor) -> Tensor:
        """Scale each row; the norm's own weights are in the matrix that follows."""
        return rms_norm(x, x.shape[-1:], eps=self._shape.epsilon)

    def _logits(self, x: Tensor) -> Logits:
        logits: Logits = self._weights.head(self._norm(x)).numpy()
        return logits

    def _same_widths(self) -> list[int]:
        """Return the widths at which a decode gives each row the bits that it has at full width, ascending: the powers of two for which
        that is so, and the full width.

        A kernel adds in an order that depends on sizes, not on values: what holds for some random rows holds for all.
        """
        slots, vocabulary = self._limits.slots, self._limits.vocabulary
        tokens = torch.randint(vocabulary, (2, slots), generator=torch.Generator().manual_seed(1)).tolist()
        for slot, token in enumerate(tokens[0]):
            self.prefill(slot, [token])
        wanted, same = self.decode(range(slots), tokens[1], [1] * slots), [slots]
        for width in (2**n for n in reversed(range((slots - 1).bit_length()))):
            self._widths = [width]
            part = slice(slots - width, slots)
            if (self.decode(range(slots)[part], tokens[1][part], [1] * width) == wanted[part]).all():
                same = [width, *same]
        return same


def _blocks(positions: int) -> int:
    """Return the positions of the blocks that hold this many positions."""
    return -(-positions // BLOCK) * BLOCK


def _runs(slots: Sequence[int], positions: Sequence[int]) -> list[tuple[slice, slice, slice]]:
    """Return rows, slots and positions that are attended to in one call: those of neighbouring slots with as many blocks."""
    runs: list[tuple[slice, slice, slice]] = []
    for row, (slot, position) in enumerate(zip(slots, positions, strict=True)):
        reached = slice(_blocks(position + 1))
        if runs and (runs[-1][1].stop, runs[-1][2]) == (slot, reached):
            rows, before, _ = runs.pop()
            runs.append((slice(rows.start, row + 1), slice(before.start, slot + 1), reached))
        else:
            runs.append((slice(row, row + 1), slice(slot, slot + 1), reached))
    return runs


def _each(queries: Tensor, held: Tensor, runs: Sequence[tuple[slice, slice, slice]], mask: Tensor) -> Tensor:
    """Attend from each row's queries to the positions that its slot holds; [rows, heads · head_dim], zeros for rows without a slot."""
    out = torch.zeros(queries.shape)
    keys, values = held.chunk(2, dim=1)
    # The query heads that share a key head are in the dimension that usually has a sequence's positions.
    grouped, into = (t.unflatten(1, (keys.shape[1], -1)) for t in (queries, out))
    for rows, slots, reached in runs:
        into[rows] = attention(grouped[rows], keys[slots, :, reached], values[slots, :, reached], mask[rows, :, :, reached])
    return out.flatten(1)


def _causal(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend from every position to itself and those before. Inputs [their heads, positions, head_dim], result
    [positions, heads · head_dim]."""
    shared = queries.shape[0] // keys.shape[0]
    keys, values = keys.repeat_interleave(shared, dim=0), values.repeat_interleave(shared, dim=0)
    return attention(queries[None], keys[None], values[None], is_causal=True)[0].transpose(0, 1).flatten(1)

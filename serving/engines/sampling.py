"""How the next token is drawn from logits: on the host, one request at a time.

Every request has a generator of its own and spends one number of it on a token, so what it is answered never depends on
who is computed beside it.

Of all tokens, the likeliest first and the lower id first among equals, the first `top_k` stay; of these, as many as it
takes for `top_p` of their probability. Shares are of the distribution after the temperature.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serving.engines.contract import Logits, Sampling

Ids = NDArray[np.intp]
Weights = NDArray[np.float32]

GREEDY_BELOW = 1e-6
"""A temperature below this is 0: dividing by it says nothing that float32 can hold."""
FIRST_LOOK = 1024
"""As many of the likeliest tokens are sorted first; a trained model's share is nearly always among them."""
BLOCK = 256
"""Weights summed at a time."""


class NotFinite(ValueError):
    """The logits are no distribution: one is NaN or infinite, or all are -inf."""


class Sampler:
    """Draws the tokens of one request, in their order."""

    def __init__(self, sampling: Sampling) -> None:
        """A seed may be any whole number; None takes one from the operating system.

        Raises:
            ValueError: a parameter is out of its bounds.
        """
        if not (0 <= sampling.temperature < math.inf and 0 < sampling.top_p <= 1 and sampling.top_k >= 0):
            raise ValueError(f"out of bounds: {sampling}")
        self._sampling = sampling
        seed = None if sampling.seed is None else sampling.seed % 2**64
        self._random = np.random.Generator(np.random.PCG64(seed))

    def draw(self, logits: Logits) -> int:
        """The next token, from float32 [vocabulary].

        Raises:
            NotFinite: they are no distribution.
        """
        # A NaN is the largest of all to argmax: one look finds the likeliest token and whether there is one.
        likeliest = int(logits.argmax())
        if not math.isfinite(logits[likeliest]):
            raise NotFinite(f"the likeliest of {len(logits)} logits is {logits[likeliest]}")
        if self._sampling.temperature < GREEDY_BELOW:
            return likeliest
        ids, weights = candidates(logits, self._sampling)
        place = _place(weights, self._random.random() * weights.sum(dtype=np.float64), "right")
        return place if ids is None else int(ids[place])


def candidates(logits: Logits, sampling: Sampling) -> tuple[Ids | None, Weights]:
    """The tokens that may be drawn, lowest id first (None: all), and how likely each is; the likeliest has 1.

    The logits must be a distribution and the temperature more than 0.
    """
    ids = _largest(logits, sampling.top_k or len(logits))
    values = logits if ids is None else logits[ids]
    weights = _weights(values, sampling.temperature)
    if sampling.top_p < 1:
        stay = _largest(values, _nucleus(weights, sampling.top_p))
        if stay is not None:
            ids, weights = (stay if ids is None else ids[stay]), weights[stay]
    return ids, weights


def _weights(values: Logits, temperature: float) -> Weights:
    with np.errstate(over="ignore"):  # -inf is right: such a token is never drawn
        weights: Weights = values - values.max()
        weights /= np.float32(temperature)
    np.exp(weights, out=weights)
    return weights


def _largest(values: Logits, n: int) -> Ids | None:
    """Where the n largest are, in ascending order, and of equals the first; None when that is everywhere."""
    if n >= len(values):
        return None
    least = np.partition(values, len(values) - n)[len(values) - n]
    stay = values > least
    equal = np.flatnonzero(values == least)
    stay[equal[: n - np.count_nonzero(stay)]] = True
    return np.flatnonzero(stay)


def _nucleus(weights: Weights, share: float) -> int:
    """How many of the largest have the share together."""
    goal = share * weights.sum(dtype=np.float64)
    if len(weights) > FIRST_LOOK:
        largest = np.partition(weights, len(weights) - FIRST_LOOK)[len(weights) - FIRST_LOOK :]
        if largest.sum(dtype=np.float64) >= goal:
            weights = largest
    return _place(np.sort(weights)[::-1], goal, "left") + 1


def _place(weights: Weights, goal: float, side: Literal["left", "right"]) -> int:
    """The first place up to which the weights' sum reaches the goal ("left") or exceeds it ("right").

    Summed in blocks first: one running sum over a whole vocabulary takes longer than all the rest of a draw.
    """
    blocks = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), BLOCK), dtype=np.float64))
    block = _found(blocks, goal, side)
    before = blocks[block - 1] if block else 0.0
    inside = weights[block * BLOCK : (block + 1) * BLOCK]
    return block * BLOCK + _found(before + np.cumsum(inside, dtype=np.float64), goal, side)


def _found(sums: NDArray[np.float64], goal: float, side: Literal["left", "right"]) -> int:
    """As `searchsorted`, but a goal that lies behind all sums, for a rounding, is met where the last weight is not 0."""
    return int(min(np.searchsorted(sums, goal, side), np.searchsorted(sums, sums[-1])))

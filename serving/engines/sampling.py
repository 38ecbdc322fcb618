"""The next token is drawn from logits on the host, for one request at a time.

Every request has its own random generator and uses one number of it for each token, so its answer never depends on the requests that
are computed beside it.

Tokens are ordered by likelihood, the lower id first among equals. The first `top_k` stay; of these, as many as are needed for `top_p`
of their probability. Shares refer to the distribution after the temperature.
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
"""A temperature below this counts as 0: float32 cannot hold the logits divided by it."""
SORTED_FIRST = 1024
"""Number of the likeliest tokens that are sorted first; with a trained model, `top_p` of the probability is nearly always in them."""
BLOCK = 256
"""Number of weights that are summed at a time."""


class NotFinite(ValueError):
    """The logits are not a distribution: one is NaN or infinite, or all are -inf."""


class Sampler:
    """Draws the tokens of one request, in order."""

    def __init__(self, sampling: Sampling) -> None:
        """Create the generator. A seed may be any whole number; None takes one from the operating system.

        Raises:
            ValueError: a parameter is out of its bounds.
        """
        if not (0 <= sampling.temperature < math.inf and 0 < sampling.top_p <= 1 and sampling.top_k >= 0):
            raise ValueError(f"out of bounds: {sampling}")
        self._sampling = sampling
        seed = None if sampling.seed is None else sampling.seed % 2**64
        self._random = np.random.Generator(np.random.PCG64(seed))

    def draw(self, logits: Logits) -> int:
        """Draw the next token from its logits, float32 [vocabulary].

        Raises:
            NotFinite: the logits are not a distribution.
        """
        # argmax takes a NaN for the largest value: one pass finds the likeliest token and whether there is one.
        likeliest = int(logits.argmax())
        if not math.isfinite(logits[likeliest]):
            raise NotFinite(f"the likeliest of {len(logits)} logits is {logits[likeliest]}")
        if self._sampling.temperature < GREEDY_BELOW:
            return likeliest
        ids, weights = candidates(logits, self._sampling)
        place = _place(weights, self._random.random() * weights.sum(dtype=np.float64), "right")
        return place if ids is None else int(ids[place])


def candidates(logits: Logits, sampling: Sampling) -> tuple[Ids | None, Weights]:
    """Return the tokens that may be drawn, lowest id first (None: all), and their weights; the likeliest has weight 1.

    The logits must be a distribution, and the temperature greater than 0.
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
    """Return the indices of the n largest values, ascending, the first among equals; None when that is all of them."""
    if n >= len(values):
        return None
    least = np.partition(values, len(values) - n)[len(values) - n]
    stay = values > least
    equal = np.flatnonzero(values == least)
    stay[equal[: n - np.count_nonzero(stay)]] = True
    return np.flatnonzero(stay)


def _nucleus(weights: Weights, share: float) -> int:
    """Return how many of the largest weights together have the share of the sum."""
    goal = share * weights.sum(dtype=np.float64)
    if len(weights) > SORTED_FIRST:
        largest = np.partition(weights, len(weights) - SORTED_FIRST)[len(weights) - SORTED_FIRST :]
        if largest.sum(dtype=np.float64) >= goal:
            weights = largest
    return _place(np.sort(weights)[::-1], goal, "left") + 1


def _place(weights: Weights, goal: float, side: Literal["left", "right"]) -> int:
    """Return the first index up to which the sum of the weights reaches the goal ("left") or exceeds it ("right").

    Blocks are summed first: one running sum over a whole vocabulary takes longer than all the rest of a draw.
    """
    blocks = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), BLOCK), dtype=np.float64))
    block = _found(blocks, goal, side)
    before = blocks[block - 1] if block else 0.0
    inside = weights[block * BLOCK : (block + 1) * BLOCK]
    return block * BLOCK + _found(before + np.cumsum(inside, dtype=np.float64), goal, side)


def _found(sums: NDArray[np.float64], goal: float, side: Literal["left", "right"]) -> int:
    """Return what `searchsorted` does; a goal above all sums, due to rounding, is met at the last weight that is not 0."""
    return int(min(np.searchsorted(sums, goal, side), np.searchsorted(sums, sums[-1])))

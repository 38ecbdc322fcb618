"""The two levels of an engine, and what passes between them: frozen values and errors. Needs nothing but numpy.

    StepEngine     synchronous, one thread: prefill(slot, ids), decode(slots, tokens, positions); its limits are data
    TextEngine     asynchronous: generate(request) -> pieces; started, checked and stopped by its replica
    EngineClient   the part of a text engine that the API calls, in the same process or behind a Serve handle

Errors cross process borders, so each is made of one sentence and nothing else:

    EngineError
    ├── Unfit               the request can never be answered: its size is outside the limits
    ├── QueueFull           not now: all slots and all places in the queue are taken
    ├── NotReady            not now: the engine is starting, stopping or broken
    ├── DeadlineExceeded    the request's deadline passed, in the queue or in the middle of the answer
    └── GenerationFailed    the engine failed while it computed the answer
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.engines.callbacks import Stats

Logits = NDArray[np.float32]
"""Scores of the next token, float32: [vocabulary] from a prefill, [slots, vocabulary] from a decode."""

FinishReason = Literal["stop", "length"]
"""Why an answer ended. stop: the model ended it; length: it has the requested number of tokens, or no position is left."""


class EngineError(Exception):
    """The request has no answer, or an incomplete one."""


class Unfit(EngineError):
    """The request can never be answered: its size is outside the limits."""


class QueueFull(EngineError):
    """All slots and all places in the queue are taken."""


class NotReady(EngineError):
    """The engine is starting, stopping or broken."""


class DeadlineExceeded(EngineError):
    """The request's deadline passed."""


class GenerationFailed(EngineError):
    """The engine failed while it computed the answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes that a step engine can compute."""

    slots: int
    """Sequences that can be live at the same time; the width of a decode."""
    positions: int
    """Tokens that a slot can hold, prompt and answer together."""
    max_prompt: int
    """Tokens of the longest prompt that a prefill accepts; less than `positions`."""
    vocabulary: int
    """Number of different tokens; ids are 0 … vocabulary - 1."""
    min_prompt: int = 1
    """Tokens of the shortest prompt that a prefill accepts."""

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt that leaves room for an answer."""
        return min(self.max_prompt, self.positions - 1)


class StepEngine(Protocol):
    """Computes one step at a time. Only one thread calls it.

    A slot holds one sequence. A prefill makes it live; it is free once decodes no longer name it. There is no call to free a slot: a
    prefill into a used slot starts it from the beginning. Every decode names *all* live slots, because an engine may overwrite the
    contents of the others.
    """

    @property
    def limits(self) -> Limits:
        """The engine's limits; they never change."""

    def prefill(self, slot: int, ids: Sequence[int]) -> Logits:
        """Put these ids into the slot at positions 0 … len(ids) - 1, and return the logits of the next token, [vocabulary]."""

    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Put one token into each slot at its position, and return the logits of the next tokens, [len(slots), vocabulary], in the
        order of `slots`. A position is the number of tokens that the slot held before."""

    def close(self) -> None:
        """Release what the engine holds; it is not called afterwards."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn from logits."""

    temperature: float = 1.0
    """Divisor of the logits; 0: always the likeliest token."""
    top_p: float = 1.0
    """Draw only from the likeliest tokens that together have this share of the probability; 0 < top_p ≤ 1."""
    top_k: int = 0
    """Draw only from this many of the likeliest tokens; 0: from all."""
    seed: int | None = None
    """Seed of the request's random numbers. The same seed, request and model give the same answer, whatever else is computed beside it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request for an answer."""

    id: str
    prompt: tuple[int, ...]
    max_tokens: int
    """Tokens of the answer at most; at least 1."""
    sampling: Sampling = field(default_factory=Sampling)
    within_s: float = 600.0
    """Seconds from the request's arrival until the answer must be complete, time in the queue included."""
    whole: bool = False
    """Whether all tokens are delivered together at the end: to pass on each of them costs more than to compute it with a tiny model."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The next tokens of an answer. The last piece, and only it, has a finish reason."""

    tokens: tuple[int, ...]
    """Ids of the tokens, without the one that ends an answer. Empty in a last piece that has no token."""
    finish: FinishReason | None = None


class EngineClient(Protocol):
    """Answers requests, as many at once as the engine can."""

    async def ready(self) -> Limits:
        """Return the engine's limits once it can answer.

        Raises:
            NotReady: it cannot.
        """

    def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Yield the answer as it grows. Closing the iterator, or cancelling its reader, frees the slot within one step.

        Raises:
            EngineError: see the tree above; pieces that were yielded before it stand.
        """


class TextEngine(EngineClient, Protocol):
    """An engine that is started, checked and stopped by the replica that owns it (serving/replica.py), on its event loop.

    Once it was ready, NotReady from `generate` or `check` says that it is of no more use: the replica ends the process.
    """

    def start(self) -> None:
        """Begin to load the model and warm up, in the background; `ready` returns when that is done. Called once."""

    def check(self) -> None:
        """Return while the engine starts or works.

        Raises:
            NotReady: it is stopped, broken, or stuck in a step.
        """

    def stats(self) -> Stats:
        """Return how much work there is and was, for the metrics; all 0 before the start."""

    async def stop(self) -> None:
        """End all answers with NotReady, then the engine.

        Raises:
            NotReady: the engine does not end; its resources are free only when the process has ended.
        """

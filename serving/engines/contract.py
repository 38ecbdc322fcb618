"""The two levels of an engine, and what passes between them: frozen values and errors. Needs nothing but numpy.

    StepEngine     synchronous, one thread: prefill(slot, ids), decode(slots, tokens, positions); its limits are data
    TextEngine     asynchronous: generate(request) -> pieces; started, checked and stopped by its replica
    EngineClient   the part of a text engine that the API calls, in the same process or behind a Serve handle

Errors cross process borders, so each is made of one sentence and nothing else:

    EngineError
    ├── Unfit               the request can never be answered: its size is outside the limits
    ├── QueueFull           not now: as many wait as may wait
    ├── NotReady            not now: the engine is starting, stopping or broken
    ├── DeadlineExceeded    the request's own time is over, in the queue or in mid-answer
    └── GenerationFailed    the engine failed on the way
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.engines.callbacks import Stats

Logits = NDArray[np.float32]
"""float32; [vocabulary] of a prefill, [slots, vocabulary] of a decode."""

FinishReason = Literal["stop", "length"]
"""stop: the model ended its answer. length: as many tokens as asked for, or no position left."""


class EngineError(Exception):
    """Why there is no answer, or no whole one."""


class Unfit(EngineError):
    """The request can never be answered: its size is outside the limits."""


class QueueFull(EngineError):
    """As many requests wait as may wait."""


class NotReady(EngineError):
    """The engine is starting, stopping or broken."""


class DeadlineExceeded(EngineError):
    """The request's time is over."""


class GenerationFailed(EngineError):
    """The engine failed on the way."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step engine can take."""

    slots: int
    """Sequences that can be live at once; the width of a decode."""
    positions: int
    """Tokens that a slot holds, prompt and answer together."""
    max_prompt: int
    """Tokens of the longest prompt that a prefill takes; less than `positions`."""
    vocabulary: int
    """Tokens there are; ids are 0 … vocabulary - 1."""
    min_prompt: int = 1
    """Tokens of the shortest prompt that a prefill takes."""


class StepEngine(Protocol):
    """Computes one step at a time, called by one thread only.

    A slot holds one sequence. It becomes live by a prefill and is free when nobody decodes it any more: there is no call
    to free it, and a prefill into a slot that was used before is a new beginning. Every decode names *all* live slots: an
    engine may overwrite what the others hold.
    """

    @property
    def limits(self) -> Limits:
        """What it can take; never changes."""

    def prefill(self, slot: int, ids: Sequence[int]) -> Logits:
        """The slot holds these ids at positions 0 … len(ids) - 1; returns the logits of the next token, [vocabulary]."""

    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Each slot holds its token at its position; returns the logits of the next tokens, [len(slots), vocabulary], in the
        order of `slots`. A position is the number of tokens that the slot held before."""

    def close(self) -> None:
        """Nothing more is computed."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn from logits."""

    temperature: float = 1.0
    """0: the likeliest token, always."""
    top_p: float = 1.0
    """Of the likeliest tokens only so many as have this share of the probability together; 0 < top_p ≤ 1."""
    top_k: int = 0
    """Only so many of the likeliest tokens; 0: all."""
    seed: int | None = None
    """The same seed, request and model give the same answer, whatever else is computed beside it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One answer that is wanted."""

    id: str
    prompt: tuple[int, ...]
    max_tokens: int
    """Of the answer; at least 1."""
    sampling: Sampling = field(default_factory=Sampling)
    within_s: float = 600.0
    """Seconds from its arrival until it must be whole, time in the queue included."""
    whole: bool = False
    """Its tokens are wanted together once the last has come: handing on each of them costs more than a tiny model does."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The next tokens of an answer. The last piece, and only it, has a finish reason."""

    tokens: tuple[int, ...]
    """The token that ends an answer is not among them. Empty in a last piece that brings no token."""
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
    """An engine that is started, checked and stopped by the replica that owns it (serving/replica.py), on its event loop."""

    def start(self) -> None:
        """Begin to load the model and warm up, in the background; `ready` returns when that is done. Called once."""

    def check(self) -> None:
        """Return while the engine starts or works.

        Raises:
            NotReady: it is stopped, broken, or stuck in a step; the replica is then replaced.
        """

    def stats(self) -> Stats:
        """Return how much work there is and was, for the metrics; all 0 before the start."""

    async def stop(self) -> None:
        """End all answers with NotReady, then the engine.

        Raises:
            NotReady: the engine does not end; its resources are free only when the process has ended.
        """

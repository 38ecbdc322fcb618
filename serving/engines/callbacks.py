"""What a text engine tells about its work: times and counts, never tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["finished", "cancelled", "expired", "failed"]
"""How a request ended. expired: its own time was over."""


class Observer:
    """Told while it happens, in the thread that computes: it must be quick and must not raise. This one looks away."""

    def admitted(self, waited_s: float) -> None:
        """A request left the queue for a slot."""

    def first_token(self, after_s: float) -> None:
        """A request got its first token, so long after its arrival."""

    def next_tokens(self, gaps_s: Sequence[float]) -> None:
        """As many requests got one more token each, so long after the one before."""

    def ended(self, outcome: Outcome) -> None:
        """A request that was accepted ended."""


@dataclass(frozen=True, slots=True)
class Stats:
    """An engine at one moment. What counts up does so from its start; a step is one prefill or one decode."""

    queued: int = 0
    live: int = 0
    slots: int = 0
    tokens: int = 0
    finished: int = 0
    cancelled: int = 0
    expired: int = 0
    failed: int = 0
    steps: int = 0
    prefills: int = 0

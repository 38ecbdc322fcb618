"""What a text engine reports about its work: times and counts, never tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["finished", "cancelled", "expired", "failed"]
"""How a request ended; expired: its deadline passed."""


class EngineCallbacks:
    """Methods that an engine calls as things happen, in the thread that computes: they must be quick and must not raise. The base
    class is a no-op."""

    def admitted(self, waited_s: float) -> None:
        """A request left the queue for a slot, after this time in the queue."""

    def first_token(self, after_s: float) -> None:
        """A request got its first token, this long after its arrival."""

    def next_tokens(self, gaps_s: Sequence[float]) -> None:
        """Requests got one more token each; one gap for each request: seconds since its token before."""

    def ended(self, outcome: Outcome) -> None:
        """A request that was accepted ended."""


@dataclass(frozen=True, slots=True)
class Stats:
    """An engine at one moment. Counters run from its start; a step is one prefill or one decode."""

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

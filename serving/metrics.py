"""A replica's metrics in Ray.

    leeward_queued, leeward_live, leeward_slots     requests that wait, requests that are computed, and room for them
    leeward_tokens                                  tokens generated
    leeward_requests{outcome=…}                     requests that ended, by outcome
    leeward_queue_wait_s, leeward_first_token_s     from arrival to a slot, and to the first token
    leeward_token_gap_s                             between two tokens of a stream; one observation a decode, its largest

Every node exports them for Prometheus, with the replica's name.
"""

from __future__ import annotations

from collections.abc import Sequence

from ray.serve.metrics import Counter, Gauge, Histogram

from serving.engines.callbacks import EngineCallbacks, Outcome, Stats

WAITS_S = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100]
GAPS_S = [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10]


class Metrics(EngineCallbacks):
    """Callbacks of an engine that feed Ray's metrics. They run in the thread that computes, so each call records one or two numbers."""

    def __init__(self) -> None:
        self._queued = Gauge("leeward_queued", description="requests that wait for a slot")
        self._live = Gauge("leeward_live", description="requests that hold a slot")
        self._slots = Gauge("leeward_slots", description="requests that can hold a slot")
        self._tokens = Counter("leeward_tokens", description="tokens generated")
        self._requests = Counter("leeward_requests", description="requests that ended", tag_keys=("outcome",))
        self._wait = Histogram("leeward_queue_wait_s", description="seconds from arrival to a slot", boundaries=WAITS_S)
        self._first = Histogram("leeward_first_token_s", description="seconds from arrival to the first token", boundaries=WAITS_S)
        self._gap = Histogram("leeward_token_gap_s", description="seconds between two tokens of a stream", boundaries=GAPS_S)

    def admitted(self, waited_s: float) -> None:
        """A request left the queue for a slot."""
        self._wait.observe(waited_s)

    def first_token(self, after_s: float) -> None:
        """A request got its first token, this long after its arrival."""
        self._first.observe(after_s)
        self._tokens.inc()

    def next_tokens(self, gaps_s: Sequence[float]) -> None:
        """Requests got one more token each."""
        self._gap.observe(max(gaps_s))
        self._tokens.inc(len(gaps_s))

    def ended(self, outcome: Outcome) -> None:
        """A request that was accepted ended."""
        self._requests.inc(tags={"outcome": outcome})

    def record(self, stats: Stats) -> None:
        """Set the gauges, which no callback covers: how many requests wait and are live now."""
        self._queued.set(stats.queued)
        self._live.set(stats.live)
        self._slots.set(stats.slots)

"""Which engine answers: the one on the same node, unless another has clearly less to do."""

from __future__ import annotations

import asyncio
from typing import Any

from ray.serve.request_router import FIFOMixin, LocalityMixin, PendingRequest, RequestRouter, RunningReplica

SPILL = 4
"""Requests by which the nearest engine may be ahead of the idlest before one goes there. Less, and streams cross nodes for
nothing; more, and a busy engine queues beside a free one."""


class Nearest(FIFOMixin, LocalityMixin, RequestRouter):
    """Requests in the order of their arrival; each to the least loaded engine, with a preference for this node's.

    A stream that crosses nodes is lost with either of them, so one that can be answered where it came in is. Loads are those
    that this router knows: engines tell them with every answer, and one that is not known is taken for idle and asked.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Ranks for Serve to try one after the other; within a rank it takes the least loaded, and it passes by full ones."""
        # Serve routes all that wait in one go. Those before this one are sent now, and count: else a burst goes to one engine.
        await asyncio.sleep(0)
        near, zone, far = self.rank_replicas_via_locality(candidate_replicas)
        others = [*zone, *far]
        if near and min(map(self._load, near)) <= min(map(self._load, others), default=0) + SPILL:
            return [near, others]
        return [others, near]

    def _load(self, replica: Any) -> int:
        known: int | None = self.replica_queue_len_cache.get(replica.replica_id)
        return known or 0

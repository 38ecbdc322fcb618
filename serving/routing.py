"""How Serve chooses the engine for a request: the one on the same node, unless another has clearly less load."""

from __future__ import annotations

import asyncio
from typing import Any

from ray.serve.request_router import FIFOMixin, LocalityMixin, PendingRequest, RequestRouter, RunningReplica

SPILL = 4
"""Requests that the nearest engine may have more than the least loaded one before a request goes there. With a smaller number streams
cross nodes needlessly; with a larger one a busy engine queues requests beside a free one."""


class Nearest(FIFOMixin, LocalityMixin, RequestRouter):
    """Routes requests in the order of arrival, each to the least loaded engine, with a preference for the engine on this node.

    A stream that crosses nodes is lost with either node, so a request is answered where it came in if possible. The loads are those that
    this router knows: engines report theirs with every answer; an unknown load counts as 0, and the engine is then asked.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return ranks that Serve tries one after the other; within a rank it takes the least loaded replica, and skips full ones."""
        # Serve routes all waiting requests in one go. Let those before this one be sent first, so that they count in the load: otherwise a
        # burst goes to one engine.
        await asyncio.sleep(0)
        near, zone, far = self.rank_replicas_via_locality(candidate_replicas)
        others = [*zone, *far]
        if near and min(map(self._load, near)) <= min(map(self._load, others), default=0) + SPILL:
            return [near, others]
        return [others, near]

    def _load(self, replica: Any) -> int:
        known: int | None = self.replica_queue_len_cache.get(replica.replica_id)
        return known or 0

"""The way into a cluster that may be half made or half destroyed: what takes things away must not be stopped by that."""

from __future__ import annotations

from collections.abc import Callable

from blocks.cluster import ClusterNotActive, NoCluster
from blocks.errors import Permanent, TimedOut
from tasks.kubernetes.api import Api, Unavailable
from tasks.support.site import Site, forget_connections
from tasks.support.waiting import Pending, Until

LET_IN_WITHIN_S = 30.0
"""A new access entry takes a moment to be known everywhere."""
UNRESPONSIVE_FOR_S = 300.0
"""An API server that is only being updated or moved answers again before. Who takes things away can do without it after that."""
LOOK_EVERY_S = 3.0
ANYTHING = "/api/v1/namespaces/kube-system"
"""What every administrator may read."""
ADVICE = "is this machine's address in public_access_cidrs of the infrastructure?"


class NoAccess(Permanent):
    """There is no cluster to ask, or none that lets us in."""


class Unresponsive(NoAccess):
    """There is a cluster, and nobody answered for minutes."""


def connect(
    site: Site,
    on_pending: Callable[[Pending], None] = lambda seen: None,
    within_s: float = LET_IN_WITHIN_S,
    unresponsive_for_s: float | None = None,
) -> Api:
    """The API of the site's cluster.

    Terraform makes our right to connect after the cluster and takes it away before, so a run that died between the two leaves a cluster
    that is ACTIVE and refuses us. In a cluster that Terraform does not make, a refusal says nothing like that, and is none of ours here.

    Args:
        unresponsive_for_s: How long an answer of a cluster that Terraform made is waited for, before it counts as Unresponsive. None: it never does.

    Raises:
        NoAccess: there is no cluster, it is not ACTIVE, or Terraform made it and it does not let us in.
        Unresponsive: Terraform made it, and it did not answer for so long.
        Unavailable: it does not answer.
    """
    forget_connections()
    try:
        api = site.api()
    except (NoCluster, ClusterNotActive) as error:
        raise NoAccess(str(error)) from error
    if not site.block.provisioned:
        return api
    if unresponsive_for_s is not None:
        try:
            Until("the cluster to answer", lambda: api.raw("GET", ANYTHING), unresponsive_for_s, LOOK_EVERY_S, on_pending).wait()
        except TimedOut as error:
            raise Unresponsive(f"{site.cluster}: {error}; {ADVICE}") from error
    try:
        Until("the cluster to let us in", lambda: _refusal(api) or True, within_s, LOOK_EVERY_S, on_pending).wait()
    except TimedOut as error:
        try:
            refusal = _refusal(api)
        except Unavailable as silence:
            raise Unavailable(f"{silence}; {ADVICE}") from silence
        if refusal:
            raise NoAccess(f"{site.cluster} does not let us in, as one that is half made or half destroyed: {refusal.seen}") from error
    return api


def _refusal(api: Api) -> Pending | None:
    status, _ = api.raw("GET", ANYTHING)
    return Pending(f"GET {ANYTHING}: HTTP {status}") if status in (401, 403) else None

"""Access to a cluster that may be half created or half destroyed. Removal must go on in spite of that."""

from __future__ import annotations

from collections.abc import Callable

from blocks.cluster import ClusterNotActive, NoCluster
from blocks.errors import Permanent, TimedOut
from drills.kubernetes.api import Api, Unavailable
from drills.runner.waiting import Pending, Until
from tasks.support.site import Site, forget_connections

ACCEPTED_WITHIN_S = 30.0
"""Seconds. A new access entry takes a moment to take effect."""
UNRESPONSIVE_FOR_S = 300.0
"""Seconds without an answer after which removal goes on without the API server. One that is only being updated answers again before."""
LOOK_EVERY_S = 3.0
PROBED_PATH = "/api/v1/namespaces/kube-system"
"""An object that every administrator may read."""
ADVICE = "is this machine's address in public_access_cidrs of the infrastructure?"


class NoAccess(Permanent):
    """There is no cluster, or it refuses the pipeline's credentials."""


class Unresponsive(NoAccess):
    """The cluster exists, and its API server did not answer for minutes."""


def connect(
    site: Site,
    on_pending: Callable[[Pending], None] = lambda pending: None,
    within_s: float = ACCEPTED_WITHIN_S,
    unresponsive_for_s: float | None = None,
) -> Api:
    """Return the API of the site's cluster, once it can be used.

    Terraform creates the access entry after the cluster and deletes it before the cluster. So a run that died in between leaves a
    cluster that is ACTIVE and refuses the pipeline. In a cluster that Terraform did not create, refusals are not checked here.

    Args:
        unresponsive_for_s: Seconds to wait for an answer of a cluster that Terraform created before Unresponsive is raised. None:
            it is never raised.

    Raises:
        NoAccess: there is no cluster, it is not ACTIVE, or Terraform created it and it refuses the pipeline.
        Unresponsive: Terraform created it, and it did not answer for `unresponsive_for_s` seconds.
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
            Until("the cluster to answer", lambda: api.raw("GET", PROBED_PATH), unresponsive_for_s, LOOK_EVERY_S, on_pending).wait()
        except TimedOut as error:
            raise Unresponsive(f"{site.cluster}: {error}; {ADVICE}") from error
    try:
        Until("the cluster to accept the pipeline", lambda: _refusal(api) or True, within_s, LOOK_EVERY_S, on_pending).wait()
    except TimedOut as error:
        try:
            refusal = _refusal(api)
        except Unavailable as no_answer:
            raise Unavailable(f"{no_answer}; {ADVICE}") from no_answer
        if refusal:
            raise NoAccess(f"{site.cluster} refuses the pipeline, as if it were half created or half destroyed: {refusal.seen}") from error
    return api


def _refusal(api: Api) -> Pending | None:
    status, _ = api.raw("GET", PROBED_PATH)
    return Pending(f"GET {PROBED_PATH}: HTTP {status}") if status in (401, 403) else None

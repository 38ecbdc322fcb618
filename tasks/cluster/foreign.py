"""What others put into the cluster and AWS made for it: load balancers and volumes. It must go before the cluster and its network."""

from __future__ import annotations

from collections.abc import Iterator

from botocore.exceptions import BotoCoreError, ClientError
from prefect import get_run_logger

from blocks.errors import PipelineError, TimedOut
from drills.kubernetes.api import Api
from drills.runner.waiting import Pending, Until
from tasks.aws import balancers
from tasks.cluster.access import NoAccess, connect
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step

GONE_WITHIN_S = 300.0
"""Seconds. The controller that made a load balancer deletes it, and only then lets its object go."""
ANSWERS_WITHIN_S = 30.0
"""Seconds. The removal of the service has waited for minutes already for a cluster that does not answer."""
_KINDS = {
    "service": ("/api/v1/services", "/api/v1/namespaces/{}/services/{}"),
    "ingress": ("/apis/networking.k8s.io/v1/ingresses", "/apis/networking.k8s.io/v1/namespaces/{}/ingresses/{}"),
    "gateway": ("/apis/gateway.networking.k8s.io/v1/gateways", "/apis/gateway.networking.k8s.io/v1/namespaces/{}/gateways/{}"),
    "volume claim": ("/api/v1/persistentvolumeclaims", "/api/v1/namespaces/{}/persistentvolumeclaims/{}"),
}


def held(api: Api) -> Iterator[tuple[str, str]]:
    """Description and path of every object in the cluster for which AWS may hold something."""
    for kind, (collection, path) in _KINDS.items():
        for obj in api.items(collection):
            if kind != "service" or obj.get("spec", {}).get("type") == "LoadBalancer":
                namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
                yield f"{kind} {namespace}/{name}", path.format(namespace, name)


def remove_objects(api: Api, progress: Progress) -> list[str]:
    """Delete those objects, and wait until their controllers have let them go; returns what was deleted.

    Raises:
        TimedOut: some are still there.
    """
    found = list(held(api))
    for _, path in found:
        api.delete(path)

    def probe() -> bool | Pending:
        left = [what for what, _ in held(api)]
        return Pending(f"still there: {', '.join(left)}") if left else True

    Until("load balancers and volumes to go", probe, GONE_WITHIN_S, 2.0, progress.show_pending).wait()
    return [what for what, _ in found]


@step("remove what AWS holds", deadline_s=900)
def remove_held(site: Site, remove_foreign: bool = False) -> list[str]:
    """Remove load balancers, gateways and volumes of the cluster, and name the load balancers of others in its network.

    Nothing here fails a clean-up: what stays is named again by the audit.

    Args:
        remove_foreign: Whether to remove also the load balancers of others in the stack's network.
    """
    progress, log, done = Progress("remove-held"), get_run_logger(), []
    try:
        done = remove_objects(connect(site, progress.show_pending, unresponsive_for_s=ANSWERS_WITHIN_S), progress)
    except NoAccess as error:
        log.info("no cluster to ask: %s", error)
    except TimedOut as error:
        log.warning("going on, because the cluster is destroyed next: %s", error)
    except PipelineError as error:
        log.warning("the cluster does not say what AWS holds for it: %s", error)
    try:
        found = balancers.of_stack(site.block.session(), site.infrastructure.name)
    except (ClientError, BotoCoreError) as error:
        log.warning("load balancers could not be asked for: %s", error)
        found = []
    for balancer in found:
        if balancer.own or remove_foreign:
            balancers.remove(site.block.session(), balancer)
            done.append(str(balancer))
        else:
            log.warning("%s is in this stack's network and not the cluster's: it keeps the network from being destroyed", balancer)
    progress.show(100, f"removed: {', '.join(done) or 'nothing'}")
    return done

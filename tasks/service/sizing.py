"""A service that runs already is brought to the number of workers that its parameters say."""

from __future__ import annotations

from prefect import get_run_logger

from blocks.parameters import Service
from tasks.kubernetes.api import Api
from tasks.service import worker_group
from tasks.service.rayservice import NotServing
from tasks.service.worker_group import NotAsDeployed
from tasks.support.site import Site
from tasks.support.step import step


def fit(api: Api, service: Service) -> bool:
    """The running Ray cluster has as many workers as the service shall have; returns whether that had to be told.

    Nothing is done for a cluster that is only being made, or changes over to another one: KubeRay makes those as they are applied.
    """
    try:
        fleet = worker_group.read(api, service)
    except (NotServing, NotAsDeployed):
        return False
    wanted = fleet.as_deployed(service)
    worker_group.resize(api, service, fleet, wanted)
    return wanted != fleet.size


@step("size service", deadline_s=60)
def size_service(site: Site, service: Service) -> None:
    """The service has the workers of its parameters, or is getting them."""
    if fit(site.api(), service):
        get_run_logger().info("the running service is brought to %d workers, at most %d", service.workers, service.most_workers)

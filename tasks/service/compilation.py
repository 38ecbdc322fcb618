"""Compiles the model in a Job before the workers start, so that none of them does, and keeps the result in the stack's bucket."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable

from prefect import get_run_logger

from blocks.errors import Permanent
from blocks.parameters import Service
from drills.kubernetes import manifests, ownership, pod_problems
from drills.kubernetes.api import Api, Object, conditions
from drills.runner.waiting import Pending, Until
from tasks.aws import pod_identity
from tasks.images.publish import ImageRefs
from tasks.service.engines import checkpoint, ready_within_s
from tasks.service.rayservice import place_of_artifacts, render
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step

COMPONENT = "leeward.dev/component=compile"
ROLE_KNOWN_AFTER_S = 20.0
"""Seconds until EKS gives a new role to every pod of its service account; AWS documents some seconds. A pod that starts earlier never gets
it."""
_OF_A_SERVER = ("ports", "readinessProbe", "livenessProbe", "lifecycle")


class CompilationFailed(Permanent):
    """The Job that compiles the model failed."""


def job(service: Service, ray_service: Object, within_s: float) -> Object:
    """The Job: a worker's pod with another command."""
    (group,) = ray_service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    pod = copy.deepcopy(group["template"]["spec"])
    (container,) = pod["containers"]
    for key in _OF_A_SERVER:
        container.pop(key, None)
    container |= {"command": ["python3", "-m", "serving.engines.compilation"], "terminationMessagePolicy": "FallbackToLogsOnError"}
    # Those keep workers apart, by their label.
    for key in ("affinity", "topologySpreadConstraints", "terminationGracePeriodSeconds"):
        pod.pop(key, None)
    pod["restartPolicy"] = "Never"
    digest = hashlib.sha256(json.dumps(pod, sort_keys=True).encode()).hexdigest()[:10]
    values = {"namespace": service.namespace, "service": service.subject.key, "job_name": f"compile-{digest}", "pod": pod}
    (found,) = manifests.load("compile-job", {**values, "within_s": int(within_s)})
    return found


def probe(api: Api, namespace: str, name: str) -> bool | Pending:
    """Whether the Job is complete.

    Raises:
        CompilationFailed: it failed; the message has its last words.
    """
    status = api.get(f"{_jobs(namespace)}/{name}").get("status", {})
    held = {each["type"]: each for each in status.get("conditions") or () if each["status"] == "True"}
    if "Complete" in held:
        return True
    pods = api.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"batch.kubernetes.io/job-name={name}")
    troubles = "; ".join(pod_problems.troubles(pods))
    if "Failed" in held:
        raise CompilationFailed(f"the model could not be compiled: {held['Failed'].get('message', '')} {troubles}".strip())
    return Pending(troubles or "compiles", 50)


def run(api: Api, service: Service, wanted: Object, within_s: float, on_pending: Callable[[Pending], None]) -> None:
    """Run the Job unless it is complete, in place of those of earlier parameters and of one that failed in an earlier run.

    Raises:
        CompilationFailed: it failed.
        TimedOut: it is not complete in time.
    """
    name = wanted["metadata"]["name"]
    found = api.find(f"{_jobs(service.namespace)}/{name}")
    failed = conditions(found).get("Failed", False)
    remove(api, service, but="" if failed else name)
    if found is None or failed:
        api.apply(wanted)
    Until(f"job {name}", lambda: probe(api, service.namespace, name), within_s, 2.0, on_pending).wait()


def remove(api: Api, service: Service, but: str = "") -> None:
    """Remove the service's Jobs and their pods."""
    for found in api.items(_jobs(service.namespace), labelSelector=COMPONENT):
        if ownership.belongs(found, service.subject) and found["metadata"]["name"] != but:
            api.delete(f"{_jobs(service.namespace)}/{found['metadata']['name']}", grace_s=0)


def _jobs(namespace: str) -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


@step("give workers their role", deadline_s=120)
def give_role(site: Site, service: Service) -> bool:
    """Give the workers of a service that uses S3 their role, on a cluster that Terraform creates; returns whether they use it."""
    fetched = checkpoint(site.block.engine_of(service), service.model, service.revision)
    used = site.block.provisioned and bool(place_of_artifacts(site, service) or (fetched and fetched.bucket))
    if used and pod_identity.associate(site.block, site.infrastructure.name, service.namespace):
        get_run_logger().info("the workers of %s have a role of their own; it is known everywhere in a moment", service.namespace)
        time.sleep(ROLE_KNOWN_AFTER_S)
    return used


@step("compile ahead", deadline_s=7300)
def compile_ahead(site: Site, service: Service, images: ImageRefs) -> str:
    """Compile the model, if that is wanted and was not done yet; returns the name of the Job. Empty: there is none."""
    place, engine = place_of_artifacts(site, service), site.block.engine_of(service)
    if not place:
        return ""
    api, progress, within_s = site.api(), Progress("compile-ahead"), ready_within_s(service, engine)
    objects = render(service, engine, images, None, site.block.hf_token, place)
    wanted = job(service, next(obj for obj in objects if obj["kind"] == "RayService"), within_s)
    ownership.ensure_namespace(api, service.namespace)
    api.apply_all(obj for obj in objects if obj["kind"] in ("ServiceAccount", "Secret"))
    run(api, service, wanted, within_s, progress.show_pending)
    progress.show(100, f"{place} has what the engine {engine} compiles")
    return str(wanted["metadata"]["name"])

"""The chat in front of the service, in its own namespace, on port 7860."""

from __future__ import annotations

from prefect import get_run_logger

from blocks.parameters import Service
from drills.kubernetes import manifests, ownership, pod_problems
from drills.kubernetes.api import Api
from drills.runner import api_key
from drills.runner.waiting import Pending, Until
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step

NAMESPACE = "chat"
PORT = 7860
AVAILABLE_WITHIN_S = 600.0
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/chat"


def probe(api: Api) -> bool | Pending:
    """Whether the chat answers with its page."""
    slices = api.items(f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices", labelSelector="kubernetes.io/service-name=chat")
    if not any(e.get("conditions", {}).get("ready") for s in slices for e in s.get("endpoints") or ()):
        return Pending("; ".join(pod_problems.troubles(api.items(f"/api/v1/namespaces/{NAMESPACE}/pods"))) or "its pod is starting", 30)
    api.proxy("GET", NAMESPACE, "services", "chat", PORT, "/")
    return True


def remove(api: Api, service: Service) -> bool:
    """Remove the service's chat and its copy of the API key; returns whether there was one. Another service's chat stays."""
    found = api.find(DEPLOYMENT)
    if found is not None and not ownership.belongs(found, service.subject):
        return False
    gone = ownership.remove(api, DEPLOYMENT)
    ownership.remove(api, f"/api/v1/namespaces/{NAMESPACE}/services/chat")
    api_key.remove(api, NAMESPACE)
    return gone


@step("deploy chat", deadline_s=None)
def deploy_chat(site: Site, service: Service, image: str) -> str:
    """Deploy the chat and wait until it answers; returns its address in the cluster."""
    api, progress = site.api(), Progress("chat")
    ownership.ensure_namespace(api, NAMESPACE)
    api_key.put(api, NAMESPACE, site.block.api_key)
    values = {"namespace": NAMESPACE, "service": service.subject.key, "chat_image": image, "service_url": service.subject.url}
    api.apply_all(manifests.load("chat", values))
    Until("the chat to answer", lambda: probe(api), AVAILABLE_WITHIN_S, 2.0, progress.show_pending).wait()
    progress.show(100, "the chat answers")
    return f"http://chat.{NAMESPACE}.svc:{PORT}"


@step("remove chat", deadline_s=60)
def remove_chat(site: Site, service: Service) -> None:
    """Remove the chat that an earlier deployment of the service may have."""
    if remove(site.api(), service):
        get_run_logger().info("removed the chat of this service")

"""The chat in front of the service: in a namespace of its own, on port 7860."""

from __future__ import annotations

from prefect import get_run_logger

from blocks.parameters import Service
from tasks import _api_key, _ours, _pods, manifests
from tasks.kubernetes import Api
from tasks.progress import Progress
from tasks.site import Site
from tasks.step import step
from tasks.waiting import Pending, Until

NAMESPACE = "chat"
PORT = 7860
AVAILABLE_WITHIN_S = 600.0
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/chat"


def probe(api: Api) -> bool | Pending:
    """Whether the chat's page comes."""
    slices = api.items(f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices", labelSelector="kubernetes.io/service-name=chat")
    if not any(e.get("conditions", {}).get("ready") for s in slices for e in s.get("endpoints") or ()):
        return Pending("; ".join(_pods.troubles(api.items(f"/api/v1/namespaces/{NAMESPACE}/pods"))) or "its pod is starting", 30)
    api.proxy("GET", NAMESPACE, "services", "chat", PORT, "/")
    return True


def remove(api: Api, service: Service) -> bool:
    """The service has no chat, and the key that one knew is gone; returns whether it had one. Another service's chat stays."""
    found = api.find(DEPLOYMENT)
    if found is not None and not _ours.belongs(found, service):
        return False
    gone = _ours.remove(api, DEPLOYMENT)
    _ours.remove(api, f"/api/v1/namespaces/{NAMESPACE}/services/chat")
    _api_key.remove(api, NAMESPACE)
    return gone


@step("deploy chat", deadline_s=None)
def deploy_chat(site: Site, service: Service, image: str) -> str:
    """The chat answers; returns its address in the cluster."""
    api, progress = site.api(), Progress("chat")
    _ours.ensure_namespace(api, NAMESPACE)
    _api_key.put(api, NAMESPACE, site.block.api_key)
    values = {"namespace": NAMESPACE, "service": _ours.key(service), "chat_image": image, "service_url": service.url}
    api.apply_all(manifests.load("chat", values))
    Until("the chat to answer", lambda: probe(api), AVAILABLE_WITHIN_S, 2.0, progress.look).wait()
    progress.say(100, "the chat answers")
    return f"http://chat.{NAMESPACE}.svc:{PORT}"


@step("remove chat", deadline_s=60)
def remove_chat(site: Site, service: Service) -> None:
    """The service has no chat, though it may have had one."""
    if remove(site.api(), service):
        get_run_logger().info("the chat that this service had is removed")

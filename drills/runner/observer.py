"""Observes a service: Kubernetes, Ray and a real request, asked in parallel, as one frozen snapshot."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from blocks.errors import PipelineError
from drills.kubernetes import node_labels
from drills.kubernetes.api import Api, NoCredentials, Object, Refused, Unavailable, conditions
from drills.observed import Answer, Snapshot
from drills.runner import api_key, ray_objects
from drills.subject import Subject

T = TypeVar("T")

ASK_RAY_S = 2.5
"""Seconds for a request to Ray. It answers in milliseconds; without its head a connection may hang, which must not delay the next
snapshot."""
ASK_SERVICE_S = 5.0
"""Seconds for the observer's own request to the model: longer than an answer takes on a busy machine."""


class Observer:
    """Observes one service. Use it as a context manager: it keeps threads, so that one slow answer does not delay the others."""

    def __init__(self, api: Api, subject: Subject, *, nodes: bool = False) -> None:
        """Return an observer; `nodes`: of the model's nodes, too, which needs the right to list nodes and Karpenter's claims."""
        self.api, self.subject, self._of_nodes = api, subject, nodes
        self._threads = ThreadPoolExecutor(max_workers=5, thread_name_prefix="observer")
        self._headers: dict[str, str] | None = None
        """Headers of the observer's requests to the model; None: not read yet."""
        self._ray_headers: dict[str, str] | None = None
        """Headers of its requests to Ray's dashboard; None: not read yet."""
        self._head_addresses: dict[str, bool | None] = {}
        """Whether the head's Service of a Ray cluster has an address of its own; it is read once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def take_snapshot(self, *, ask: bool = True) -> Snapshot:
        """Observe the service now. `ask`: also by the subject's probe, if it has one.

        Raises:
            Unavailable: the API server does not answer. Other answers that are missing are None in the snapshot.
        """
        serve = self._threads.submit(or_none, self.serve)
        answer = self._threads.submit(self.answer) if ask and self.subject.probe else None
        pods_asked = self._threads.submit(self.pods)
        slices_asked = self._threads.submit(self.endpoint_slices)
        nodes = self._threads.submit(self.model_nodes) if self._of_nodes else None
        ray_service = self.ray_service()
        pods, slices, now = pods_asked.result(), slices_asked.result(), time.time()
        cluster, applications = ray_objects.active_cluster(ray_service), serve.result()
        return Snapshot(
            t=now,
            conditions=conditions(ray_service),
            **({} if applications is None else ray_objects.applications_seen(applications, pods)),
            head=ray_objects.head(pods, cluster),
            workers=ray_objects.workers(pods, cluster),
            endpoints=ray_objects.endpoints(slices),
            gcs_storage=ray_objects.gcs_storage(pods, cluster),
            head_address_stays=self.head_address_stays(cluster),
            answer=answer.result() if answer else None,
            **(nodes.result() if nodes else {}),
        )

    def ray_service(self) -> Object | None:
        """The RayService; None: there is none."""
        return self.api.find(f"/apis/ray.io/v1/namespaces/{self.subject.namespace}/rayservices/{self.subject.name}")

    def pods(self) -> list[Object]:
        """Ray's pods in the namespace."""
        return self.api.items(f"/api/v1/namespaces/{self.subject.namespace}/pods", labelSelector=ray_objects.NODE_TYPE)

    def cluster_pods(self, node_type: str) -> list[Object]:
        """The pods of that type (head or worker) in the Ray cluster that serves, oldest first."""
        return ray_objects.pods_of(self.pods(), ray_objects.active_cluster(self.ray_service()), node_type)

    def endpoint_slices(self) -> list[Object]:
        """The EndpointSlices of the serve service."""
        where = f"/apis/discovery.k8s.io/v1/namespaces/{self.subject.namespace}/endpointslices"
        return self.api.items(where, labelSelector=f"kubernetes.io/service-name={self.subject.serve_service}")

    def model_nodes(self) -> dict[str, Any]:
        """The model's nodes that are Ready, and Karpenter's claims for such nodes, as a snapshot has them."""
        nodes = [node for node in node_labels.inf2(self.api) if node_labels.ready(node)]
        claims = [claim for claim in self.api.items(node_labels.CLAIMS) if node_labels.nodepool(claim) == node_labels.INF2]
        return {name: tuple(sorted(o["metadata"]["name"] for o in those)) for name, those in (("nodes", nodes), ("claims", claims))}

    def head_address_stays(self, cluster: str) -> bool | None:
        """Whether the Service by which the workers of a Ray cluster find its head has an address of its own; None: not known."""
        if cluster and cluster not in self._head_addresses:
            where = f"/api/v1/namespaces/{self.subject.namespace}/services"
            label = f"{ray_objects.CLUSTER}={cluster},{ray_objects.NODE_TYPE}=head"
            found = or_none(lambda: self.api.items(where, labelSelector=label))
            self._head_addresses[cluster] = None if found is None else ray_objects.address_stays(found)
        return self._head_addresses.get(cluster)

    def serve(self) -> Object:
        """The Serve applications, as Ray's dashboard reports them.

        Raises:
            Unavailable: it does not answer.
        """
        return self.ask_head("/api/serve/applications/")

    def ray_version(self) -> str:
        """Ray's version, as its dashboard reports it; empty: it does not answer."""
        return str((or_none(lambda: self.ask_head("/api/version")) or {}).get("ray_version", ""))

    def answer(self) -> Answer:
        """Send the probe through the serve service."""
        probe = self.subject.probe
        assert probe is not None, "without a probe nothing is asked"
        where = (self.subject.namespace, "services", self.subject.serve_service, self.subject.serve_port, probe.path, ASK_SERVICE_S)
        try:
            if self._headers is None:
                self._headers = api_key.headers(self.api, self.subject.namespace) if probe.own_key else {}
            data = self.api.proxy(probe.method, *where, self._headers, probe.body)
        except PipelineError as error:
            return Answer(ok=False, detail=str(error))
        if probe.one_text and not _is_one_text(data):
            return Answer(ok=False, detail=f"no answer of one text: {data[:80]!r}")
        return Answer(ok=True)

    def token_secret(self) -> tuple[str, str] | None:
        """Name and key of the Secret with the token that Ray's dashboard asks for; None: it asks for none.

        Raises:
            Unavailable: there is no head pod now.
        """
        heads = self.cluster_pods("head")
        if not heads:
            raise Unavailable(f"{self.subject} has no head pod now")
        return ray_objects.token_secret(heads[-1])

    def _token(self) -> dict[str, str]:
        """Headers with Ray's own token. Without the right to read its Secret the dashboard refuses to answer, and Ray is not seen."""
        found = self.token_secret()
        if found is None:
            return {}
        name, key = found
        try:
            data = self.api.get(f"/api/v1/namespaces/{self.subject.namespace}/secrets/{name}").get("data") or {}
        except Refused:
            return {}
        # Not in Authorization, which the API server does not pass on.
        return {"x-ray-authorization": f"Bearer {base64.b64decode(data[key]).decode()}"} if key in data else {}

    def ask_head(self, path: str) -> Object:
        """Send a request to Ray's dashboard; returns the JSON of its response.

        Raises:
            Unavailable, Refused: it does not answer, or not with JSON.
        """
        where = (self.subject.namespace, "services", self.subject.head_service, self.subject.dashboard_port, path, ASK_RAY_S)
        if self._ray_headers is None:
            self._ray_headers = self._token()
        try:
            data = self.api.proxy("GET", *where, self._ray_headers)
        except NoCredentials:  # another Ray cluster has taken over, with a token of its own
            self._ray_headers = None
            raise
        try:
            found: Any = json.loads(data)
        except ValueError as error:
            raise Refused(f"Ray's dashboard answers {path} with no JSON: {data[:80]!r}", 200) from error
        return dict(found)


def _is_one_text(data: bytes) -> bool:
    """Whether the data are a JSON list with one text, which is how the service answers."""
    try:
        found = json.loads(data)
    except ValueError:
        return False
    return isinstance(found, list) and len(found) == 1 and isinstance(found[0], str)


def or_none(ask: Callable[[], T]) -> T | None:
    """Return the answer; None when an error of the pipeline's own comes instead."""
    try:
        return ask()
    except PipelineError:
        return None

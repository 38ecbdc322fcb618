"""Looks at a service: Kubernetes, Ray and a real request, all at once, as one frozen snapshot."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

from blocks.errors import PipelineError
from blocks.parameters import Service
from drills.observed import Answer, Snapshot
from tasks.kubernetes.api import Api, Object, Refused, conditions
from tasks.service import api_key, ray_objects

T = TypeVar("T")

ASK_RAY_S = 2.5
"""Ray answers in milliseconds; while its head is away a connection may hang, and the next look must not wait for that."""
ASK_SERVICE_S = 5.0
"""Of the observer's own request: longer than an answer takes on a busy machine."""
SENTENCE = "Is anybody there?"


class Observer:
    """Eyes on one service. Use as a context manager: it keeps threads, so that one slow answer does not delay the others."""

    def __init__(self, api: Api, service: Service) -> None:
        self.api, self.service = api, service
        self._threads = ThreadPoolExecutor(max_workers=5, thread_name_prefix="observer")
        self._headers: dict[str, str] | None = None
        """Of our own requests to the service; None: not asked for yet."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def take_snapshot(self, *, ask: bool = True) -> Snapshot:
        """The service now. `ask`: with a real request to it.

        Raises:
            Unavailable: the API server does not answer. What else cannot be asked is None in the snapshot.
        """
        serve = self._threads.submit(_or_none, self.serve)
        answer = self._threads.submit(self.answer) if ask else None
        pods_asked = self._threads.submit(self.pods)
        slices_asked = self._threads.submit(self.endpoint_slices)
        ray_service = self.ray_service()
        pods, slices, now = pods_asked.result(), slices_asked.result(), time.time()
        return self._snapshot(now, ray_service, pods, slices, serve, answer)

    def _snapshot(
        self,
        now: float,
        ray_service: Object | None,
        pods: list[Object],
        slices: list[Object],
        serve: Future[Object | None],
        answer: Future[Answer] | None,
    ) -> Snapshot:
        cluster, told = ray_objects.active_cluster(ray_service), serve.result()
        return Snapshot(
            t=now,
            conditions=conditions(ray_service),
            app_status=None if told is None else ray_objects.app_status(told),
            deployments=None if told is None else ray_objects.deployments(told),
            replicas=None if told is None else ray_objects.replicas(told, pods),
            head=ray_objects.head(pods, cluster),
            workers=ray_objects.workers(pods, cluster),
            endpoints=ray_objects.endpoints(slices),
            gcs_storage=ray_objects.gcs_storage(pods, cluster),
            answer=answer.result() if answer else None,
        )

    def ray_service(self) -> Object | None:
        """The RayService; None when there is none."""
        return self.api.find(f"/apis/ray.io/v1/namespaces/{self.service.namespace}/rayservices/{self.service.name}")

    def pods(self) -> list[Object]:
        """Ray's pods in the namespace."""
        return self.api.items(f"/api/v1/namespaces/{self.service.namespace}/pods", labelSelector=ray_objects.NODE_TYPE)

    def endpoint_slices(self) -> list[Object]:
        """Of the serve service."""
        where = f"/apis/discovery.k8s.io/v1/namespaces/{self.service.namespace}/endpointslices"
        return self.api.items(where, labelSelector=f"kubernetes.io/service-name={self.service.name}-serve-svc")

    def serve(self) -> Object:
        """What Ray's dashboard says of Serve.

        Raises:
            Unavailable: it does not answer.
        """
        return self.ask_head("/api/serve/applications/")

    def ray_version(self) -> str:
        """As the dashboard says; empty when it does not."""
        return str((_or_none(lambda: self.ask_head("/api/version")) or {}).get("ray_version", ""))

    def answer(self) -> Answer:
        """One real request through the serve service."""
        path = f"/infer?{urlencode({'sentence': SENTENCE, 'max_tokens': 2})}"
        where = (self.service.namespace, "services", f"{self.service.name}-serve-svc", 8000, path, ASK_SERVICE_S)
        try:
            if self._headers is None:
                self._headers = api_key.headers(self.api, self.service.namespace)
            data = self.api.proxy("GET", *where, self._headers)
        except PipelineError as error:
            return Answer(ok=False, detail=str(error))
        return Answer(ok=True) if _is_answer(data) else Answer(ok=False, detail=f"no answer of one text: {data[:80]!r}")

    def ask_head(self, path: str) -> Object:
        """The JSON that Ray's dashboard answers.

        Raises:
            Unavailable, Refused: it does not, or not with JSON.
        """
        data = self.api.proxy("GET", self.service.namespace, "services", f"{self.service.name}-head-svc", 8265, path, ASK_RAY_S)
        try:
            found: Any = json.loads(data)
        except ValueError as error:
            raise Refused(f"Ray's dashboard answers {path} with no JSON: {data[:80]!r}", 200) from error
        return dict(found)


def _is_answer(data: bytes) -> bool:
    """Whether these are a list with one text, as the service answers."""
    try:
        found = json.loads(data)
    except ValueError:
        return False
    return isinstance(found, list) and len(found) == 1 and isinstance(found[0], str)


def _or_none(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except PipelineError:
        return None

"""Questions to AWS about a stack: resources by name or tag, its bucket, and Terraform's lock."""

from __future__ import annotations

import threading
from typing import Any

from tasks.aws.account import STATE_KEY, Clients, bucket_exists, state_bucket, state_lock
from tasks.aws.leftovers import SERVICES, leftovers
from tasks.status.questions import Question, StatusRow


class OneClientAtATime:
    """A session for several threads: boto3 clients may be used in parallel, but not created."""

    def __init__(self, session: Clients) -> None:
        self._session, self._lock = session, threading.Lock()

    def client(self, service_name: str, /) -> Any:
        """A boto3 client of the service."""
        with self._lock:
            return self._session.client(service_name)


def questions(session: Clients, name: str, *, made_here: bool) -> list[Question]:
    """All questions about stack `name`; if Terraform did not create it (`made_here` is false), only those about its bucket."""
    clients = OneClientAtATime(session)
    return [
        *(Question(service, name, _resources(clients, name, service)) for service in SERVICES if made_here),
        Question("s3 bucket", name, lambda: _bucket(clients, name)),
        Question("Terraform lock", name, lambda: _lock(clients, name)),
    ]


def _resources(session: Clients, name: str, service: str) -> Any:
    return lambda: [StatusRow(f"{service} {one.kind}", one.id, "exists") for one in leftovers(session, name, [service])]


def _bucket(session: Clients, name: str) -> list[StatusRow]:
    bucket = state_bucket(session, name)
    return [StatusRow("s3 bucket", bucket, "has state and evidence, and stays")] if bucket_exists(session, bucket) else []


def _lock(session: Clients, name: str) -> list[StatusRow]:
    bucket = state_bucket(session, name)
    lock = state_lock(session, bucket) if bucket_exists(session, bucket) else None
    return [StatusRow("Terraform lock", f"{bucket}/{STATE_KEY}", f"held by {lock.described()}")] if lock else []

"""What all parts of the EKS API share: the cluster, access to a request, errors, update records and health issues."""

from __future__ import annotations

import json
from threading import RLock
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from moto.core.utils import utcnow
from moto.eks import models as eks_models
from moto.eks.exceptions import (
    EKSError,
    InvalidParameterException,
    InvalidRequestException,
    ResourceInUseException,
    ResourceNotFoundException,
)
from moto.eks.models import Cluster
from moto.eks.responses import EKSResponse

from localcloud import settings

Shape = dict[str, Any]
"""A structure of the EKS API, with the API's own keys."""


class ResourceLimitExceeded(EKSError):
    """There is a cluster already; the embedded cloud has room for one."""

    TYPE = "ResourceLimitExceededException"
    STATUS = 400


class EksCluster(Cluster):
    """Moto's cluster, with the fields that moto lacks."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lock = RLock()
        """Held by background work that changes the control plane, for as long as the machine takes: not for requests."""
        self.status = "CREATING"
        # Set once the control plane answers; moto makes them up.
        self.endpoint = None  # type: ignore[assignment]
        self.certificate_authority = None  # type: ignore[assignment]
        self.health: Shape = {"issues": []}
        self.access_config: Shape = {}
        self.upgrade_policy: Shape = {}
        self.zonal_shift_config: Shape | None = None
        self.deletion_protection = False
        self.addons: dict[str, Shape] = {}
        self.access_entries: dict[str, Shape] = {}
        self.pod_identities: dict[str, Shape] = {}
        self.updates: dict[str, Shape] = {}
        self.creator: str | None = None
        """ARN of the principal that is cluster admin without an access entry (authentication mode CONFIG_MAP)."""


class EksBase(EKSResponse):
    """Access to the request's body, path and query by the API's names."""

    def _json(self) -> Shape:
        """Return the body; {} when there is none."""
        value = json.loads(self.body or "{}")
        return value if isinstance(value, dict) else {}

    def _path(self, name: str) -> str:
        """Return a parameter of the path, decoded."""
        return str(self.uri_match[name])

    def _query(self, name: str) -> list[str]:
        """Return every value of a query parameter."""
        return parse_qs(urlsplit(self.uri).query).get(name, [])

    def _cluster(self) -> EksCluster:
        """Return the cluster that the path names; 404 when there is none."""
        cluster: Any = self.eks_backend.describe_cluster(self._path("name"))
        assert isinstance(cluster, EksCluster)
        return cluster

    def _part(self, parts: dict[str, Shape], key: str, what: str) -> Shape:
        """Return one of the cluster's parts by its key; 404, with `what` in the message, when there is none."""
        if key not in parts:
            raise not_found(f"{what} {key} was not found in cluster {self._path('name')}", self._path("name"))
        return parts[key]


def not_found(message: str, cluster: str | None = None, **about: str) -> EKSError:
    """Return a ResourceNotFoundException, 404."""
    return ResourceNotFoundException(clusterName=cluster, message=message, **about)


def in_use(message: str, cluster: str | None = None, **about: str) -> EKSError:
    """Return a ResourceInUseException, 409."""
    return ResourceInUseException(clusterName=cluster, message=message, **about)


def invalid(message: str, cluster: str | None = None, **about: str) -> EKSError:
    """Return an InvalidParameterException, 400."""
    return InvalidParameterException(clusterName=cluster, message=message, **about)


def not_now(message: str, cluster: str | None = None, **about: str) -> EKSError:
    """Return an InvalidRequestException, 400: the resource's state does not allow the request."""
    return InvalidRequestException(clusterName=cluster, message=message, **about)


def arn(kind: str, *parts: str) -> str:
    """Return the ARN of an EKS resource."""
    return f"arn:aws:eks:{settings.REGION}:{settings.ACCOUNT}:{kind}/{'/'.join(parts)}"


def clusters() -> list[EksCluster]:
    """Return every cluster of the account, in any state and region."""
    backends = eks_models.eks_backends[settings.ACCOUNT]
    return [c for region in list(backends.values()) for c in list(region.clusters.values()) if isinstance(c, EksCluster)]


def find_cluster(name: str) -> EksCluster | None:
    """Return the cluster of that name; None when there is none."""
    return next((cluster for cluster in clusters() if cluster.name == name), None)


def new_update(cluster: EksCluster, kind: str, params: Shape, status: str = "Successful") -> Shape:
    """Return a new update record, kept in the cluster for DescribeUpdate."""
    update: Shape = {
        "id": str(uuid4()),
        "status": status,
        "type": kind,
        "createdAt": utcnow(),
        "errors": [],
        "params": [{"type": key[:1].upper() + key[1:], "value": str(value)} for key, value in params.items()],
    }
    cluster.updates[update["id"]] = update
    return update


def end_update(update: Shape | None, problems: list[Shape]) -> None:
    """End the update, if there is one: Failed with these health issues as its errors, Successful without any."""
    if update is not None:
        update["errors"] = [{"errorCode": "Unknown", "errorMessage": p["message"], "resourceIds": p["resourceIds"]} for p in problems]
        update["status"] = "Failed" if problems else "Successful"


def issue(code: str, message: str, *resource_ids: str) -> Shape:
    """Return a health issue of the resources."""
    return {"code": code, "message": message, "resourceIds": list(resource_ids)}

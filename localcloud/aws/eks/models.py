"""The EKS cluster as we keep it, and the errors and update records that all of EKS shares."""

from __future__ import annotations

from threading import RLock
from typing import Any
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

from localcloud import settings

Shape = dict[str, Any]
"""A structure of the EKS API, with the API's own keys."""


class ResourceLimitExceeded(EKSError):
    """There is room for one cluster."""

    TYPE = "ResourceLimitExceededException"
    STATUS = 400


class EksCluster(Cluster):
    """Moto's cluster and what moto has no place for. `lock` is held while its parts change."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lock = RLock()
        self.status = "CREATING"
        # Told once the control plane answers; moto makes them up.
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


def not_found(message: str, cluster: str | None = None, **about: str) -> EKSError:
    """404 ResourceNotFoundException."""
    return ResourceNotFoundException(clusterName=cluster, message=message, **about)


def in_use(message: str, cluster: str | None = None, **about: str) -> EKSError:
    """409 ResourceInUseException."""
    return ResourceInUseException(clusterName=cluster, message=message, **about)


def invalid(message: str, cluster: str | None = None, **about: str) -> EKSError:
    """400 InvalidParameterException."""
    return InvalidParameterException(clusterName=cluster, message=message, **about)


def not_now(message: str, cluster: str | None = None, **about: str) -> EKSError:
    """400 InvalidRequestException: the resource's state does not allow it."""
    return InvalidRequestException(clusterName=cluster, message=message, **about)


def arn(kind: str, *parts: str) -> str:
    """ARN of an EKS resource."""
    return f"arn:aws:eks:{settings.REGION}:{settings.ACCOUNT}:{kind}/{'/'.join(parts)}"


def clusters() -> list[EksCluster]:
    """Every cluster of the account, in any state and region."""
    books = eks_models.eks_backends[settings.ACCOUNT]
    return [c for region in list(books.values()) for c in list(region.clusters.values()) if isinstance(c, EksCluster)]


def find(name: str) -> EksCluster | None:
    """The cluster of that name."""
    return next((cluster for cluster in clusters() if cluster.name == name), None)


def new_update(cluster: EksCluster, kind: str, params: Shape, status: str = "Successful") -> Shape:
    """An update record, kept in the cluster, which DescribeUpdate answers with."""
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
    """The update has ended; `problems` are health issues, none of them means success."""
    if update is not None:
        update["errors"] = [{"errorCode": "Unknown", "errorMessage": p["message"], "resourceIds": p["resourceIds"]} for p in problems]
        update["status"] = "Failed" if problems else "Successful"


def issue(code: str, message: str, *resource_ids: str) -> Shape:
    """A health issue."""
    return {"code": code, "message": message, "resourceIds": list(resource_ids)}

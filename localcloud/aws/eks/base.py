"""What every part of the EKS API needs of its request."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from moto.eks.responses import EKSResponse

from localcloud.aws.eks.models import EksCluster, Shape, not_found


class EksBase(EKSResponse):
    """The request's body, path and query, read by the API's names."""

    def _json(self) -> Shape:
        """The body; {} when there is none."""
        value = json.loads(self.body or "{}")
        return value if isinstance(value, dict) else {}

    def _path(self, name: str) -> str:
        """A parameter of the path, decoded."""
        return str(self.uri_match[name])

    def _query(self, name: str) -> list[str]:
        """Every value of a query parameter."""
        return parse_qs(urlsplit(self.uri).query).get(name, [])

    def _cluster(self) -> EksCluster:
        """The cluster that the path names; 404 when there is none."""
        cluster: Any = self.eks_backend.describe_cluster(self._path("name"))
        assert isinstance(cluster, EksCluster)
        return cluster

    def _part(self, parts: dict[str, Shape], key: str, what: str) -> Shape:
        """One of the cluster's parts; 404 when there is none."""
        if key not in parts:
            raise not_found(f"{what} {key} was not found in cluster {self._path('name')}", self._path("name"))
        return parts[key]

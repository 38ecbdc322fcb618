"""What every part of the EKS API needs of a request."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from moto.eks.responses import EKSResponse

from localcloud.aws.eks.models import EksCluster, Shape, not_found


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

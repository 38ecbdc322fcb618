"""The EKS API, composed of its parts, in place of moto's."""

from __future__ import annotations

from moto.eks import urls as eks_urls

from localcloud.aws.eks.access import AccessEntries
from localcloud.aws.eks.addons import Addons
from localcloud.aws.eks.clusters import Clusters
from localcloud.aws.eks.nodegroups import NodeGroups
from localcloud.aws.eks.pod_identity import PodIdentityAssociations
from localcloud.aws.eks.tags import Tags


class Eks(Clusters, NodeGroups, Addons, AccessEntries, PodIdentityAssociations, Tags):
    """Every operation of EKS that the embedded cloud has; those that no part defines are moto's own."""


def extend_moto() -> None:
    """Let `Eks` answer EKS's requests. One route is enough: moto finds the operation in the API's model."""
    eks_urls.url_paths.clear()
    eks_urls.url_paths["{0}/(?P<rest>.+)$"] = Eks.dispatch

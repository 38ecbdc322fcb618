"""The EKS API: its parts put together, in moto's place."""

from __future__ import annotations

from moto.eks import urls as eks_urls

from localcloud.aws.eks.access import AccessEntries
from localcloud.aws.eks.addons import Addons
from localcloud.aws.eks.clusters import Clusters
from localcloud.aws.eks.nodegroups import NodeGroups
from localcloud.aws.eks.pod_identity import PodIdentities
from localcloud.aws.eks.tags import Tags


class Eks(Clusters, NodeGroups, Addons, AccessEntries, PodIdentities, Tags):
    """Every operation of EKS that the embedded cloud has; moto's own where none of the parts has it."""


def install() -> None:
    """EKS requests come here. One route takes all: moto finds the operation in the API's model."""
    eks_urls.url_paths.clear()
    eks_urls.url_paths["{0}/(?P<rest>.+)$"] = Eks.dispatch

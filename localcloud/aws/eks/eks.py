"""The EKS API in place of moto's, composed of its parts; and the tags of every EKS resource."""

from __future__ import annotations

from moto.core.responses import ActionResult, EmptyResult
from moto.eks import urls as eks_urls

from localcloud.aws.eks.access import AccessEntries
from localcloud.aws.eks.addons import Addons
from localcloud.aws.eks.clusters import Clusters
from localcloud.aws.eks.models import EksBase, clusters, not_found
from localcloud.aws.eks.nodegroups import NodeGroups
from localcloud.aws.eks.pod_identity import PodIdentityAssociations


class Tags(EksBase):
    """Tags of every EKS resource; moto keeps those of clusters only."""

    def tag_resource(self) -> ActionResult:
        """Add tags to the resource."""
        self._tags().update(self._json()["tags"])
        return EmptyResult()

    def untag_resource(self) -> ActionResult:
        """Remove tags from the resource."""
        tags = self._tags()
        for key in self._query("tagKeys"):
            tags.pop(key, None)
        return EmptyResult()

    def list_tags_for_resource(self) -> ActionResult:
        """List the resource's tags."""
        return ActionResult({"tags": self._tags()})

    def _tags(self) -> dict[str, str]:
        wanted = self._extract_arn_from_path()
        for cluster in clusters():
            tagged = {cluster.arn: cluster.tags} | {group.arn: group.tags for group in cluster.nodegroups.values()}
            tagged |= {addon["addonArn"]: addon["tags"] for addon in cluster.addons.values()}
            tagged |= {entry["accessEntryArn"]: entry["tags"] for entry in cluster.access_entries.values()}
            tagged |= {identity["associationArn"]: identity["tags"] for identity in cluster.pod_identities.values()}
            if wanted in tagged:
                return tagged[wanted]
        raise not_found(f"Resource was not found: {wanted}")


class Eks(Clusters, NodeGroups, Addons, AccessEntries, PodIdentityAssociations, Tags):
    """Every operation of EKS that the embedded cloud has; those that no part defines are moto's own."""


def extend_moto() -> None:
    """Let `Eks` answer EKS's requests. One route is enough: moto finds the operation in the API's model."""
    eks_urls.url_paths.clear()
    eks_urls.url_paths["{0}/(?P<rest>.+)$"] = Eks.dispatch

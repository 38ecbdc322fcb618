"""Tags of every EKS resource; moto keeps those of clusters only."""

from __future__ import annotations

from moto.core.responses import ActionResult, EmptyResult

from localcloud.aws.eks.base import EksBase
from localcloud.aws.eks.models import clusters, not_found


class Tags(EksBase):
    """The operations TagResource, UntagResource and ListTagsForResource."""

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

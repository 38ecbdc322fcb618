"""Nodes of a cluster, and Karpenter's claims of them, by the labels that say what they are for."""

from __future__ import annotations

from tasks.kubernetes.api import Api, Object, conditions

NODES = "/api/v1/nodes"
POOL = "leeward.dev/pool"
"""Label of nodes: core or inf2."""
NODEPOOL = "karpenter.sh/nodepool"
"""Label of nodes, of NodeClaims and of instances: which NodePool of Karpenter's they are of."""
INF2 = "inf2"
"""Pool, NodePool and worker group of the model."""


def pool(node: Object) -> str:
    """Empty: it has none."""
    return str(node["metadata"].get("labels", {}).get(POOL, ""))


def nodepool(thing: Object) -> str:
    """Of a node or a NodeClaim. Empty: it is not Karpenter's."""
    return str(thing["metadata"].get("labels", {}).get(NODEPOOL, ""))


def ready(node: Object) -> bool:
    """Condition Ready, also while it is being drained."""
    return conditions(node).get("Ready", False)


def inf2(api: Api) -> list[Object]:
    """The nodes that are there for the model."""
    return [node for node in api.items(NODES) if pool(node) == INF2]

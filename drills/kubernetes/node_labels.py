"""Labels of nodes and of Karpenter's NodeClaims: pool and NodePool."""

from __future__ import annotations

from drills.kubernetes.api import Api, Object, conditions

NODES = "/api/v1/nodes"
CLAIMS = "/apis/karpenter.sh/v1/nodeclaims"
POOL = "leeward.dev/pool"
"""Label of nodes: core or inf2."""
NODEPOOL = "karpenter.sh/nodepool"
"""Label of nodes and NodeClaims, and tag of instances: the name of their NodePool."""
CORE = "core"
"""Name of the pool for everything but the model."""
INF2 = "inf2"
"""Name of the model's pool, NodePool and worker group."""


def pool(node: Object) -> str:
    """The pool of a node; empty: it has none."""
    return str(node["metadata"].get("labels", {}).get(POOL, ""))


def nodepool(obj: Object) -> str:
    """The NodePool of a node or NodeClaim; empty: Karpenter did not create it."""
    return str(obj["metadata"].get("labels", {}).get(NODEPOOL, ""))


def ready(node: Object) -> bool:
    """Whether the node has the condition Ready; also while it is being drained."""
    return conditions(node).get("Ready", False)


def inf2(api: Api) -> list[Object]:
    """The nodes in the model's pool."""
    return [node for node in api.items(NODES) if pool(node) == INF2]

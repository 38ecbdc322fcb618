"""The registry of nodes: which EC2 instance is which node, with which index."""

from __future__ import annotations

import threading
from pathlib import Path

from localcloud import settings
from localcloud.machine.cluster.controlplane import Cluster
from localcloud.machine.interface import MachineError, NodeSpec
from localcloud.machine.locks import KeyedLocks
from localcloud.machine.nodes.node import Node


class NodeRegistry:
    """All nodes. Different nodes join and leave at the same time; calls about one node wait for each other."""

    def __init__(self, folder: Path, images: tuple[Path, ...]) -> None:
        """`folder` will contain one folder per node. `images` are imported into every node before it is used."""
        self._folder = folder
        self._images = images
        self._guard = threading.Lock()
        self._locks = KeyedLocks()
        self._nodes: dict[str, Node] = {}

    def all(self) -> list[Node]:
        """Return all nodes, including those that are joining or leaving."""
        with self._guard:
            return list(self._nodes.values())

    def join(self, spec: NodeSpec, cluster: Cluster) -> str:
        """Make the instance a node of the cluster; return its address when the node is Ready."""
        with self._locks.hold(spec.instance_id):
            node = self._nodes.get(spec.instance_id)
            if node is None:
                node = self._register(spec, cluster)
                try:
                    node.join(self._images)
                except Exception:
                    self._forget(spec.instance_id)
                    raise
            return node.address

    def remove(self, instance_id: str) -> None:
        """Remove the node of this instance, if there is one."""
        with self._locks.hold(instance_id):
            if node := self._nodes.get(instance_id):
                node.remove()
                self._forget(instance_id)

    def _register(self, spec: NodeSpec, cluster: Cluster) -> Node:
        """Reserve a free index for the node before anything starts."""
        with self._guard:
            taken = {node.index for node in self._nodes.values()}
            index = next((i for i in range(len(settings.NODE_HOSTS)) if i not in taken), None)
            if index is None:
                raise MachineError(f"no room for another node: there are {len(taken)}; remove one")
            node = Node(spec, index, cluster, self._folder / spec.instance_id)
            self._nodes[spec.instance_id] = node
            return node

    def _forget(self, instance_id: str) -> None:
        with self._guard:
            self._nodes.pop(instance_id, None)

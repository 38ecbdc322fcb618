"""The controller of a managed node group: it launches and removes instances, which are nodes, until their number is as wanted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import RLock
from typing import Any

from moto.ec2.models.instances import Instance
from moto.eks.models import Nodegroup

from localcloud import settings
from localcloud.aws import moto_lock, quotas, ssm
from localcloud.aws.ec2 import ec2, instances, shortages
from localcloud.aws.eks.models import EksCluster, Shape, end_update, issue
from localcloud.machine.interface import MachineError

log = logging.getLogger(__name__)

_TAINT_EFFECTS = {"NO_SCHEDULE": "NoSchedule", "NO_EXECUTE": "NoExecute", "PREFER_NO_SCHEDULE": "PreferNoSchedule"}


@dataclass(frozen=True, eq=False)
class Member:
    """An instance of a group, launched for one generation of it. Compared by identity: threads remove members from one list."""

    instance: Instance
    generation: int


class NodeGroup(Nodegroup):
    """Moto's node group, with its instances. Only `reconcile` and the loss of an instance change them, one at a time."""

    def __init__(self, cluster: EksCluster, **kwargs: Any) -> None:
        super().__init__(cluster_name=cluster.name, **kwargs)
        self.cluster = cluster
        self.members: list[Member] = []
        self.deleting = False
        """Whether the group is being deleted."""
        self.generation = 0
        """Incremented by requests that change what instances are launched with. Members of older generations are replaced."""
        self.lock = RLock()
        """Held while members are launched and removed, for as long as the machine takes: not for requests."""
        self._launched = 0

    @property
    def wanted(self) -> int:
        """The number of members that there should be."""
        return 0 if self.deleting else int(self.scaling_config["desiredSize"])

    def reconcile(self, update: Shape | None = None) -> None:
        """Bring the members to what is wanted, and set status and health. After a failure, call it again to try again."""
        with self.lock:
            problems = self._grow(self.wanted - len(self._current()))
            # An outdated member is removed after its replacement has joined, and only if it has.
            if not problems:
                problems = self._shrink(len(self.members) - self.wanted)
            self._set_status(problems)
        end_update(update, problems)

    def _current(self) -> list[Member]:
        return [member for member in self.members if member.generation == self.generation and member.instance.is_running()]

    def _grow(self, count: int) -> list[Shape]:
        # A request that changes the group meanwhile starts a new generation, to which these members do not belong.
        generation, launched, problems = self.generation, list[Member](), list[Shape]()
        try:
            for _ in range(count):
                launched.append(Member(self._launch(), generation))
        except Exception as error:  # EC2 has many errors for a wrong launch template, subnet or image
            log.exception("node group %s cannot launch instances", self.nodegroup_name)
            problems = [issue("AsgInstanceLaunchFailures", str(error), self.nodegroup_name)]
        self.members += launched
        return problems + _run_in_parallel(self._join, launched)

    def _shrink(self, count: int) -> list[Shape]:
        """Remove that many members: first those that no longer run, then the outdated, then the newest."""
        leaving = sorted(reversed(self.members), key=lambda member: (member.instance.is_running(), member.generation))
        return _run_in_parallel(self._remove, leaving[: max(0, count)])

    def _set_status(self, problems: list[Shape]) -> None:
        for problem in problems:
            log.error("node group %s: %s", self.nodegroup_name, problem["message"])
        self.health = {"issues": problems}
        if self.deleting:
            self.status = "DELETE_FAILED" if problems else "DELETING"
            if not self.members:
                with moto_lock.MOTO_LOCK:
                    self.cluster.nodegroups.pop(self.nodegroup_name, None)
        elif self.status in ("CREATING", "CREATE_FAILED"):
            self.status = "CREATE_FAILED" if problems else "ACTIVE"
        else:
            self.status = "DEGRADED" if problems else "ACTIVE"

    def _join(self, member: Member) -> Shape | None:
        membership = instances.Membership(self.cluster.name, self._on_loss)
        try:
            instances.join(member.instance, membership, self._labels(), self._taints())
        except MachineError as error:
            self._remove(member)
            return issue("NodeCreationFailure", str(error), member.instance.id)
        return None

    def _remove(self, member: Member) -> Shape | None:
        try:
            instances.leave(member.instance)
        except MachineError as error:
            return issue("NodeTerminationFailure", str(error), member.instance.id)
        self.members.remove(member)
        return None

    def _on_loss(self, instance_id: str, problem: str | None) -> None:
        """After a client terminated a member: replace it once it is gone, as an auto scaling group does."""
        with self.lock:
            if problem:
                self._set_status([issue("NodeTerminationFailure", problem, instance_id)])
                return
            self.members = [member for member in self.members if member.instance.id != instance_id]
            self.reconcile()

    def _launch(self) -> Instance:
        """Launch an instance of the first type that has capacity, in the zone that follows the last one used.

        Raises:
            MachineError: no type has capacity in any zone; the text lists what was tried.
        """
        self._launched += 1
        first = self._launched % len(self.subnets)
        tried = []
        for instance_type in self.instance_types:
            for subnet in self.subnets[first:] + self.subnets[:first]:
                try:
                    with moto_lock.MOTO_LOCK:
                        return self._launch_as(instance_type, subnet)
                except (shortages.Insufficient, quotas.VcpuLimitExceeded) as error:
                    tried.append(f"{error.code}: {error.message}")
        raise MachineError("; ".join(tried))

    def _launch_as(self, instance_type: str, subnet: str) -> Instance:
        backend = ec2.backend()
        arguments: dict[str, Any] = {"tags": {"instance": self._tags(backend)}}
        if self.launch_template:
            arguments["launch_template"] = self._template()
        if not self._template_data(backend).get("SecurityGroupIds"):
            arguments["security_group_ids"] = [self.cluster.resources_vpc_config["clusterSecurityGroupId"]]
        reservation = backend.run_instances(
            self._template_data(backend).get("ImageId") or ssm.Image("neuron" if "NEURON" in self.ami_type else "standard").id,
            1,
            None,
            [],
            instance_type=instance_type,
            is_instance_type_default=False,
            region_name=settings.REGION,
            subnet_id=subnet,
            **arguments,
        )
        return reservation.instances[0]

    def _template(self) -> dict[str, str]:
        template = self.launch_template or {}
        return {"LaunchTemplateId": template["id"], "Version": template.get("version") or "$Default"}

    def _template_data(self, backend: ec2.Ec2Backend) -> dict[str, Any]:
        return backend._get_template_from_args(self._template()).data if self.launch_template else {}

    def _tags(self, backend: ec2.Ec2Backend) -> dict[str, str]:
        specs = self._template_data(backend).get("TagSpecifications", [])
        template = {tag["Key"]: tag["Value"] for spec in specs if spec.get("ResourceType") == "instance" for tag in spec.get("Tags", [])}
        return template | {
            "eks:cluster-name": self.cluster.name,
            "eks:nodegroup-name": self.nodegroup_name,
            f"kubernetes.io/cluster/{self.cluster.name}": "owned",
            "k8s.io/cluster-autoscaler/enabled": "true",
            f"k8s.io/cluster-autoscaler/{self.cluster.name}": "owned",
            "aws:autoscaling:groupName": f"eks-{self.uuid}",
        }

    def _labels(self) -> dict[str, str]:
        own = {"eks.amazonaws.com/nodegroup": self.nodegroup_name, "eks.amazonaws.com/capacityType": self.capacity_type}
        return own | dict(self.labels)

    def _taints(self) -> tuple[str, ...]:
        return tuple(f"{t['key']}={t.get('value') or ''}:{_TAINT_EFFECTS[t['effect']]}" for t in self.taints)


def _run_in_parallel(work: Callable[[Member], Shape | None], members: Sequence[Member]) -> list[Shape]:
    """Do the work for all members at the same time, and return the problems."""
    if not members:
        return []
    with ThreadPoolExecutor(len(members)) as pool:
        return [problem for problem in pool.map(work, members) if problem]

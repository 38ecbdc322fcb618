"""A managed node group as a controller: it brings its instances to the number wanted, and its nodes with them."""

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
from localcloud.aws import moto_lock, ssm
from localcloud.aws.ec2 import ec2, instances, shortages
from localcloud.aws.eks.models import EksCluster, Shape, end_update, issue
from localcloud.machine.interface import MachineError

log = logging.getLogger(__name__)

_TAINT_EFFECTS = {"NO_SCHEDULE": "NoSchedule", "NO_EXECUTE": "NoExecute", "PREFER_NO_SCHEDULE": "PreferNoSchedule"}


@dataclass(frozen=True, eq=False)
class Member:
    """An instance of a group, launched for one generation of it. Equal to itself alone: threads take them out of one list."""

    instance: Instance
    generation: int


class NodeGroup(Nodegroup):
    """Moto's node group, and its real members. `reconcile` is the only one to change them, one at a time."""

    def __init__(self, cluster: EksCluster, **kwargs: Any) -> None:
        super().__init__(cluster_name=cluster.name, **kwargs)
        self.cluster = cluster
        self.members: list[Member] = []
        self.doomed = False
        """Whether it is to be deleted."""
        self.generation = 0
        """Counted up, by requests, when what a member is made of changes: members of older generations are replaced."""
        self.lock = RLock()
        """Held while the members are brought to what is wanted, which takes as long as the machine does: not for requests."""
        self._launched = 0

    @property
    def wanted(self) -> int:
        """How many members there should be."""
        return 0 if self.doomed else int(self.scaling_config["desiredSize"])

    def reconcile(self, update: Shape | None = None) -> None:
        """The members are as wanted, or status and health say why not. Called again after a failure, it tries again."""
        with self.lock:
            problems = self._grow(self.wanted - len(self._current()))
            # An outdated member goes after its replacement has come, and only if it has.
            if not problems:
                problems = self._shrink(len(self.members) - self.wanted)
            self._settle(problems)
        end_update(update, problems)

    def _current(self) -> list[Member]:
        return [member for member in self.members if member.generation == self.generation and member.instance.is_running()]

    def _grow(self, count: int) -> list[Shape]:
        # What changes while they are launched makes a generation of its own, of which these are not.
        generation, launched, problems = self.generation, list[Member](), list[Shape]()
        try:
            for _ in range(count):
                launched.append(Member(self._launch(), generation))
        except Exception as error:  # whatever EC2 has against the launch template, the subnet or the image
            log.exception("node group %s cannot launch instances", self.nodegroup_name)
            problems = [issue("AsgInstanceLaunchFailures", str(error), self.nodegroup_name)]
        self.members += launched
        return problems + _at_once(self._join, launched)

    def _shrink(self, count: int) -> list[Shape]:
        """The half-gone leave first, then the outdated, then the newest."""
        leaving = sorted(reversed(self.members), key=lambda member: (member.instance.is_running(), member.generation))
        return _at_once(self._retire, leaving[: max(0, count)])

    def _settle(self, problems: list[Shape]) -> None:
        for problem in problems:
            log.error("node group %s: %s", self.nodegroup_name, problem["message"])
        self.health = {"issues": problems}
        if self.doomed:
            self.status = "DELETE_FAILED" if problems else "DELETING"
            if not self.members:
                with moto_lock.MOTO_LOCK:
                    self.cluster.nodegroups.pop(self.nodegroup_name, None)
        elif self.status in ("CREATING", "CREATE_FAILED"):
            self.status = "CREATE_FAILED" if problems else "ACTIVE"
        else:
            self.status = "DEGRADED" if problems else "ACTIVE"

    def _join(self, member: Member) -> Shape | None:
        membership = instances.Membership(self.cluster.name, self._lost)
        try:
            instances.join(member.instance, membership, self._labels(), self._taints())
        except MachineError as error:
            self._retire(member)
            return issue("NodeCreationFailure", str(error), member.instance.id)
        return None

    def _retire(self, member: Member) -> Shape | None:
        try:
            instances.leave(member.instance)
        except MachineError as error:
            return issue("NodeTerminationFailure", str(error), member.instance.id)
        self.members.remove(member)
        return None

    def _lost(self, instance_id: str, problem: str | None) -> None:
        """Somebody terminated a member: the group replaces it, as its auto scaling group would, once it is gone."""
        with self.lock:
            if problem:
                self._settle([issue("NodeTerminationFailure", problem, instance_id)])
                return
            self.members = [member for member in self.members if member.instance.id != instance_id]
            self.reconcile()

    def _launch(self) -> Instance:
        """An instance of the first type, and in the next zone, for which there is capacity.

        Raises:
            MachineError: there is none for any; says what was tried.
        """
        self._launched += 1
        first = self._launched % len(self.subnets)
        tried = []
        for instance_type in self.instance_types:
            for subnet in self.subnets[first:] + self.subnets[:first]:
                try:
                    with moto_lock.MOTO_LOCK:
                        return self._launch_as(instance_type, subnet)
                except shortages.Insufficient as error:
                    tried.append(error.message)
        raise MachineError(f"{shortages.CODE}: {'; '.join(tried)}")

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


def _at_once(work: Callable[[Member], Shape | None], members: Sequence[Member]) -> list[Shape]:
    """The problems of doing it to all members at the same time."""
    if not members:
        return []
    with ThreadPoolExecutor(len(members)) as pool:
        return [problem for problem in pool.map(work, members) if problem]

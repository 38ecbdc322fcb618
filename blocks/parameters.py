"""What a run may be told: models that make the forms in the Prefect UI and refuse what cannot work before anything is touched."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

NAME_PATTERN = r"^[a-z](-?[a-z0-9])*$"
"""Lower-case letters, digits and single dashes between them, a letter first: what every AWS service takes."""
NAME_MAX = 27
"""The tightest is the state bucket, leeward-NAME-ACCOUNT-REGION, of 63 characters; terraform/names.tf has the list."""
PRIVATE = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
SERVICES = ipaddress.IPv4Network("172.20.0.0/16")
"""Of the cluster's services, in terraform/cluster.tf; EKS takes no VPC that overlaps it."""
NOT_X86 = r"^(a1|mac[a-z0-9-]*|[a-z-]+[0-9]+[a-z0-9-]*g[a-z0-9-]*)\."
"""Instance types of another architecture than the images': a g behind the generation is Graviton's."""
TAG_PATTERN = r"^[A-Za-z0-9_ .:/=+@-]*$"
"""What every AWS service takes in tags."""
TAKEN_TAGS = (
    r"^(aws:|leeward:|kubernetes\.io/cluster|(eks:eks-cluster-name|karpenter\.sh/(nodepool|nodeclaim)|karpenter\.k8s\.aws/ec2nodeclass)$)"
)
"""Keys of AWS's, of ours and of Karpenter's tags."""


def _network(text: str) -> ipaddress.IPv4Network:
    network = ipaddress.IPv4Network(text)
    if str(network) != text:  # a mask in dots, or none: Terraform takes neither
        raise ValueError(f"written as {network}")
    return network


def _public(text: str) -> str:
    if any(_network(text).subnet_of(private) for private in PRIVATE):
        raise ValueError("a range of public addresses: EKS takes no private one here, and the VPC's own reach the API anyhow")
    return text


def _two_or_three(zones: tuple[str, ...]) -> tuple[str, ...]:
    if len(zones) == 1 or len(set(zones)) != len(zones):
        raise ValueError("none, or two or three different zones")
    return zones


def _vpc(text: str) -> str:
    network = _network(text)
    if not 16 <= network.prefixlen <= 20:
        raise ValueError("a range from /16 to /20")
    if not any(network.subnet_of(private) for private in PRIVATE):
        raise ValueError(f"a private range: in {', '.join(map(str, PRIVATE))}")
    if network.overlaps(SERVICES):
        raise ValueError(f"a range beside {SERVICES}, which is the cluster's for its services")
    return text


def _x86(text: str) -> str:
    if re.match(NOT_X86, text):
        raise ValueError("an x86-64 type, such as m6i.xlarge: the images have no other architecture")
    return text


def _tag_key(text: str) -> str:
    if not 1 <= len(text) <= 128 or not re.fullmatch(TAG_PATTERN, text):
        raise ValueError("1 to 128 letters, digits, spaces or _.:/=+@-")
    if re.match(TAKEN_TAGS, text, re.IGNORECASE):
        raise ValueError("AWS, this pipeline or Karpenter sets this key: take another")
    return text


IAM = r"arn:aws[a-z-]*:iam::[0-9]{12}:"
"""What every ARN of an IAM principal begins with."""
PublicCidr = Annotated[str, AfterValidator(_public)]
Zone = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$")]
Principal = Annotated[str, Field(pattern=rf"^{IAM}(role|user)/\S+$")]
TagKey = Annotated[str, AfterValidator(_tag_key)]
TagValue = Annotated[str, Field(pattern=TAG_PATTERN, max_length=256)]
Inf2Type = Literal["inf2.xlarge", "inf2.8xlarge", "inf2.24xlarge", "inf2.48xlarge"]


class Parameters(BaseModel):
    """Frozen, and strict about names: a misspelt one is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class CoreNodes(Parameters):
    """Nodes of the operator, DNS, the Ray head and the load."""

    instance_type: Annotated[str, Field(pattern=r"^[a-z0-9-]+\.[a-z0-9]+$"), AfterValidator(_x86)] = "m6i.xlarge"
    """An EC2 instance type of x86-64."""
    count: Annotated[int, Field(ge=2, le=20)] = 2
    """Two at least: the load must not share the head's node."""
    disk_gib: Annotated[int, Field(ge=20, le=16384)] = 50
    """Of the root volume."""


class Inf2Nodes(Parameters):
    """Nodes of the model: one worker and one replica each."""

    instance_type: Inf2Type = "inf2.8xlarge"
    """An inf2 type."""
    fallback_types: Annotated[tuple[Inf2Type, ...], Field(max_length=10)] = ("inf2.24xlarge",)
    """Inf2 types to be had instead when no zone has capacity for the first: AWS runs out of it. Karpenter takes the cheapest of all
    these types that is to be had, a managed group the first in this order."""
    count: Annotated[int, Field(ge=1, le=20)] = 2
    """How many serve at most, with a managed group how many there are. Two keep the service through the loss of one. A new image or
    another engine is brought up beside what serves and needs as many nodes again: Karpenter launches them, a managed group must have
    them free."""
    disk_gib: Annotated[int, Field(ge=50, le=16384)] = 200
    """Of the root volume: the Neuron image alone takes 20, with what its engine keeps 100."""
    provisioner: Literal["karpenter", "managed"] = "karpenter"
    """Who launches them. Karpenter does when a worker waits for one, and ends those that nobody needs. A managed node group
    has all of them all the time: for capacity that is reserved."""


class Karpenter(Parameters):
    """How Karpenter launches and keeps nodes."""

    ami_alias: Annotated[str, Field(pattern=r"^al2023@(latest|v[0-9]{8})$")] = "al2023@latest"
    """Which release of the EKS-optimised AMIs new nodes have; pinned it is al2023@v and a date. Nodes with another one are
    replaced by the flow refresh, and by nobody else."""
    empty_for_s: Annotated[int, Field(ge=10, le=86400)] = 60
    """How long an inf2 node on which nothing runs is kept."""


class RedisNodes(Parameters):
    """The Redis that keeps what Ray's head knows."""

    node_type: Annotated[str, Field(pattern=r"^cache\.[a-z0-9]+\.[a-z0-9]+$")] = "cache.t4g.small"
    """An ElastiCache node type."""
    replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Besides the primary, to fail over to."""


class Infrastructure(Parameters):
    """What Terraform makes."""

    name: Annotated[str, Field(pattern=NAME_PATTERN, min_length=1, max_length=NAME_MAX)] = "leeward"
    """Of the cluster; every other name is made from it. At most 27 characters, so that it fits every AWS service."""
    enable_gcs_ha: bool = True
    """Whether a Redis is made in which Ray's state outlives its head."""
    kubernetes_version: Annotated[str, Field(pattern=r"^1\.[0-9]{2}$")] = "1.35"
    """Minor version, as EKS takes it."""
    vpc_cidr: Annotated[str, AfterValidator(_vpc)] = "10.20.0.0/16"
    """Address range of the VPC: private, from /16 to /20, beside 172.20.0.0/16, which is the cluster's for its services."""
    availability_zones: Annotated[tuple[Zone, ...], Field(max_length=3), AfterValidator(_two_or_three)] = ()
    """Two or three zones, such as us-west-2a. Empty: two among those that offer the inf2 type, chosen anew each time: name them where
    the stack is to live for long, as AWS adds zones."""
    admin_principal_arns: Annotated[tuple[Principal, ...], Field(max_length=20)] = ()
    """IAM roles and users that administer the cluster, with kubectl for one, besides the pipeline's own."""
    public_access_cidrs: Annotated[tuple[PublicCidr, ...], Field(max_length=40)] = ("0.0.0.0/0",)
    """Who may reach the Kubernetes API from the internet, as ranges such as 203.0.113.0/24; every request needs an IAM identity
    besides. Empty closes it to the internet: then the worker must be in the VPC."""
    core_nodes: CoreNodes = CoreNodes()
    """Nodes of everything but the model."""
    inf2_nodes: Inf2Nodes = Inf2Nodes()
    """Nodes of the model."""
    karpenter: Karpenter = Karpenter()
    """How Karpenter launches and keeps nodes. It launches the inf2 nodes, unless their provisioner is "managed"."""
    redis: RedisNodes = RedisNodes()
    """Shape of the Redis."""
    owner: Annotated[str, Field(pattern=TAG_PATTERN, min_length=1, max_length=256)] = "unknown"
    """Whom to ask about this stack; a tag on everything."""
    ttl_hours: Annotated[int, Field(ge=0, le=8760)] = 24
    """Hours after which a janitor may take the stack down; a tag on everything. 0: never."""
    tags: Annotated[dict[TagKey, TagValue], Field(max_length=40)] = Field(default_factory=dict)
    """Further tags for everything; none that AWS, this pipeline or Karpenter sets."""

    def terraform_variables(self) -> dict[str, Any]:
        """The variables of terraform/ besides name, region (the target's), enable_gcs_ha and the AUTH token."""
        variables = self.model_dump(mode="json", exclude={"name", "enable_gcs_ha", "karpenter"})
        return {**variables, "az_count": len(self.availability_zones) or 2}


KubernetesName = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=40)]
"""Leaves room in 63 characters for the suffixes of KubeRay's pods and services."""


OWN_NAMESPACES = frozenset({"chat", "leeward-load", "kuberay-system"})
"""Of what is beside the services: one of them that went would take it away from the others."""


def _not_ours(text: str) -> str:
    if text in OWN_NAMESPACES:
        raise ValueError(f"another namespace than {', '.join(sorted(OWN_NAMESPACES))}: those are for what is beside the services")
    return text


ENGINES = tuple(sorted(file.stem.removeprefix("engine-") for file in (Path(__file__).parents[1] / "manifests").glob("engine-*.yaml")))
"""Names of the engines: each has a manifest engine-NAME.yaml."""
if TYPE_CHECKING:
    Engine = str
else:
    Engine = Literal[ENGINES]
    """What computes the answers. It decides the workers' image, what they ask of their node, and their limits."""


class Scaling(Parameters):
    """How a service grows with its load and shrinks again: replicas first, then workers and nodes for them."""

    max_workers: Annotated[int, Field(ge=2, le=20)] = 4
    """Ray workers at most, one replica of the model each; as many inf2 nodes may come to be."""
    ongoing_requests: Annotated[float, Field(gt=0)] | None = None
    """Requests per replica that it is sized for, at most what its engine answers at once (its slots: 16 on a CPU, 8 on Neuron). Empty:
    three quarters of them, so that the next replica is on its way before requests wait."""
    up_after_s: Annotated[float, Field(ge=0, le=3600)] = 10
    """How long there must be more requests before a replica is added."""
    down_after_s: Annotated[float, Field(ge=0, le=86400)] = 120
    """How long there must be fewer before one is taken away: longer than a lull, as the next one costs minutes."""
    idle_worker_s: Annotated[int, Field(ge=60, le=86400)] = 60
    """How long a worker without replicas is kept. Longer than an answer may take: one that came in by its proxy still goes through it."""


class Service(Parameters):
    """What is deployed: the model behind Ray Serve, and the chat in front of it."""

    name: KubernetesName = "mistral"
    """Of the RayService."""
    namespace: Annotated[KubernetesName, AfterValidator(_not_ours)] = "mistral"
    """Where it runs. One that is there already is left as it is, and stays."""
    workers: Annotated[int, Field(ge=1, le=20)] = 2
    """Ray workers, one replica of the model each; as many inf2 nodes are needed. With scaling: the fewest there are."""
    scaling: Scaling | None = None
    """Whether the number of workers follows the load. Empty: there are always as many."""
    engine: Engine | None = None
    """What computes the answers. Empty: what the target is made for."""
    gcs_fault_tolerance: bool | None = None
    """Whether Ray's state outlives its head. Empty: whenever there is a Redis for it. Off shows what happens without."""
    chat: bool = True
    """Whether the chat is deployed, too."""
    ready_within_s: Annotated[float, Field(ge=60, le=7200)] = 1200
    """Until the service is Ready. Pulling a large image onto every node and loading a model take minutes."""

    @model_validator(mode="after")
    def _at_least_as_many(self) -> Self:
        if self.scaling is not None and self.scaling.max_workers < self.workers:
            raise ValueError(f"scaling.max_workers is {self.scaling.max_workers}, fewer than the {self.workers} workers there always are")
        return self

    @property
    def most_workers(self) -> int:
        """Workers when the load is highest."""
        return self.scaling.max_workers if self.scaling is not None else self.workers

    @property
    def url(self) -> str:
        """Where it answers inside the cluster."""
        return f"http://{self.name}-serve-svc.{self.namespace}.svc:8000"


INFRASTRUCTURE = Infrastructure()
"""All defaults."""
SERVICE = Service()
"""All defaults."""

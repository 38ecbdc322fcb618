"""Parameters of the flows: models from which Prefect makes its forms, and which refuse what cannot work before anything is changed."""

from __future__ import annotations

import ipaddress
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from drills.subject import HOME, Subject

NAME_PATTERN = r"^[a-z](-?[a-z0-9])*$"
"""Lower-case letters, digits and single dashes between them, a letter first: what every AWS service accepts."""
NAME_MAX = 27
"""Longest stack name. The limit comes from the state bucket, leeward-NAME-ACCOUNT-REGION, with 63 characters; all names are in
terraform/names.tf."""
PRIVATE = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
SERVICES = ipaddress.IPv4Network("172.20.0.0/16")
"""Address range of the cluster's Services, as in terraform/cluster.tf; EKS accepts no VPC that overlaps it."""
NOT_X86 = r"^(a1|mac[a-z0-9-]*|[a-z-]+[0-9]+[a-z0-9-]*g[a-z0-9-]*)\."
"""Instance types that are not x86-64, so the images do not run there. A g after the generation number means Graviton."""
TAG_PATTERN = r"^[A-Za-z0-9_ .:/=+@-]*$"
"""Characters that every AWS service accepts in tags."""
TAKEN_TAGS = (
    r"^(aws:|leeward:|kubernetes\.io/cluster|(eks:eks-cluster-name|karpenter\.sh/(nodepool|nodeclaim)|karpenter\.k8s\.aws/ec2nodeclass)$)"
)
"""Tag keys that AWS, this pipeline or Karpenter sets."""


def _network(text: str) -> ipaddress.IPv4Network:
    network = ipaddress.IPv4Network(text)
    if str(network) != text:  # a dotted mask, or none: Terraform accepts neither
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
"""The beginning of every ARN of an IAM principal."""
BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
"""Name of an S3 bucket."""
Cidr = Annotated[str, AfterValidator(lambda text: str(_network(text)))]
PublicCidr = Annotated[str, AfterValidator(_public)]
Zone = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$")]
Principal = Annotated[str, Field(pattern=rf"^{IAM}(role|user)/\S+$")]
TagKey = Annotated[str, AfterValidator(_tag_key)]
TagValue = Annotated[str, Field(pattern=TAG_PATTERN, max_length=256)]
Inf2Type = Literal["inf2.xlarge", "inf2.8xlarge", "inf2.24xlarge", "inf2.48xlarge"]


class Parameters(BaseModel):
    """Base of all parameter models: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class CoreNodes(Parameters):
    """Nodes for the operator, DNS, the Ray head and the load."""

    instance_type: Annotated[str, Field(pattern=r"^[a-z0-9-]+\.[a-z0-9]+$"), AfterValidator(_x86)] = "m6i.xlarge"
    """An EC2 instance type of x86-64."""
    count: Annotated[int, Field(ge=2, le=20)] = 2
    """Number of nodes. At least two: the load must not share the head's node."""
    disk_gib: Annotated[int, Field(ge=20, le=16384)] = 50
    """Size of the root volume."""


class Inf2Nodes(Parameters):
    """Nodes for the model: one worker with one replica on each, or several (service.workers_per_node)."""

    instance_type: Inf2Type = "inf2.8xlarge"
    """The inf2 type to use first."""
    fallback_types: Annotated[tuple[Inf2Type, ...], Field(max_length=10)] = ("inf2.24xlarge",)
    """Inf2 types to use instead when no zone has capacity for the first, which happens on AWS. Karpenter takes the cheapest available
    one of all these types, a managed group the first available one in this order."""
    count: Annotated[int, Field(ge=1, le=20)] = 2
    """Largest number of nodes that serve; with a managed group, the number that exists. With two, the service survives the loss of one.
    A new image or another engine starts beside the running one and needs the same number of nodes again: Karpenter launches them, a
    managed group must have them free."""
    disk_gib: Annotated[int, Field(ge=50, le=16384)] = 200
    """Size of the root volume. The Neuron image takes 20, with the files of its engine 100."""
    provisioner: Literal["karpenter", "managed"] = "karpenter"
    """What launches the nodes. Karpenter launches one when a worker waits for it, and ends those that are not needed. A managed node
    group keeps all of them all the time: for reserved capacity."""


class Karpenter(Parameters):
    """How Karpenter launches and keeps nodes."""

    ami_alias: Annotated[str, Field(pattern=r"^al2023@(latest|v[0-9]{8})$")] = "al2023@latest"
    """Release of the EKS-optimised AMIs for new nodes; a pinned one is al2023@v and a date. `latest` is the newest when the stack is made,
    and stays that one until the flow refresh moves on. Only that flow replaces nodes that have another release."""
    empty_for_s: Annotated[int, Field(ge=10, le=86400)] = 60
    """Seconds for which an inf2 node is kept after its last pod."""


class RedisNodes(Parameters):
    """The Redis that keeps the state of Ray's head."""

    node_type: Annotated[str, Field(pattern=r"^cache\.[a-z0-9]+\.[a-z0-9]+$")] = "cache.t4g.small"
    """An ElastiCache node type."""
    replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Number of replicas besides the primary, to fail over to."""


class Infrastructure(Parameters):
    """Parameters of what Terraform creates."""

    name: Annotated[str, Field(pattern=NAME_PATTERN, min_length=1, max_length=NAME_MAX)] = "leeward"
    """Name of the cluster; every other name is made from it. At most 27 characters, so that it fits every AWS service."""
    enable_gcs_ha: bool = True
    """Whether to create a Redis in which Ray's state survives the loss of its head."""
    kubernetes_version: Annotated[str, Field(pattern=r"^1\.[0-9]{2}$")] = "1.35"
    """Minor version, as EKS names it."""
    vpc_cidr: Annotated[str, AfterValidator(_vpc)] = "10.20.0.0/16"
    """Address range of the VPC: private, from /16 to /20, and outside 172.20.0.0/16, which the cluster uses for its Services."""
    availability_zones: Annotated[tuple[Zone, ...], Field(max_length=3), AfterValidator(_two_or_three)] = ()
    """Two or three zones, such as us-west-2a. Empty: two of those that offer the inf2 type, chosen again at every run. Name them for a
    long-lived stack, because AWS adds zones."""
    admin_principal_arns: Annotated[tuple[Principal, ...], Field(max_length=20)] = ()
    """IAM roles and users that may administer the cluster (with kubectl, for example), besides the pipeline's own role."""
    public_access_cidrs: Annotated[tuple[PublicCidr, ...], Field(max_length=40)] = ("0.0.0.0/0",)
    """Addresses that may reach the Kubernetes API from the internet, as ranges such as 203.0.113.0/24; every request also needs an IAM
    identity. Empty closes it to the internet: then the Prefect worker must run in the VPC."""
    core_nodes: CoreNodes = CoreNodes()
    """Nodes for everything but the model."""
    inf2_nodes: Inf2Nodes = Inf2Nodes()
    """Nodes for the model."""
    karpenter: Karpenter = Karpenter()
    """How Karpenter launches and keeps nodes. It launches the inf2 nodes, unless their provisioner is "managed"."""
    redis: RedisNodes = RedisNodes()
    """Shape of the Redis."""
    expires_after_h: Annotated[float, Field(ge=0, le=8760)] | None = None
    """Hours from `provision` or `lifecycle` until the flow reap removes the stack; running either again counts from then. 0: never. Empty:
    24 after a lifecycle, which removes it anyway unless it ends with an error; never after `provision` or with `keep`."""
    model_buckets: Annotated[tuple[Annotated[str, Field(pattern=rf"^{BUCKET}$")], ...], Field(max_length=20)] = ()
    """S3 buckets from which workers may read models (service.model), besides the stack's own."""
    max_usd_per_hour: Annotated[float, Field(gt=0)] | None = None
    """Largest price of everything together, in US dollars an hour, also on the dearest of the inf2 types. Above it a run is refused before
    anything is made."""
    owner: Annotated[str, Field(pattern=TAG_PATTERN, min_length=1, max_length=256)] = "unknown"
    """Person or team to ask about this stack; a tag on every resource."""
    tags: Annotated[dict[TagKey, TagValue], Field(max_length=40)] = Field(default_factory=dict)
    """Further tags for every resource. Keys that AWS, this pipeline or Karpenter sets are refused."""

    @field_validator("tags")
    @classmethod
    def _different(cls, tags: dict[str, str]) -> dict[str, str]:
        twice = [key for key in tags if sum(key.lower() == other.lower() for other in tags) > 1]
        if twice:
            raise ValueError(f"keys that differ in more than upper and lower case, which IAM takes as equal: {', '.join(sorted(twice))}")
        return tags

    def terraform_variables(self) -> dict[str, Any]:
        """All variables of terraform/ except name, region (the target's), enable_gcs_ha and the AUTH token."""
        variables = self.model_dump(mode="json", exclude={"name", "enable_gcs_ha", "karpenter", "max_usd_per_hour", "expires_after_h"})
        return {**variables, "az_count": len(self.availability_zones) or 2}


KubernetesName = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=40)]
"""A name of at most 40 characters: KubeRay's suffixes for pods and services must fit into 63."""


OWN_NAMESPACES = frozenset({"chat", HOME, "kuberay-system"})
"""Namespaces that all services of a cluster share. A service must not live there: its removal would delete what the others use."""


def _not_shared(text: str) -> str:
    if text in OWN_NAMESPACES:
        raise ValueError(f"another namespace than {', '.join(sorted(OWN_NAMESPACES))}: those are for what is beside the services")
    return text


def _named(kind: str) -> tuple[str, ...]:
    return tuple(sorted(file.stem.removeprefix(f"{kind}-") for file in (Path(__file__).parents[1] / "manifests").glob(f"{kind}-*.yaml")))


ENGINES = _named("engine")
"""Names of the engines: each has a manifest engine-NAME.yaml."""
MODELS = _named("model")
"""Names of the models that are in the image of the engine `cpu`: each has a manifest model-NAME.yaml."""
MODEL_PATTERN = rf"^({'|'.join(MODELS)}|\w[\w.-]*/\w[\w.-]*|s3://{BUCKET}(/[\w.=+@:-]+)+)$"
"""A model of the image, OWNER/NAME of the Hugging Face hub, or a folder in S3."""
if TYPE_CHECKING:
    Engine = str
else:
    Engine = Literal[ENGINES]
    """Program that computes the answers. It decides the workers' image, resource requests and limits."""


class Scaling(Parameters):
    """How a service grows with its load and shrinks again: first replicas, then workers and nodes for them."""

    max_workers: Annotated[int, Field(ge=2, le=20)] = 4
    """Largest number of Ray workers, with one replica of the model each. There may be as many inf2 nodes."""
    ongoing_requests: Annotated[float, Field(gt=0)] | None = None
    """Target number of requests per replica, at most what its engine answers at once (its slots: 16 on a CPU, 8 on Neuron). Empty: three
    quarters of the slots, so that the next replica starts before requests wait."""
    up_after_s: Annotated[float, Field(ge=0, le=3600)] = 10
    """Seconds for which there must be more requests before a replica is added."""
    down_after_s: Annotated[float, Field(ge=0, le=86400)] = 120
    """Seconds for which there must be fewer requests before a replica is removed: longer than a lull, because a new one takes minutes."""
    idle_worker_s: Annotated[int, Field(ge=60, le=86400)] = 60
    """Seconds for which a worker without replicas is kept. Longer than an answer may take: a request that entered by its proxy is still
    served through that proxy."""


class Ingress(Parameters):
    """A load balancer of AWS in front of the model, with TLS. The AWS Load Balancer Controller must run in the cluster (docs/aws.md)."""

    certificate_arn: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[0-9a-f-]+$")]
    """ARN of the certificate in AWS Certificate Manager, in the cluster's region, for the name that clients use."""
    public: bool = False
    """Whether it has addresses in the internet. Off: only those of the VPC, for clients in it or connected to it."""
    allowed_cidrs: Annotated[tuple[Cidr, ...], Field(max_length=40)] = ()
    """Addresses of clients, as ranges such as 203.0.113.0/24. Empty: all private ones, or with `public` all."""

    @property
    def inbound(self) -> str:
        """The clients' ranges, separated by commas."""
        everybody = ("0.0.0.0/0",) if self.public else tuple(map(str, PRIVATE))
        return ",".join(self.allowed_cidrs or everybody)


class Service(Parameters):
    """What is deployed: the model behind Ray Serve, and the chat in front of it."""

    name: KubernetesName = "mistral"
    """Name of the RayService."""
    namespace: Annotated[KubernetesName, AfterValidator(_not_shared)] = "mistral"
    """Namespace of the service. One that exists already is not changed and not deleted."""
    workers: Annotated[int, Field(ge=1, le=20)] = 2
    """Number of Ray workers, with one replica of the model each; as many inf2 nodes are needed, unless several share a node. With scaling:
    the smallest number."""
    workers_per_node: Annotated[int, Field(ge=1, le=12)] = 1
    """Largest number of workers on an inf2 node, at most its chips: 6 use an inf2.24xlarge whole. They are spread evenly. A lost node takes
    all of its workers with it, so have at least two nodes."""
    scaling: Scaling | None = None
    """How the number of workers follows the load. Empty: it does not change."""
    engine: Engine | None = None
    """Program that computes the answers. Empty: the target's engine."""
    model: Annotated[str, Field(pattern=MODEL_PATTERN, max_length=512)] | None = None
    """Model to compute: `OWNER/NAME` of the Hugging Face hub, or `s3://BUCKET/FOLDER` with the same files; its architecture must be one
    that the engine computes. Empty: Mistral-7B-Instruct-v0.3; with the engine `cpu` a tiny one that stands for a 7B model in its pace, and
    whose words are noise. `smollm2`, of the engine `cpu` alone, speaks English, and needs so much more of the processor that two cores
    carry a few conversations instead of a drill's usual load."""
    revision: Annotated[str, Field(pattern=r"^\w[\w./-]*$", max_length=128)] | None = None
    """Commit, tag or branch of a model of the hub. Empty: the branch main. Name a commit, so that every worker gets the same files."""
    compile_ahead: bool | None = None
    """Whether a Job compiles the model before the workers start, and keeps the result in the stack's bucket, from which every worker loads
    it. Empty: if the engine compiles (Neuron) and Terraform creates the cluster. Otherwise every worker compiles for itself."""
    gcs_fault_tolerance: bool | None = None
    """Whether Ray's state survives the loss of its head. Empty: yes if there is a Redis. Off shows what happens without it."""
    chat: bool = True
    """Whether the chat is deployed too."""
    ingress: Ingress | None = None
    """A way in from outside the cluster. Empty: the model answers inside the cluster only. Needs the target's `api_key`."""
    ready_within_s: Annotated[float, Field(ge=60, le=7200)] | None = None
    """Seconds within which the service must be Ready. Empty: as long as the engine may take, 20 minutes on a CPU, 90 on Neuron: a node
    starts, pulls an image of 20 GB, downloads the model and compiles it."""

    @model_validator(mode="after")
    def _at_least_as_many(self) -> Self:
        if self.scaling is not None and self.scaling.max_workers < self.workers:
            raise ValueError(f"scaling.max_workers is {self.scaling.max_workers}, fewer than the {self.workers} workers there always are")
        return self

    @model_validator(mode="after")
    def _revision_of_the_hub(self) -> Self:
        if self.revision and self.model and (self.model in MODELS or self.model.startswith("s3://")):
            raise ValueError(f"a revision is one of a model of the hub, and the model is {self.model}: leave it out")
        return self

    @property
    def most_workers(self) -> int:
        """Number of workers at the highest load."""
        return self.scaling.max_workers if self.scaling is not None else self.workers

    @property
    def nodes(self) -> int:
        """Smallest number of nodes that its workers need at the lowest load."""
        return math.ceil(self.workers / self.workers_per_node)

    @property
    def subject(self) -> Subject:
        """What a drill of this service needs to know of it."""
        return Subject(namespace=self.namespace, name=self.name)


INFRASTRUCTURE = Infrastructure()
"""The infrastructure with all defaults."""
SERVICE = Service()
"""The service with all defaults."""

"""The release of the AMIs for Karpenter's nodes: found once and kept, so that a node of tomorrow has the Neuron driver of today.

Karpenter's alias `latest` means another release every few weeks. It is replaced here by the release that is the newest when the stack is
made; the flow refresh moves on to a newer one.
"""

from __future__ import annotations

import re

from botocore.exceptions import ClientError

from blocks.errors import Permanent
from blocks.parameters import Infrastructure
from drills.kubernetes.api import Object
from tasks.aws.account import Clients

LATEST = "al2023@latest"
OF_KUBERNETES = "leeward.dev/kubernetes"
"""Annotation of an EC2NodeClass: the minor version of Kubernetes for which its release was found."""


class NoRelease(Permanent):
    """AWS names no release of its AMIs for that version of Kubernetes."""


def newest(session: Clients, kubernetes: str) -> str:
    """The alias of the newest release, as AWS names it for EKS's AMIs with Neuron's driver.

    Raises:
        NoRelease: it names none.
    """
    name = f"/aws/service/eks/optimized-ami/{kubernetes}/amazon-linux-2023/x86_64/neuron/recommended/release_version"
    ssm = session.client("ssm")
    try:
        release = str(ssm.get_parameter(Name=name)["Parameter"]["Value"])
    except ssm.exceptions.ParameterNotFound as error:
        raise NoRelease(f"AWS has no AMI with Neuron's driver for Kubernetes {kubernetes}: there is no parameter {name}") from error
    except ClientError as error:
        raise NoRelease(f"the newest AMI could not be asked for: {error}; pin one in karpenter.ami_alias") from error
    date = re.fullmatch(r"\d+\.\d+\.\d+-(\d{8})", release)
    if date is None:
        raise NoRelease(f"{name} is {release!r}, which names no release as expected; pin one in karpenter.ami_alias")
    return f"al2023@v{date[1]}"


def pinned(session: Clients, infrastructure: Infrastructure, running: Object | None) -> Infrastructure:
    """The infrastructure with a release in place of `latest`: that of the running node class, or the newest one for a new stack or a new
    version of Kubernetes."""
    if infrastructure.karpenter.ami_alias != LATEST:
        return infrastructure
    version = infrastructure.kubernetes_version
    same = running is not None and (running["metadata"].get("annotations") or {}).get(OF_KUBERNETES) == version
    alias = alias_of(running) if running is not None and same else LATEST
    if alias in ("", LATEST):
        alias = newest(session, version)
    return infrastructure.model_copy(update={"karpenter": infrastructure.karpenter.model_copy(update={"ami_alias": alias})})


def alias_of(node_class: Object) -> str:
    """The release that an EC2NodeClass names; empty: it names AMIs in another way."""
    terms = node_class.get("spec", {}).get("amiSelectorTerms") or [{}]
    return str(terms[0].get("alias", ""))

"""SSM: the public parameters of the EKS-optimised AMIs, which moto lacks."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from moto.core.utils import utcnow
from moto.ssm import models as ssm_models
from moto.ssm import urls as ssm_urls
from moto.ssm.models import Parameter, SimpleSystemManagerBackend

from localcloud import settings

MINOR = ".".join(settings.KUBERNETES_VERSION.split(".")[:2])
"""The Kubernetes version as EKS writes it."""
DATES = ("20260423", "20260511")
"""Releases of the AMIs, the newest and recommended one last: with two there is something to update from."""
RELEASE = f"{settings.KUBERNETES_VERSION}-{DATES[-1]}"
"""Release version of the recommended AMIs, as EKS writes it."""

_NAME = re.compile(
    rf"/aws/service/eks/optimized-ami/{re.escape(MINOR)}/amazon-linux-2023/(?P<arch>x86_64|arm64)/(?P<kind>standard|neuron|nvidia)"
    rf"/(?:recommended|amazon-eks-node-al2023-(?P=arch)-(?P=kind)-{re.escape(MINOR)}-v(?P<date>{'|'.join(DATES)}))"
    r"(?:/(?P<leaf>image_id|image_name|release_version))?"
)


class SsmBackend(SimpleSystemManagerBackend):
    """Moto's SSM that knows the AMIs of the cluster's Kubernetes version."""

    @property
    def _url_module(self) -> Any:
        return ssm_urls

    def get_parameter(self, name: str) -> Parameter | None:
        """The parameter, or None."""
        return super().get_parameter(name) or _ami_parameter(self.account_id, name)

    def get_parameters(self, names: list[str]) -> dict[str, Parameter]:
        """Those of the parameters that exist."""
        found = super().get_parameters(names)
        return found | {name: p for name in names if name not in found and (p := _ami_parameter(self.account_id, name))}


def install() -> None:
    """SSM's books are these."""
    ssm_models.ssm_backends.backend = SsmBackend


@dataclass(frozen=True)
class Image:
    """An EKS-optimised AMI."""

    kind: str
    """standard, neuron or nvidia."""
    arch: str = "x86_64"
    date: str = DATES[-1]

    @property
    def id(self) -> str:
        """Invented, but always the same."""
        return "ami-" + hashlib.sha256(f"{MINOR}/{self.arch}/{self.kind}/{self.date}".encode()).hexdigest()[:17]

    @property
    def name(self) -> str:
        """As AWS names it."""
        return f"amazon-eks-node-al2023-{self.arch}-{self.kind}-{MINOR}-v{self.date}"

    @property
    def release_version(self) -> str:
        """As EKS writes it."""
        return f"{settings.KUBERNETES_VERSION}-{self.date}"


IMAGES = tuple(Image(kind, arch, date) for kind in ("standard", "neuron", "nvidia") for arch in ("x86_64", "arm64") for date in DATES)
"""All that there are."""


def _ami_parameter(account: str, name: str) -> Parameter | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    found = Image(match["kind"], match["arch"], match["date"] or DATES[-1])
    image = {"image_id": found.id, "image_name": found.name, "release_version": found.release_version}
    value = image[match["leaf"]] if match["leaf"] else json.dumps(image)
    return Parameter(  # type: ignore[abstract]  # moto's own code makes it all the same
        account_id=account,
        name=name,
        value=value,
        parameter_type="String",
        description=None,
        allowed_pattern=None,
        keyid=None,
        last_modified_date=utcnow(),
        version=1,
        data_type="text",
    )

"""SSM: the public parameters of the EKS-optimised AMIs, which moto lacks."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from moto.core.utils import utcnow
from moto.ssm import models as ssm_models
from moto.ssm import urls as ssm_urls
from moto.ssm.models import Parameter, SimpleSystemManagerBackend

from localcloud import settings

MINOR = ".".join(settings.KUBERNETES_VERSION.split(".")[:2])
"""The Kubernetes version as EKS writes it."""
RELEASE = f"{settings.KUBERNETES_VERSION}-20260511"
"""Release version of the AMIs, as EKS writes it: the date is that of the newest one known when this was written."""

_NAME = re.compile(
    rf"/aws/service/eks/optimized-ami/{re.escape(MINOR)}/amazon-linux-2023/(?P<arch>x86_64|arm64)/(?P<kind>standard|neuron|nvidia)"
    r"/recommended(?:/(?P<leaf>image_id|image_name|release_version))?"
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


def image_id(kind: str, arch: str = "x86_64") -> str:
    """The AMI id of a kind (standard, neuron): invented, but always the same."""
    return "ami-" + hashlib.sha256(f"{MINOR}/{arch}/{kind}".encode()).hexdigest()[:17]


def _ami_parameter(account: str, name: str) -> Parameter | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    image = {
        "image_id": image_id(match["kind"], match["arch"]),
        "image_name": f"amazon-eks-node-al2023-{match['arch']}-{match['kind']}-{MINOR}-v{RELEASE.rpartition('-')[2]}",
        "release_version": RELEASE,
    }
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

"""SSM: the public parameters of the EKS-optimised AMIs, which moto lacks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from moto.core.utils import utcnow
from moto.ssm import models as ssm_models
from moto.ssm import urls as ssm_urls
from moto.ssm.models import Parameter, SimpleSystemManagerBackend

from localcloud import settings

MINOR = ".".join(settings.KUBERNETES_VERSION.split(".")[:2])
"""The Kubernetes version in EKS's form: major and minor."""
DATES = ("20260423", "20260511")
"""Releases of the AMIs, the newest, recommended one last. There are two, so that nodes have something to update from."""
RELEASE = f"{settings.KUBERNETES_VERSION}-{DATES[-1]}"
"""Release version of the recommended AMIs."""

_ROOT = f"/aws/service/eks/optimized-ami/{MINOR}/amazon-linux-2023"


class SsmBackend(SimpleSystemManagerBackend):
    """Moto's SSM with the AMIs of the cluster's Kubernetes version."""

    @property
    def _url_module(self) -> Any:
        return ssm_urls

    def get_parameter(self, name: str) -> Parameter | None:
        """Return the parameter; None when there is none."""
        return super().get_parameter(name) or _ami_parameter(self.account_id, name)

    def get_parameters(self, names: list[str]) -> dict[str, Parameter]:
        """Return those of the parameters that exist, by name."""
        found = super().get_parameters(names)
        return found | {name: p for name in names if name not in found and (p := _ami_parameter(self.account_id, name))}

    def get_parameters_by_path(
        self,
        path: str,
        recursive: bool,
        filters: list[dict[str, Any]] | None = None,
        next_token: str | None = None,
        max_results: int = 10,
    ) -> tuple[list[Parameter], str | None]:
        """Return a page of the parameters below the path, and the token of the next page: AMIs if there are any, else others."""
        folder = path.rstrip("/") + "/"
        names = [name for name in _VALUES if name.startswith(folder) and (recursive or "/" not in name.removeprefix(folder))]
        if not names:
            return super().get_parameters_by_path(path, recursive, filters, next_token, max_results)
        self._validate_parameter_filters(filters, by_path=True)
        found = [parameter for name in names if (parameter := _ami_parameter(self.account_id, name))]
        if filters:  # only then: moto makes a record of tags for every parameter that it looks at
            found = [parameter for parameter in found if self._match_filters(parameter, filters)]
        return self._get_values_nexttoken(found, max_results, next_token)


def extend_moto() -> None:
    """Let `SsmBackend` keep SSM's state."""
    ssm_models.ssm_backends.backend = SsmBackend


@dataclass(frozen=True)
class Image:
    """One of the EKS-optimised AMIs."""

    kind: str
    """One of standard, neuron and nvidia."""
    arch: str = "x86_64"
    date: str = DATES[-1]

    @property
    def id(self) -> str:
        """The AMI's id: made up, but the same in every run."""
        return "ami-" + hashlib.sha256(f"{MINOR}/{self.arch}/{self.kind}/{self.date}".encode()).hexdigest()[:17]

    @property
    def name(self) -> str:
        """The AMI's name in AWS's form."""
        return f"amazon-eks-node-al2023-{self.arch}-{self.kind}-{MINOR}-v{self.date}"

    @property
    def release_version(self) -> str:
        """The release version in EKS's form."""
        return f"{settings.KUBERNETES_VERSION}-{self.date}"


IMAGES = tuple(Image(kind, arch, date) for kind in ("standard", "neuron", "nvidia") for arch in ("x86_64", "arm64") for date in DATES)
"""All AMIs of the embedded cloud."""


def _values() -> dict[str, str]:
    found: dict[str, str] = {}
    for image in IMAGES:
        values = {"image_id": image.id, "image_name": image.name, "release_version": image.release_version}
        for release in (image.name, "recommended") if image.date == DATES[-1] else (image.name,):
            folder = f"{_ROOT}/{image.arch}/{image.kind}/{release}"
            found |= {folder: json.dumps(values)} | {f"{folder}/{leaf}": value for leaf, value in values.items()}
    return found


_VALUES = _values()
"""Name of every parameter → its value."""


def _ami_parameter(account: str, name: str) -> Parameter | None:
    if name not in _VALUES:
        return None
    return Parameter(  # type: ignore[abstract]  # moto's own code constructs it too
        account_id=account,
        name=name,
        value=_VALUES[name],
        parameter_type="String",
        description=None,
        allowed_pattern=None,
        keyid=None,
        last_modified_date=utcnow(),
        version=1,
        data_type="text",
    )

"""ECR: a repository's URI points at the machine's registry, from which the nodes pull.

Moto keeps the repositories. It does not see what is pushed, and deleting a repository leaves its layers in the registry.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import timedelta
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ecr import models as ecr_models
from moto.ecr import urls as ecr_urls
from moto.ecr.models import ECRBackend, Repository
from moto.ecr.responses import ECRResponse

from localcloud.aws import current_machine
from localcloud.aws.auth.credentials import random_secret


class Ecr(ECRResponse):
    """Moto's ECR with a token for the machine's registry."""

    def get_authorization_token(self) -> ActionResult:
        """Return a user and a password for the registry, which accepts any."""
        token = {
            "authorizationToken": b64encode(f"AWS:{random_secret(32)}".encode()).decode(),
            "expiresAt": utcnow() + timedelta(hours=12),
            "proxyEndpoint": f"http://{current_machine.machine().registry()}",
        }
        return ActionResult({"authorizationData": [token]})


class EcrBackend(ECRBackend):
    """Moto's ECR whose repositories are in the machine's registry."""

    @property
    def _url_module(self) -> Any:
        return ecr_urls

    def create_repository(self, repository_name: str, *args: Any, **kwargs: Any) -> Repository:
        """Create the repository, with a URI in the machine's registry."""
        repository = super().create_repository(repository_name, *args, **kwargs)
        repository.uri = f"{current_machine.machine().registry()}/{repository_name}"
        return repository


def extend_moto() -> None:
    """Let `Ecr` answer ECR's requests and `EcrBackend` keep its state."""
    ecr_urls.url_paths["{0}/$"] = Ecr.dispatch
    ecr_models.ecr_backends.backend = EcrBackend

"""IAM: instance profiles by their path, which moto leaves out of account."""

from __future__ import annotations

from moto.core.responses import ActionResult
from moto.iam import urls as iam_urls
from moto.iam.responses import IamResponse


class Iam(IamResponse):
    """Moto's IAM."""

    def list_instance_profiles(self) -> ActionResult:
        """Those below PathPrefix: Karpenter deletes what it finds below its own and no node class wants."""
        prefix = self._get_param("PathPrefix") or "/"
        return ActionResult({"InstanceProfiles": [p for p in self.backend.get_instance_profiles() if p.path.startswith(prefix)]})


def install() -> None:
    """IAM requests are answered by this."""
    iam_urls.url_paths["{0}/$"] = Iam.dispatch

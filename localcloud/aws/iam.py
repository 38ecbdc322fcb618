"""IAM: instance profiles are listed by their path, which moto ignores."""

from __future__ import annotations

from moto.core.responses import ActionResult
from moto.iam import urls as iam_urls
from moto.iam.responses import IamResponse


class Iam(IamResponse):
    """Moto's IAM, whose ListInstanceProfiles respects PathPrefix."""

    def list_instance_profiles(self) -> ActionResult:
        """List the profiles below PathPrefix. Karpenter deletes those below its own prefix that no node class uses."""
        prefix = self._get_param("PathPrefix") or "/"
        return ActionResult({"InstanceProfiles": [p for p in self.backend.get_instance_profiles() if p.path.startswith(prefix)]})


def extend_moto() -> None:
    """Let `Iam` answer IAM's requests."""
    iam_urls.url_paths["{0}/$"] = Iam.dispatch

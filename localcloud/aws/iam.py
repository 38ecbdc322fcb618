"""IAM: instance profiles are listed by their path, which moto ignores, and a role that is in none is no failure of the server."""

from __future__ import annotations

from moto.core.responses import ActionResult
from moto.iam import urls as iam_urls
from moto.iam.exceptions import NotFoundException
from moto.iam.responses import IamResponse


class Iam(IamResponse):
    """Moto's IAM, whose ListInstanceProfiles respects PathPrefix, and which refuses to take a role out of a profile that has none."""

    def list_instance_profiles(self) -> ActionResult:
        """List the profiles below PathPrefix. Karpenter deletes those below its own prefix that no node class uses."""
        prefix = self._get_param("PathPrefix") or "/"
        return ActionResult({"InstanceProfiles": [p for p in self.backend.get_instance_profiles() if p.path.startswith(prefix)]})

    def remove_role_from_instance_profile(self) -> ActionResult:
        """Take the role out, or answer NoSuchEntity. Terraform does so with a profile that got no role, because that was refused."""
        name, role = self._get_param("InstanceProfileName"), self._get_param("RoleName")
        if role not in [each.name for each in self.backend.get_instance_profile(name).roles]:
            raise NotFoundException(f"The role with name {role} cannot be found in instance profile {name}.")
        return super().remove_role_from_instance_profile()


def extend_moto() -> None:
    """Let `Iam` answer IAM's requests."""
    iam_urls.url_paths["{0}/$"] = Iam.dispatch

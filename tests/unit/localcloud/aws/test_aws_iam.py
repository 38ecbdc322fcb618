"""IAM, where moto does not answer as AWS does."""

from __future__ import annotations

import pytest
from embedded_aws import EmbeddedAws


def test_a_role_that_is_not_in_an_instance_profile_cannot_be_taken_out_of_it(aws: EmbeddedAws) -> None:
    iam, role = aws.client("iam"), aws.role().rpartition("/")[2]
    iam.create_instance_profile(InstanceProfileName=f"of-{role}")
    with pytest.raises(iam.exceptions.NoSuchEntityException, match=role):
        iam.remove_role_from_instance_profile(InstanceProfileName=f"of-{role}", RoleName=role)
    iam.add_role_to_instance_profile(InstanceProfileName=f"of-{role}", RoleName=role)
    iam.remove_role_from_instance_profile(InstanceProfileName=f"of-{role}", RoleName=role)
    assert iam.get_instance_profile(InstanceProfileName=f"of-{role}")["InstanceProfile"]["Roles"] == []

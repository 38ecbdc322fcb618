"""Instance profiles of the embedded IAM service."""

from __future__ import annotations

from embedded_aws import EmbeddedAws


def test_instance_profiles_are_listed_by_their_path(aws: EmbeddedAws) -> None:
    iam = aws.client("iam")
    iam.create_instance_profile(InstanceProfileName="theirs", Path="/karpenter/us-west-2/demo/")
    iam.create_instance_profile(InstanceProfileName="ours")
    try:

        def names(**wanted: str) -> set[str]:
            return {profile["InstanceProfileName"] for profile in iam.list_instance_profiles(**wanted)["InstanceProfiles"]}

        assert names() >= {"theirs", "ours"}
        assert names(PathPrefix="/karpenter/us-west-2/demo/") == {"theirs"}
    finally:
        for name in ("theirs", "ours"):
            iam.delete_instance_profile(InstanceProfileName=name)

"""EKS clusters, add-ons, pod identity associations and tags of the embedded AWS."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_aws import EmbeddedAws, blocked_call, eventually

from localcloud import settings
from localcloud.aws.eks import access, addons, clusters, models


def test_a_cluster_is_creating_until_the_machine_has_its_control_plane(aws: EmbeddedAws) -> None:
    eks = aws.client("eks")
    with blocked_call(aws.machine, "create_control_plane"):
        made = eks.create_cluster(name="demo", roleArn=aws.role(), resourcesVpcConfig={"subnetIds": aws.subnets()})["cluster"]
    assert made["status"] == "CREATING"
    assert "endpoint" not in made
    cluster = eventually(lambda: eks.describe_cluster(name="demo")["cluster"], lambda c: c["status"] == "ACTIVE")
    assert cluster["endpoint"] == settings.API_SERVER_URL
    assert base64.b64decode(cluster["certificateAuthority"]["data"]).startswith(b"-----BEGIN CERTIFICATE-----")
    assert aws.machine.calls[0] == ("create_control_plane", "demo", "1.35")


def test_a_cluster_whose_control_plane_cannot_start_is_failed_with_the_reason(aws: EmbeddedAws) -> None:
    aws.machine.failures["create_control_plane"] = "no memory left: 3 GB are needed"
    cluster = aws.cluster()
    assert cluster["status"] == "FAILED"
    assert cluster["health"]["issues"][0]["message"] == "no memory left: 3 GB are needed"
    aws.client("eks").delete_cluster(name="demo")
    assert aws.client("eks").list_clusters()["clusters"] == []


def test_a_second_cluster_is_refused(aws: EmbeddedAws) -> None:
    aws.cluster()
    eks = aws.client("eks")
    with pytest.raises(eks.exceptions.ResourceLimitExceededException, match="room for one cluster"):
        aws.cluster("second")
    with pytest.raises(eks.exceptions.ResourceInUseException):
        aws.cluster("demo")


def test_a_cluster_needs_subnets_in_two_zones(aws: EmbeddedAws) -> None:
    eks, subnet = aws.client("eks"), aws.subnets()[0]
    for subnets, why in (([subnet], "two different AZs"), ([subnet, "subnet-0"], "does not exist")):
        with pytest.raises(eks.exceptions.InvalidParameterException, match=why):
            eks.create_cluster(name="demo", roleArn=aws.role(), resourcesVpcConfig={"subnetIds": subnets})


def test_deleting_a_cluster_removes_its_control_plane_and_its_security_group(aws: EmbeddedAws) -> None:
    group = aws.cluster()["resourcesVpcConfig"]["clusterSecurityGroupId"]
    eks = aws.client("eks")
    assert aws.client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["Tags"]
    eks.delete_cluster(name="demo")
    with pytest.raises(eks.exceptions.ResourceNotFoundException):
        eks.describe_cluster(name="demo")
    assert aws.machine.planes == {}
    with pytest.raises(ClientError, match=r"InvalidGroup\.NotFound"):
        aws.client("ec2").describe_security_groups(GroupIds=[group])


def test_other_requests_are_answered_while_delete_cluster_waits(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_DELETE_WAIT_S", 600)
    aws.cluster()
    eks, ec2 = aws.client("eks"), aws.client("ec2")
    with ThreadPoolExecutor(1) as elsewhere:
        with blocked_call(aws.machine, "delete_control_plane") as deleting:
            deletion = elsewhere.submit(eks.delete_cluster, name="demo")
            assert deleting.wait(60)
            assert ec2.describe_vpcs()["Vpcs"]
            assert not deletion.done()
        assert deletion.result()["cluster"]["status"] == "DELETING"
    assert eks.list_clusters()["clusters"] == []


def test_a_cluster_with_node_groups_is_not_deleted(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.nodegroup(size=0)
    eks = aws.client("eks")
    with pytest.raises(eks.exceptions.ResourceInUseException, match="nodegroups attached"):
        eks.delete_cluster(name="demo")


def test_a_cluster_whose_control_plane_cannot_be_removed_stays_and_can_be_deleted_again(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.machine.failures["delete_control_plane"] = "etcd does not stop"
    eks = aws.client("eks")
    eks.delete_cluster(name="demo")
    assert eks.describe_cluster(name="demo")["cluster"]["health"]["issues"][0]["message"] == "etcd does not stop"
    aws.machine.failures.clear()
    eks.delete_cluster(name="demo")
    assert eks.list_clusters()["clusters"] == []


def test_a_version_that_the_machine_cannot_run_fails_its_update_and_changes_nothing(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.machine.failures["create_control_plane"] = "Kubernetes 1.35 is all there is"
    eks = aws.client("eks")
    update_id = eks.update_cluster_version(name="demo", version="1.36")["update"]["id"]
    update = eventually(lambda: eks.describe_update(name="demo", updateId=update_id)["update"], lambda u: u["status"] != "InProgress")
    assert update["status"] == "Failed"
    assert update["errors"][0]["errorMessage"] == "Kubernetes 1.35 is all there is"
    cluster = eks.describe_cluster(name="demo")["cluster"]
    assert (cluster["version"], cluster["status"]) == ("1.35", "ACTIVE")


def test_updating_a_cluster_keeps_the_configuration_that_is_not_given(aws: EmbeddedAws) -> None:
    before = aws.cluster()["resourcesVpcConfig"]
    eks = aws.client("eks")
    eks.update_cluster_config(name="demo", resourcesVpcConfig={"publicAccessCidrs": ["192.0.2.0/24"]})
    assert eks.describe_cluster(name="demo")["cluster"]["resourcesVpcConfig"] == before | {"publicAccessCidrs": ["192.0.2.0/24"]}
    eks.update_cluster_config(name="demo", logging={"clusterLogging": [{"types": ["api"], "enabled": True}]})
    on, off = eks.describe_cluster(name="demo")["cluster"]["logging"]["clusterLogging"]
    assert (on, off["enabled"], len(off["types"])) == ({"types": ["api"], "enabled": True}, False, 4)


def test_an_add_on_is_installed_and_removed_by_the_machine(aws: EmbeddedAws) -> None:
    aws.cluster()
    eks = aws.client("eks")
    newest = eks.describe_addon_versions(addonName="coredns", kubernetesVersion="1.35")["addons"][0]["addonVersions"][0]
    assert newest["addonVersion"] in settings.COREDNS_IMAGE
    eks.create_addon(clusterName="demo", addonName="coredns", configurationValues="{}", tags={"a": "b"})
    describe = lambda: eks.describe_addon(clusterName="demo", addonName="coredns")["addon"]  # noqa: E731
    addon = eventually(describe, lambda a: a["status"] != "CREATING")
    assert (addon["status"], addon["addonVersion"], addon["tags"]) == ("ACTIVE", newest["addonVersion"], {"a": "b"})
    eks.delete_addon(clusterName="demo", addonName="coredns")
    eventually(lambda: eks.list_addons(clusterName="demo")["addons"], lambda names: names == [])
    assert [call for call in aws.machine.calls if "addon" in call[0]] == [
        ("install_addon", "demo", "coredns"),
        ("remove_addon", "demo", "coredns"),
    ]


def test_an_add_on_that_does_not_run_has_the_reason_in_its_health(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.machine.failures["install_addon"] = "no node to run on"
    eks = aws.client("eks")
    eks.create_addon(clusterName="demo", addonName="coredns")
    describe = lambda: eks.describe_addon(clusterName="demo", addonName="coredns")["addon"]  # noqa: E731
    addon = eventually(describe, lambda a: a["status"] != "CREATING")
    assert (addon["status"], addon["health"]["issues"][0]["message"]) == ("CREATE_FAILED", "no node to run on")


def test_an_unknown_add_on_or_version_is_refused(aws: EmbeddedAws) -> None:
    aws.cluster()
    eks = aws.client("eks")
    for wanted in ({"addonName": "adot"}, {"addonName": "coredns", "addonVersion": "v0.0.1"}):
        with pytest.raises(eks.exceptions.InvalidParameterException, match="not supported"):
            eks.create_addon(clusterName="demo", **wanted)
    assert eks.describe_addon_versions(kubernetesVersion="1.20")["addons"] == []


def test_an_add_ons_pod_identity_associations_are_created_changed_and_deleted_with_it(aws: EmbeddedAws) -> None:
    aws.cluster()
    eks, first, second = aws.client("eks"), aws.role(), aws.role()
    roles = lambda: [  # noqa: E731
        eks.describe_pod_identity_association(clusterName="demo", associationId=each["associationId"])["association"]["roleArn"]
        for each in eks.list_pod_identity_associations(clusterName="demo", namespace="kube-system")["associations"]
    ]
    wanted = [{"serviceAccount": "aws-node", "roleArn": first}]
    eks.create_addon(clusterName="demo", addonName="vpc-cni", podIdentityAssociations=wanted)
    assert roles() == [first]
    eks.update_addon(clusterName="demo", addonName="vpc-cni", podIdentityAssociations=[{"serviceAccount": "aws-node", "roleArn": second}])
    assert roles() == [second]
    eks.delete_addon(clusterName="demo", addonName="vpc-cni")
    eventually(roles, lambda left: left == [])


def test_a_service_account_has_one_pod_identity_association(aws: EmbeddedAws) -> None:
    aws.cluster()
    eks = aws.client("eks")
    wanted = {"clusterName": "demo", "namespace": "mistral", "serviceAccount": "ray", "roleArn": aws.role()}
    made = eks.create_pod_identity_association(**wanted)["association"]
    with pytest.raises(eks.exceptions.ResourceInUseException):
        eks.create_pod_identity_association(**wanted)
    other = aws.role()
    eks.update_pod_identity_association(clusterName="demo", associationId=made["associationId"], roleArn=other)
    found = eks.describe_pod_identity_association(clusterName="demo", associationId=made["associationId"])["association"]
    assert found["roleArn"] == other
    eks.delete_pod_identity_association(clusterName="demo", associationId=made["associationId"])
    assert eks.list_pod_identity_associations(clusterName="demo")["associations"] == []


def test_every_resource_of_eks_has_its_own_tags(aws: EmbeddedAws) -> None:
    cluster, group, role, eks = aws.cluster(), aws.nodegroup(size=0), aws.role(), aws.client("eks")
    entry = eks.create_access_entry(clusterName="demo", principalArn=role)["accessEntry"]
    addon = eks.create_addon(clusterName="demo", addonName="kube-proxy")["addon"]
    identity = eks.create_pod_identity_association(clusterName="demo", namespace="a", serviceAccount="b", roleArn=role)["association"]
    arns = [cluster["arn"], group["nodegroupArn"], entry["accessEntryArn"], addon["addonArn"], identity["associationArn"]]
    for number, arn in enumerate(arns):
        eks.tag_resource(resourceArn=arn, tags={"number": str(number), "x": "1", "y": "2"})
    for number, arn in enumerate(arns):
        eks.untag_resource(resourceArn=arn, tagKeys=["x", "y"])
        assert eks.list_tags_for_resource(resourceArn=arn)["tags"] == {"number": str(number)}
    with pytest.raises(eks.exceptions.ResourceNotFoundException):
        eks.list_tags_for_resource(resourceArn=cluster["arn"] + "x")


def test_the_amis_of_the_clusters_version_are_public_parameters_of_ssm(aws: EmbeddedAws) -> None:
    ssm, base = aws.client("ssm"), "/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/x86_64"
    names = [f"{base}/{kind}/recommended/image_id" for kind in ("standard", "neuron")]
    images = {ssm.get_parameter(Name=name)["Parameter"]["Value"] for name in names}
    assert len(images) == 2
    assert {p["Value"] for p in ssm.get_parameters(Names=names)["Parameters"]} == images
    assert ssm.get_parameter(Name=f"{base}/standard/recommended/release_version")["Parameter"]["Value"].startswith("1.35.")
    with pytest.raises(ssm.exceptions.ParameterNotFound):
        ssm.get_parameter(Name=names[0].replace("1.35", "1.20"))


def test_the_amis_are_found_by_their_path_as_well(aws: EmbeddedAws) -> None:
    ssm, base = aws.client("ssm"), "/aws/service/eks/optimized-ami/1.35"
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=base, Recursive=True)
    found = {each["Name"]: each["Value"] for page in pages for each in page["Parameters"]}
    recommended = f"{base}/amazon-linux-2023/x86_64/neuron/recommended"
    assert {f"{recommended}{leaf}" for leaf in ("", "/image_id", "/image_name", "/release_version")} <= set(found)
    assert all(ssm.get_parameter(Name=name)["Parameter"]["Value"] == value for name, value in list(found.items())[:5])
    leaves = ssm.get_parameters_by_path(Path=recommended)["Parameters"]
    assert sorted(each["Name"].rpartition("/")[2] for each in leaves) == ["image_id", "image_name", "release_version"]
    assert ssm.get_parameters_by_path(Path=base)["Parameters"] == [], "none is directly below it"
    assert aws.get("leftovers") == {}


def with_a_failed_add_on(aws: EmbeddedAws) -> Any:
    """EKS with a cluster whose coredns has failed."""
    aws.machine.failures["install_addon"] = "no node to run on"
    aws.cluster()
    eks = aws.client("eks")
    eks.create_addon(clusterName="demo", addonName="coredns")
    describe = lambda: eks.describe_addon(clusterName="demo", addonName="coredns")["addon"]  # noqa: E731
    eventually(describe, lambda addon: addon["status"] == "CREATE_FAILED")
    return eks


def test_a_failed_add_on_becomes_active_once_it_can_run(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addons, "_RETRY_S", 0.01)
    eks = with_a_failed_add_on(aws)
    describe = lambda: eks.describe_addon(clusterName="demo", addonName="coredns")["addon"]  # noqa: E731
    aws.machine.failures.clear()
    assert eventually(describe, lambda addon: addon["status"] == "ACTIVE")["health"]["issues"] == []


def test_updating_a_failed_add_on_tries_it_again(aws: EmbeddedAws) -> None:
    eks = with_a_failed_add_on(aws)
    describe = lambda: eks.describe_addon(clusterName="demo", addonName="coredns")["addon"]  # noqa: E731
    for cause, outcome in (("no node yet", ("Failed", "UPDATE_FAILED")), (None, ("Successful", "ACTIVE"))):
        aws.machine.failures = {"install_addon": cause} if cause else {}
        update = eks.update_addon(clusterName="demo", addonName="coredns")["update"]
        look = lambda: eks.describe_update(name="demo", updateId=update["id"], addonName="coredns")["update"]  # noqa: B023, E731
        assert (eventually(look, lambda u: u["status"] != "InProgress")["status"], describe()["status"]) == outcome


def test_a_policy_may_be_added_while_a_token_is_being_reviewed(aws: EmbeddedAws) -> None:
    aws.cluster(accessConfig={"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": True})
    cluster = models.find_cluster("demo")
    assert cluster is not None
    policies = cluster.access_entries[settings.USER_ARN]["policies"]
    (arn, association), late = next(iter(policies.items())), access.POLICY_ARN + "AmazonEKSViewPolicy"

    class Slow(dict[str, Any]):
        """An association that adds another one while it is being read."""

        def __getitem__(self, key: str) -> Any:
            policies[late] = association | {"policyArn": late}
            return super().__getitem__(key)

    policies[arn] = Slow(association)
    subject = access.subject(cluster, settings.USER_ARN, None)
    assert subject is not None
    assert subject.groups == (access.group_of(access.CLUSTER_ADMIN, None),)

"""Managed node groups: their instances of the embedded EC2 are nodes."""

from __future__ import annotations

from threading import RLock
from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_aws import EmbeddedAws, blocked_call, eventually
from moto.ec2.models.instances import Instance

from localcloud import settings
from localcloud.aws import moto_lock
from localcloud.aws.ec2 import ec2, instances

CORE_TEMPLATE = {
    "MetadataOptions": {"HttpTokens": "required"},
    "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "core"}]}],
}


def _group(aws: EmbeddedAws, name: str = "inf2") -> dict[str, Any]:
    group: dict[str, Any] = aws.client("eks").describe_nodegroup(clusterName="demo", nodegroupName=name)["nodegroup"]
    return group


def _finished(aws: EmbeddedAws, update: dict[str, Any]) -> dict[str, Any]:
    look = lambda: aws.client("eks").describe_update(name="demo", updateId=update["id"])["update"]  # noqa: E731
    return eventually(look, lambda u: u["status"] != "InProgress")  # type: ignore[no-any-return]


def _scale(aws: EmbeddedAws, size: int) -> dict[str, Any]:
    scaling = {"minSize": 0, "maxSize": 5, "desiredSize": size}
    return _finished(
        aws, aws.client("eks").update_nodegroup_config(clusterName="demo", nodegroupName="inf2", scalingConfig=scaling)["update"]
    )


def test_every_instance_of_a_group_is_a_node_with_its_labels_taints_and_chips(aws: EmbeddedAws) -> None:
    aws.cluster()
    taint = {"key": "aws.amazon.com/neuron", "value": "true", "effect": "NO_SCHEDULE"}
    group = aws.nodegroup(labels={"leeward.dev/pool": "inf2"}, taints=[taint])
    assert group["status"] == "ACTIVE"
    assert len(aws.machine.nodes) == 2
    for instance in aws.instances():
        node, tags = aws.machine.nodes[instance["InstanceId"]], {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
        assert node.name == instance["PrivateDnsName"]
        assert instance["PrivateIpAddress"] in settings.NODE_HOSTS
        assert (tags["eks:cluster-name"], tags["eks:nodegroup-name"]) == ("demo", "inf2")
        assert (node.neuron_chips, node.neuron_cores, node.taints) == (1, 2, ("aws.amazon.com/neuron=true:NoSchedule",))
        assert node.labels == {
            "leeward.dev/pool": "inf2",
            "eks.amazonaws.com/nodegroup": "inf2",
            "eks.amazonaws.com/capacityType": "ON_DEMAND",
            "node.kubernetes.io/instance-type": "inf2.8xlarge",
            "topology.kubernetes.io/region": settings.REGION,
            "topology.kubernetes.io/zone": instance["Placement"]["AvailabilityZone"],
        }
    assert {node.zone for node in aws.machine.nodes.values()} == set(settings.AVAILABILITY_ZONES[:2])


@pytest.mark.parametrize(
    ("instance_type", "neuron"), [("m6i.large", (0, 0)), ("inf2.8xlarge", (1, 2)), ("inf2.24xlarge", (6, 12)), ("trn1.32xlarge", (16, 32))]
)
def test_neuron_chips_and_cores_are_those_of_the_instance_type(instance_type: str, neuron: tuple[int, int]) -> None:
    assert instances.neuron(instance_type) == neuron


def test_an_instance_has_the_tags_and_security_groups_of_its_launch_template_or_the_clusters_group(aws: EmbeddedAws) -> None:
    cluster, ec2 = aws.cluster(), aws.client("ec2")
    own = ec2.create_security_group(GroupName="own", Description="d", VpcId=cluster["resourcesVpcConfig"]["vpcId"])["GroupId"]
    for name, groups, expected in (("plain", [], cluster["resourcesVpcConfig"]["clusterSecurityGroupId"]), ("own", [own], own)):
        data = CORE_TEMPLATE | ({"SecurityGroupIds": groups} if groups else {})
        template = ec2.create_launch_template(LaunchTemplateName=f"template-{name}", LaunchTemplateData=data)["LaunchTemplate"]
        aws.nodegroup(name, size=1, launchTemplate={"id": template["LaunchTemplateId"], "version": "1"})
        instance = next(i for i in aws.instances() if {"Key": "eks:nodegroup-name", "Value": name} in i["Tags"])
        assert [group["GroupId"] for group in instance["SecurityGroups"]] == [expected]
        assert {"Key": "Name", "Value": "core"} in instance["Tags"]


def test_scaling_adds_nodes_and_removes_the_newest_first(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.nodegroup(size=1)
    first = set(aws.machine.nodes)
    assert _scale(aws, 3)["status"] == "Successful"
    assert len(aws.machine.nodes) == 3
    assert _scale(aws, 1)["status"] == "Successful"
    assert set(aws.machine.nodes) == first, "the newest go first"
    assert len(aws.instances()) == 1


def test_a_terminated_member_leaves_the_cluster_and_is_replaced(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.nodegroup()
    lost = aws.instances()[0]["InstanceId"]
    with blocked_call(aws.machine, "remove_node"):
        stopping = aws.client("ec2").terminate_instances(InstanceIds=[lost])["TerminatingInstances"][0]
    assert stopping["CurrentState"]["Name"] == "shutting-down"
    eventually(lambda: list(aws.machine.nodes), lambda nodes: len(nodes) == 2 and lost not in nodes)
    assert len(eventually(aws.instances, lambda running: len(running) == 2)) == 2
    assert eventually(lambda: _group(aws), lambda group: group["status"] == "ACTIVE")["health"]["issues"] == []


def test_a_node_cannot_be_stopped(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.nodegroup(size=1)
    (node,) = aws.machine.nodes
    with pytest.raises(ClientError, match=f"cannot be stopped here, only terminated: {node}"):
        aws.client("ec2").stop_instances(InstanceIds=[node])
    assert [each["InstanceId"] for each in aws.instances()] == [node]


def test_background_work_holds_the_moto_lock_while_it_changes_motos_state(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, lock = [], RLock()  # unlike a Lock it knows its owner
    launch, terminate = ec2.Ec2Backend.run_instances, Instance.terminate

    def watched_launch(*arguments: Any, **named: Any) -> Any:
        seen.append(("launch", lock._is_owned()))
        return launch(*arguments, **named)

    def watched_end(instance: Instance) -> Any:
        seen.append(("end", lock._is_owned()))
        return terminate(instance)

    aws.cluster()
    monkeypatch.setattr(moto_lock, "MOTO_LOCK", lock)
    monkeypatch.setattr(ec2.Ec2Backend, "run_instances", watched_launch)
    monkeypatch.setattr(Instance, "terminate", watched_end)
    aws.nodegroup()
    _scale(aws, 0)
    assert seen == [("launch", True)] * 2 + [("end", True)] * 2


def test_a_new_version_replaces_every_node_and_adds_the_new_ones_first(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.nodegroup()
    old = set(aws.machine.nodes)
    update = aws.client("eks").update_nodegroup_version(clusterName="demo", nodegroupName="inf2")["update"]
    assert _finished(aws, update)["status"] == "Successful"
    assert len(aws.machine.nodes) == 2
    assert not old & set(aws.machine.nodes)
    calls = [call[0] for call in aws.machine.calls if call[0] in ("join_node", "remove_node")]
    assert calls == ["join_node"] * 4 + ["remove_node"] * 2


def test_a_new_version_is_accepted_at_once_while_the_group_scales(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.nodegroup(size=1)
    eks, scaling = aws.client("eks"), {"minSize": 0, "maxSize": 5, "desiredSize": 2}
    with blocked_call(aws.machine, "join_node") as joining:
        eks.update_nodegroup_config(clusterName="demo", nodegroupName="inf2", scalingConfig=scaling)
        assert joining.wait(60)
        old = {instance["InstanceId"] for instance in aws.instances()}
        update = eks.update_nodegroup_version(clusterName="demo", nodegroupName="inf2")["update"]
    assert _finished(aws, update)["status"] == "Successful"
    assert len(aws.machine.nodes) == 2
    assert not old & set(aws.machine.nodes)


def test_instances_launched_before_a_failed_launch_belong_to_the_group(aws: EmbeddedAws) -> None:
    cluster, ec2 = aws.cluster(), aws.client("ec2")
    vpc = cluster["resourcesVpcConfig"]["vpcId"]
    subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.20.{n}.0/24")["Subnet"]["SubnetId"] for n in (7, 8)]
    aws.nodegroup(size=0, subnets=subnets)
    ec2.delete_subnet(SubnetId=subnets[0])
    update = _scale(aws, 2)
    assert update["status"] == "Failed"
    assert f"The subnet ID '{subnets[0]}' does not exist" in update["errors"][0]["errorMessage"]
    assert len(aws.instances()) == len(aws.machine.nodes) == 1
    aws.client("eks").delete_nodegroup(clusterName="demo", nodegroupName="inf2")
    eventually(lambda: aws.client("eks").list_nodegroups(clusterName="demo")["nodegroups"], lambda names: names == [])
    assert aws.instances() == []


def test_a_node_that_cannot_join_shows_in_the_groups_health_and_leaves_nothing(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.machine.failures["join_node"] = "kubelet did not become Ready"
    group = aws.nodegroup()
    assert group["status"] == "CREATE_FAILED"
    assert [(issue["code"], issue["message"]) for issue in group["health"]["issues"]] == [
        ("NodeCreationFailure", "kubelet did not become Ready")
    ] * 2
    assert aws.instances() == []
    assert [call[0] for call in aws.machine.calls].count("remove_node") == 2


def test_a_group_whose_replacement_fails_is_degraded_and_recovers_when_scaled_again(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.nodegroup()
    aws.machine.failures["join_node"] = "no address left"
    update = _scale(aws, 3)
    assert (update["status"], update["errors"][0]["errorMessage"]) == ("Failed", "no address left")
    assert _group(aws)["status"] == "DEGRADED"
    aws.machine.failures.clear()
    assert _scale(aws, 3)["status"] == "Successful"
    assert (_group(aws)["status"], len(aws.machine.nodes)) == ("ACTIVE", 3)


def test_deleting_a_group_removes_every_node(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.nodegroup()
    eks = aws.client("eks")
    assert eks.delete_nodegroup(clusterName="demo", nodegroupName="inf2")["nodegroup"]["status"] == "DELETING"
    eventually(lambda: eks.list_nodegroups(clusterName="demo")["nodegroups"], lambda names: names == [])
    assert aws.machine.nodes == {}
    assert aws.instances() == []
    assert "enis" not in aws.get("leftovers")["ec2/us-west-2"]
    assert "volumes" not in aws.get("leftovers")["ec2/us-west-2"]


def test_a_group_whose_node_cannot_be_removed_stays_until_it_is_deleted_again(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.nodegroup()
    aws.machine.failures["remove_node"] = "kubelet does not stop"
    eks = aws.client("eks")
    eks.delete_nodegroup(clusterName="demo", nodegroupName="inf2")
    group = eventually(lambda: _group(aws), lambda g: g["status"] == "DELETE_FAILED")
    assert group["health"]["issues"][0]["code"] == "NodeTerminationFailure"
    aws.machine.failures.clear()
    eks.delete_nodegroup(clusterName="demo", nodegroupName="inf2")
    eventually(lambda: eks.list_nodegroups(clusterName="demo")["nodegroups"], lambda names: names == [])


def test_a_node_group_with_wrong_arguments_is_refused(aws: EmbeddedAws) -> None:
    aws.cluster()
    eks = aws.client("eks")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"scalingConfig": {"minSize": 1, "maxSize": 2, "desiredSize": 3}}, "minSize <= desiredSize"),
        ({"subnets": ["subnet-0"]}, "does not exist"),
        ({"launchTemplate": {"id": "lt-0"}}, "can't be found"),
    ]
    for wanted, why in wrong:
        with pytest.raises(eks.exceptions.InvalidParameterException, match=why):
            aws.nodegroup(**wanted)
    assert eks.list_nodegroups(clusterName="demo")["nodegroups"] == []


def test_an_instance_without_user_data_is_not_a_node(aws: EmbeddedAws) -> None:
    ec2 = aws.client("ec2")
    made = ec2.run_instances(ImageId="ami-0", MinCount=1, MaxCount=1, SubnetId=aws.subnets()[0], InstanceType="m6i.large")["Instances"][0]
    ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
    assert aws.machine.calls == []


def test_a_group_deleted_while_its_nodes_join_leaves_no_node_behind(aws: EmbeddedAws) -> None:
    aws.cluster()
    eks = aws.client("eks")
    subnets = eks.describe_cluster(name="demo")["cluster"]["resourcesVpcConfig"]["subnetIds"]
    with blocked_call(aws.machine, "join_node"):
        eks.create_nodegroup(clusterName="demo", nodegroupName="inf2", subnets=subnets, nodeRole=aws.role())
        eventually(aws.instances, lambda running: len(running) == 2)
        eks.delete_nodegroup(clusterName="demo", nodegroupName="inf2")
    eventually(lambda: eks.list_nodegroups(clusterName="demo")["nodegroups"], lambda names: names == [])
    assert aws.machine.nodes == {}
    assert aws.instances() == []


def test_a_terminated_member_whose_node_cannot_be_removed_degrades_its_group(aws: EmbeddedAws) -> None:
    aws.cluster()
    aws.nodegroup()
    aws.machine.failures["remove_node"] = "kubelet does not stop"
    aws.client("ec2").terminate_instances(InstanceIds=[aws.instances()[0]["InstanceId"]])
    group = eventually(lambda: _group(aws), lambda g: g["status"] == "DEGRADED")
    assert group["health"]["issues"][0]["message"] == "kubelet does not stop"
    aws.machine.failures.clear()
    assert _scale(aws, 2)["status"] == "Successful"
    assert len(aws.instances()) == len(aws.machine.nodes) == 2
    assert aws.instances("shutting-down") == []


def test_instances_that_cannot_be_launched_show_in_the_groups_health(aws: EmbeddedAws) -> None:
    aws.cluster()
    group = aws.nodegroup(launchTemplate=_template(aws, {"SecurityGroupIds": ["sg-0"]}))
    assert (group["status"], group["health"]["issues"][0]["code"]) == ("CREATE_FAILED", "AsgInstanceLaunchFailures")


def test_an_unexpected_exception_of_the_machine_is_in_the_groups_health(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    def join_node(node: object) -> str:
        raise ZeroDivisionError("a bug")

    aws.cluster()
    monkeypatch.setattr(aws.machine, "join_node", join_node)
    assert "ZeroDivisionError: a bug" in aws.nodegroup()["health"]["issues"][0]["message"]


def _template(aws: EmbeddedAws, data: dict[str, Any]) -> dict[str, str]:
    made = aws.client("ec2").create_launch_template(LaunchTemplateName="template", LaunchTemplateData=data)["LaunchTemplate"]
    return {"id": made["LaunchTemplateId"], "version": "1"}

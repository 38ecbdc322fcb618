"""Self-managed nodes: instances of CreateFleet and RunInstances join the cluster that their user data names."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from embedded_aws import EmbeddedAws, blocked_call, eventually

from localcloud import settings
from localcloud.aws.ec2 import node_config

CONFIG = """\
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster: {{name: {cluster}, apiServerEndpoint: https://somewhere, certificateAuthority: Zm9v, cidr: 10.100.0.0/16}}
  kubelet:
    config: {{maxPods: 29, registerWithTaints: [{{key: karpenter.sh/unregistered, effect: NoExecute}}]}}
    flags:
    - --node-labels="karpenter.sh/nodepool=inf2,karpenter.sh/capacity-type=on-demand"
    - --register-with-taints=aws.amazon.com/neuron=true:NoSchedule
"""
MIME = """\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="//"

--//
Content-Type: text/x-shellscript; charset="us-ascii"

#!/bin/bash
echo apiVersion: node.eks.aws/v1alpha1

--//
Content-Type: application/node.eks.aws

# Karpenter's
{config}
--//--
"""
LABELS = {"karpenter.sh/nodepool": "inf2", "karpenter.sh/capacity-type": "on-demand"}
TAINTS = ("aws.amazon.com/neuron=true:NoSchedule", "karpenter.sh/unregistered=:NoExecute")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def alone(cluster: str = "demo") -> str:
    return CONFIG.format(cluster=cluster)


def among_scripts(cluster: str = "demo") -> str:
    return MIME.format(config=alone(cluster))


@pytest.mark.parametrize("text", [alone(), among_scripts()])
def test_user_data_contains_cluster_labels_and_taints(text: str) -> None:
    assert node_config.parse(encoded(text)) == node_config.NodeConfig("demo", LABELS, TAINTS)


@pytest.mark.parametrize(
    "user_data", [None, "", "not base64!", encoded("#!/bin/sh\necho hello"), base64.b64encode(b"\x1f\x8b\xff").decode()]
)
def test_user_data_without_a_node_config_names_no_cluster(user_data: str | None) -> None:
    assert node_config.parse(user_data) is None


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig",
        "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: [",
        "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {kubelet: {config: {registerWithTaints: [x]}}}",
    ],
)
def test_a_node_config_that_cannot_be_parsed_is_refused(text: str) -> None:
    with pytest.raises(node_config.InvalidNodeConfig):
        node_config.parse(encoded(text))


class Launch:
    """A cluster, and a launch template for its nodes."""

    def __init__(self, aws: EmbeddedAws, user_data: str) -> None:
        self.aws, self.ec2 = aws, aws.client("ec2")
        vpc = aws.cluster()["resourcesVpcConfig"]
        self.subnets = vpc["subnetIds"]
        self.group = self.ec2.create_security_group(GroupName="nodes", Description="d", VpcId=vpc["vpcId"])["GroupId"]
        data = {"ImageId": "ami-12345678", "UserData": encoded(user_data), "SecurityGroupIds": [self.group], "InstanceType": "m6i.large"}
        template = self.ec2.create_launch_template(LaunchTemplateName="nodes", LaunchTemplateData=data)["LaunchTemplate"]
        self.template = {"LaunchTemplateId": template["LaunchTemplateId"], "Version": "$Latest"}

    def fleet(self, capacity: str = "on-demand") -> dict[str, Any]:
        """Launch one instance by CreateFleet, with the arguments that Karpenter uses."""
        made = self.ec2.create_fleet(
            Type="instant",
            LaunchTemplateConfigs=[
                {
                    "LaunchTemplateSpecification": self.template,
                    "Overrides": [{"InstanceType": "inf2.24xlarge", "SubnetId": self.subnets[1]}],
                }
            ],
            TargetCapacitySpecification={"DefaultTargetCapacityType": capacity, "TotalTargetCapacity": 1},
            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "karpenter.sh/nodepool", "Value": "inf2"}]}],
        )
        return self.described(made["Instances"][0]["InstanceIds"][0])

    def described(self, instance_id: str) -> dict[str, Any]:
        """Return what EC2 describes of the instance."""
        found: dict[str, Any] = self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
        return found

    def node(self, instance_id: str) -> Any:
        """Wait for the instance's node, and return it."""
        return eventually(lambda: self.aws.machine.nodes.get(instance_id), bool)


def test_an_instance_of_a_fleet_joins_the_cluster_of_its_user_data(aws: EmbeddedAws) -> None:
    launch = Launch(aws, among_scripts())
    instance = launch.fleet()
    node = launch.node(instance["InstanceId"])
    zone = instance["Placement"]["AvailabilityZone"]
    assert (node.name, node.instance_type, node.zone, node.region) == (instance["PrivateDnsName"], "inf2.24xlarge", zone, settings.REGION)
    assert (node.neuron_chips, node.neuron_cores, node.taints) == (6, 12, TAINTS)
    assert node.labels.items() >= LABELS.items()


@pytest.mark.parametrize("capacity", ["on-demand", "spot"])
def test_an_instance_of_a_fleet_has_its_launch_templates_security_groups_and_tags(aws: EmbeddedAws, capacity: str) -> None:
    launch = Launch(aws, among_scripts())
    instance = launch.fleet(capacity)
    assert [group["GroupId"] for group in instance["SecurityGroups"]] == [launch.group]
    assert [group["GroupId"] for group in instance["NetworkInterfaces"][0]["Groups"]] == [launch.group]
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert tags["karpenter.sh/nodepool"] == "inf2"
    assert tags["aws:ec2launchtemplate:id"] == launch.template["LaunchTemplateId"]
    assert tags["aws:ec2launchtemplate:version"] == "1"
    assert instance["SubnetId"] == launch.subnets[1]


def test_an_instance_of_run_instances_joins_and_leaves_without_a_replacement(aws: EmbeddedAws) -> None:
    launch = Launch(aws, alone())
    made = launch.ec2.run_instances(MinCount=1, MaxCount=1, LaunchTemplate=launch.template, SubnetId=launch.subnets[0])["Instances"][0]
    launch.node(made["InstanceId"])
    launch.ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
    eventually(lambda: launch.described(made["InstanceId"])["State"]["Name"], lambda state: state == "terminated")
    assert not aws.machine.nodes
    assert aws.instances() == []


@pytest.mark.parametrize("text", ["#!/bin/sh", alone("another"), "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig"])
def test_an_instance_whose_user_data_names_no_existing_cluster_runs_without_a_node(aws: EmbeddedAws, text: str) -> None:
    launch = Launch(aws, text)
    instance = launch.fleet()
    aws.nodegroup(size=1)
    assert instance["State"]["Name"] == "running"
    assert instance["InstanceId"] not in aws.machine.nodes


def test_a_node_that_cannot_join_leaves_its_instance_running(aws: EmbeddedAws) -> None:
    launch = Launch(aws, alone())
    aws.machine.failures["join_node"] = "kubelet did not become Ready"
    instance = launch.fleet()
    eventually(lambda: [call[0] for call in aws.machine.calls], lambda calls: "join_node" in calls)
    assert launch.described(instance["InstanceId"])["State"]["Name"] == "running"
    assert not aws.machine.nodes


def test_an_instance_terminated_while_its_node_joins_leaves_no_node(aws: EmbeddedAws) -> None:
    launch = Launch(aws, alone())
    with blocked_call(aws.machine, "join_node"):
        instance_id = launch.fleet()["InstanceId"]
        launch.ec2.terminate_instances(InstanceIds=[instance_id])
    eventually(lambda: [call[0] for call in aws.machine.calls], lambda calls: "remove_node" in calls and "join_node" in calls)
    eventually(lambda: aws.machine.nodes, lambda nodes: not nodes)
    assert eventually(lambda: launch.described(instance_id)["State"]["Name"], lambda state: state != "shutting-down") == "terminated"


def test_an_instance_of_a_managed_group_joins_by_its_group_and_not_by_its_user_data(aws: EmbeddedAws) -> None:
    launch = Launch(aws, alone())
    aws.nodegroup(size=1, launchTemplate={"id": launch.template["LaunchTemplateId"], "version": "1"})
    assert [call[0] for call in aws.machine.calls].count("join_node") == 1
    (node,) = aws.machine.nodes.values()
    assert node.taints == ()

"""Karpenter: its node pools, its readiness, and the removal of everything that it created."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedded_aws import EmbeddedAws
from kubernetes_server import Server

from blocks.errors import TimedOut
from blocks.parameters import Inf2Nodes, Infrastructure, Karpenter
from drills.kubernetes import manifests
from drills.kubernetes.api import Api
from drills.runner.waiting import Pending
from localcloud.aws import ssm
from tasks.cluster import ami, karpenter, karpenter_orphans
from tasks.support import gomodule
from tasks.support.commands import CommandFailed
from tasks.terraform.infrastructure import Provisioning

MADE = Provisioning("queue", "profile", {"core": ("subnet-1", "subnet-2"), "inf2": ("subnet-2",)}, "sg-1", {"leeward:name": "demo"})
READY = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def put(server: Server, collection: str, name: str, **content: Any) -> None:
    server.objects[f"{collection}/{name}"] = {"metadata": {"name": name, "labels": {}, "uid": name}, **content}


def pools(**changes: Any) -> dict[tuple[str, str], dict[str, Any]]:
    made = karpenter.node_pools(Infrastructure(**changes), MADE)
    return {(thing["kind"], thing["metadata"]["name"]): thing["spec"] for thing in made}


def test_the_node_pools_have_the_values_of_the_parameters() -> None:
    inf2 = Inf2Nodes(instance_type="inf2.xlarge", fallback_types=("inf2.8xlarge",), count=4, disk_gib=300)
    found = pools(inf2_nodes=inf2, karpenter=Karpenter(ami_alias="al2023@v20260423", empty_for_s=30))
    pool, node_class = found["NodePool", "inf2"], found["EC2NodeClass", "inf2"]
    types = next(r["values"] for r in pool["template"]["spec"]["requirements"] if r["key"] == "node.kubernetes.io/instance-type")
    assert types == ["inf2.xlarge", "inf2.8xlarge"]
    assert pool["disruption"]["consolidateAfter"] == "30s"
    assert node_class["amiSelectorTerms"] == [{"alias": "al2023@v20260423"}]
    assert node_class["blockDeviceMappings"][0]["ebs"]["volumeSize"] == "300Gi"
    assert node_class["subnetSelectorTerms"] == [{"id": "subnet-2"}]
    assert node_class["tags"] == {"leeward:name": "demo"}


def test_the_inf2_pool_has_room_for_a_second_ray_cluster() -> None:
    assert pools(inf2_nodes=Inf2Nodes(count=4))["NodePool", "inf2"]["limits"] == {"nodes": 8}


def test_core_nodes_may_be_in_zones_without_inf2() -> None:
    assert pools()["EC2NodeClass", "core"]["subnetSelectorTerms"] == [{"id": "subnet-1"}, {"id": "subnet-2"}]


def test_no_node_pool_disrupts_a_node_with_running_pods() -> None:
    for (kind, _), spec in pools().items():
        if kind == "NodePool":
            assert spec["template"]["spec"]["expireAfter"] == "Never"
            assert spec["disruption"]["consolidationPolicy"] == "WhenEmpty"
            allowed = [b["reasons"] for b in spec["disruption"]["budgets"] if b["nodes"] != "0"]
            assert allowed == [["Empty"]]
        else:
            assert spec["metadataOptions"] == {"httpEndpoint": "enabled", "httpTokens": "required", "httpPutResponseHopLimit": 1}


def test_pools_are_ready_only_when_all_pools_and_classes_are(pair: tuple[Server, Api]) -> None:
    server, api = pair
    assert karpenter.pools_ready(api) == Pending("there are none", 80)
    put(server, karpenter.POOLS, "inf2", **READY)
    conditions = [{"type": "SubnetsReady", "status": "False", "reason": "NotFound", "message": "none match"}]
    put(server, karpenter.CLASSES, "inf2", status={"conditions": conditions})
    assert karpenter.pools_ready(api) == Pending("EC2NodeClass inf2: SubnetsReady NotFound none match", 80)
    put(server, karpenter.CLASSES, "inf2", **READY)
    assert karpenter.pools_ready(api) == ["inf2"]


def test_a_condition_of_an_older_generation_does_not_count(pair: tuple[Server, Api]) -> None:
    server, api = pair
    seen = {"type": "Ready", "status": "True", "observedGeneration": 1}
    put(server, karpenter.POOLS, "inf2", status={"conditions": [seen]})
    put(server, karpenter.CLASSES, "inf2", status={"conditions": [seen]})
    for path in (f"{karpenter.POOLS}/inf2", f"{karpenter.CLASSES}/inf2"):
        server.objects[path]["metadata"]["generation"] = 1
    assert karpenter.pools_ready(api) == ["inf2"]
    server.objects[f"{karpenter.CLASSES}/inf2"]["metadata"]["generation"] = 2
    assert karpenter.pools_ready(api) == Pending("EC2NodeClass inf2: Karpenter has not processed it yet, or not since it was changed", 80)


def test_capacity_errors_are_listed_once_with_the_newest_last(pair: tuple[Server, Api]) -> None:
    server, api = pair
    for number, (when, what) in enumerate([("3", "b"), ("1", "a"), ("2", "a")]):
        put(server, "/api/v1/events", str(number), lastTimestamp=when, message=f"NodeClaim x{number} event: {what}")
    assert karpenter.capacity_errors(api) == ["a", "b"]


def test_unready_nodeclaims_are_listed_with_karpenters_reason(pair: tuple[Server, Api]) -> None:
    server, api = pair
    launched = {"type": "Launched", "status": "True"}
    refused = {"type": "Launched", "status": "Unknown", "reason": "LaunchFailed", "message": "UnauthorizedOperation: not you"}
    chipless = {"type": "Initialized", "status": "Unknown", "reason": "ResourceNotRegistered", "message": "no aws.amazon.com/neuron"}
    late = {"type": "Registered", "status": "Unknown", "reason": "NodeNotFound"}
    put(server, karpenter.CLAIMS, "a", status={"conditions": [chipless, late, refused]})
    put(server, karpenter.CLAIMS, "b", status={"conditions": [{"type": "Registered", "status": "True"}, chipless, launched]})
    put(server, karpenter.CLAIMS, "c", status={"conditions": [launched]})
    put(server, karpenter.CLAIMS, "d")
    assert karpenter.unready_claims(api) == [
        "NodeClaim a not Launched: LaunchFailed UnauthorizedOperation: not you",
        "NodeClaim b not Initialized: ResourceNotRegistered no aws.amazon.com/neuron",
    ]


def test_node_pools_are_deleted_before_their_nodes_and_those_before_the_classes(pair: tuple[Server, Api]) -> None:
    server, api = pair
    for collection in (karpenter.CLASSES, karpenter.CLAIMS, karpenter.POOLS):
        put(server, collection, "inf2")
    karpenter.remove_nodes(api, lambda seen: None)
    gone = [path.rpartition("/")[0] for method, path, _ in server.requests if method == "DELETE"]
    assert gone == [karpenter.POOLS, karpenter.CLAIMS, karpenter.CLASSES]


def test_a_node_that_is_not_removed_is_named_in_the_error(pair: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch) -> None:
    server, api = pair
    monkeypatch.setattr(karpenter, "NODES_GONE_WITHIN_S", 0.0)
    put(server, karpenter.CLAIMS, "inf2-abc")
    server.answers["DELETE", f"{karpenter.CLAIMS}/inf2-abc"] = (200, json.dumps({}).encode())
    with pytest.raises(TimedOut, match="inf2-abc"):
        karpenter.remove_nodes(api, lambda seen: None)


def launch(aws: EmbeddedAws, name: str, tags: dict[str, str]) -> str:
    ec2 = aws.client("ec2")
    made = [{"Key": key, "Value": value} for key, value in tags.items()]
    template = [{"ResourceType": "launch-template", "Tags": made}]
    ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"ImageId": "ami-12345678"}, TagSpecifications=template)
    started = ec2.run_instances(
        ImageId="ami-12345678",
        InstanceType="inf2.8xlarge",
        MinCount=1,
        MaxCount=1,
        SubnetId=aws.subnets()[0],
        TagSpecifications=[{"ResourceType": "instance", "Tags": made}],
    )
    return str(started["Instances"][0]["InstanceId"])


def test_only_orphans_of_the_same_cluster_are_removed(aws: EmbeddedAws) -> None:
    ours = launch(aws, "ours", {"eks:eks-cluster-name": "demo", "karpenter.sh/nodepool": "inf2"})
    other = launch(aws, "other", {"eks:eks-cluster-name": "another", "karpenter.sh/nodepool": "inf2"})
    by_hand = launch(aws, "by-hand", {"karpenter.sh/nodepool": "inf2"})
    done = karpenter_orphans.remove(aws, "demo", lambda seen: None)
    assert done[0] == f"terminated {ours}"
    assert len(done) == 2
    assert done[1].startswith("deleted lt-")
    assert {i["InstanceId"] for i in aws.instances()} == {other, by_hand}
    assert karpenter_orphans.remove(aws, "demo", lambda seen: None) == []


def test_a_karpenter_out_of_reach_loses_its_permissions(aws: EmbeddedAws) -> None:
    iam, role = aws.client("iam"), aws.role().rpartition("/")[2]
    rights = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "*"}]}
    for name in ("launch", "end"):
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(rights))
    karpenter_orphans.remove_rights(aws, role)
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == []
    karpenter_orphans.remove_rights(aws, role)
    karpenter_orphans.remove_rights(aws, karpenter.role_name("demo", "us-west-2"))  # there is none


def test_karpenters_role_has_the_name_that_terraform_gives_it() -> None:
    text = (manifests.MANIFESTS.parent / "terraform" / "names.tf").read_text()
    for line in (
        'prefix      = "leeward-${var.name}"',
        'role_prefix = "${local.prefix}-${var.region}"',
        '= "${local.role_prefix}-karpenter"',
    ):
        assert line in text
    assert karpenter.role_name("demo", "us-west-2") == "leeward-demo-us-west-2-karpenter"


class Ec2:
    """An EC2 in which Karpenter launches another instance after the first is terminated."""

    def __init__(self) -> None:
        self.alive, self.more = ["i-1"], ["i-2"]

    def client(self, _: str) -> Ec2:
        return self

    def can_paginate(self, _: str) -> bool:
        return True

    def get_paginator(self, name: str) -> Any:
        instances = [{"InstanceId": one} for one in self.alive]
        page = {"Reservations": [{"Instances": instances}]} if name == "describe_instances" else {"LaunchTemplates": []}
        return SimpleNamespace(paginate=lambda **_: [page])

    def terminate_instances(self, **_: Any) -> None:
        self.alive, self.more = self.more, []


def test_instances_that_karpenter_launches_meanwhile_are_terminated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(karpenter_orphans, "LOOK_EVERY_S", 0.01)
    assert karpenter_orphans.remove(Ec2(), "demo", lambda seen: None) == ["terminated i-1, i-2"]


def test_the_pinned_karpenter_is_the_version_of_the_embedded_cloud() -> None:
    pinned = [
        gomodule.pinned_version(karpenter.MODULE, (folder / "karpenter" / "go.mod").read_text())
        for folder in (manifests.MANIFESTS, manifests.MANIFESTS.parent / "localcloud" / "build" / "go")
    ]
    assert pinned[0] == pinned[1]


def test_a_go_module_without_a_pin_is_an_error() -> None:
    with pytest.raises(CommandFailed, match="nobody/knows"):
        gomodule.pinned_version("nobody/knows", "module x\n\nrequire other v1.0.0\n")


def test_the_chart_is_rendered_without_the_users_helm_and_without_its_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for `helm` that complains about every setting and folder of the user's that reaches it."""
    program = tmp_path / "helm"
    complaint = 'env | grep -E "^HELM_(DEBUG|PLUGINS|NAMESPACE)|=/users-" >&2; echo "WARNING: a plug-in is broken" >&2'
    program.write_text(f"#!/bin/sh\n{complaint}\n{complaint.split(' >&2')[0]} && exit 1\necho 'kind: Deployment'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("HELM_DEBUG", "HELM_PLUGINS", "HELM_NAMESPACE", "HELM_DATA_HOME", "HELM_CONFIG_HOME", "HELM_CACHE_HOME"):
        monkeypatch.setenv(name, "/users-own")
    module = gomodule.Module("v1.0.0", tmp_path)
    assert karpenter.chart(module, "v1.35.4", "demo", "queue") == [{"kind": "Deployment"}]


def node_class(alias: str, kubernetes: str = "1.35", amis: tuple[str, ...] = ()) -> dict[str, Any]:
    """An EC2NodeClass as it is in the cluster."""
    metadata = {"name": "inf2", "annotations": {ami.OF_KUBERNETES: kubernetes}, "labels": {"app.kubernetes.io/part-of": "leeward"}}
    return {
        "metadata": metadata,
        "spec": {"amiSelectorTerms": [{"alias": alias}]},
        "status": {**READY["status"], "amis": [{"id": a} for a in amis]},
    }


def chosen(aws: EmbeddedAws, running: dict[str, Any] | None, alias: str = ami.LATEST, kubernetes: str = "1.35") -> str:
    wanted = Infrastructure(karpenter=Karpenter(ami_alias=alias), kubernetes_version=kubernetes)
    return ami.pinned(aws, wanted, running).karpenter.ami_alias


def test_the_newest_release_of_the_amis_is_found_once_and_kept(aws: EmbeddedAws) -> None:
    newest = f"al2023@v{ssm.DATES[-1]}"
    assert chosen(aws, None) == newest
    assert chosen(aws, node_class("al2023@v20200101")) == "al2023@v20200101", "what runs stays"
    assert chosen(aws, node_class("al2023@v20200101", kubernetes="1.34")) == newest, "it was for another Kubernetes"
    assert chosen(aws, node_class("al2023@latest")) == newest, "a stack of an earlier version of this pipeline"
    assert chosen(aws, node_class("al2023@v20200101"), alias="al2023@v20210101") == "al2023@v20210101"


def test_without_a_release_for_that_kubernetes_the_reason_is_said(aws: EmbeddedAws) -> None:
    with pytest.raises(ami.NoRelease, match=r"Kubernetes 1\.20"):
        ami.newest(aws, "1.20")


def test_a_newer_ami_is_awaited_until_karpenter_has_noticed_every_old_node(pair: tuple[Server, Api]) -> None:
    server, api = pair
    server.objects[f"{karpenter.CLASSES}/inf2"] = node_class("al2023@v20200101", amis=("ami-1",))
    status = {"imageID": "ami-1", "conditions": []}
    put(server, karpenter.CLAIMS, "old", spec={"nodeClassRef": {"name": "inf2"}}, status=status)
    assert karpenter.drift_noticed(api) is True
    assert karpenter.set_ami(api, "al2023@v20210101") == ["inf2"]
    assert karpenter.set_ami(api, "al2023@v20210101") == []
    server.objects[f"{karpenter.CLASSES}/inf2"]["status"]["amis"] = [{"id": "ami-2"}]
    found = karpenter.drift_noticed(api)
    assert isinstance(found, Pending)
    assert "old" in found.seen
    status["conditions"] = [{"type": "Drifted", "status": "True"}]
    put(server, karpenter.CLAIMS, "old", spec={"nodeClassRef": {"name": "inf2"}}, status=status)
    assert karpenter.drift_noticed(api) is True

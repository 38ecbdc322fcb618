"""A cluster of the embedded EKS that is created by single API calls, without Terraform: for tests of the machine behind it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kubernetes import client

from drills.kubernetes.api import Api
from localcloud import paths, settings

Aws = Callable[[str], Any]
NAME = "bare"
NODE_GROUPS: dict[str, dict[str, Any]] = {
    "core": {"instanceTypes": ["m5.large"]},
    "inf2": {
        "instanceTypes": ["inf2.8xlarge"],
        "taints": [{"key": "aws.amazon.com/neuron", "value": "true", "effect": "NO_SCHEDULE"}],
    },
}
ADDONS = ("coredns", "eks-pod-identity-agent")
_APPLETS = ("cat", "httpd", "id", "nslookup", "sh", "sleep", "true", "wget")
_FAST = {"Delay": 1, "MaxAttempts": 600}


@contextlib.contextmanager
def subnets(aws: Aws, block: str = "10.30") -> Iterator[list[str]]:
    """Create a VPC with a subnet in each of two zones; yield the subnets' ids."""
    ec2 = aws("ec2")
    vpc = ec2.create_vpc(CidrBlock=f"{block}.0.0/16")["Vpc"]["VpcId"]
    made = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"{block}.{number}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
        for number, zone in enumerate(settings.AVAILABILITY_ZONES[:2])
    ]
    try:
        yield made
    finally:
        for subnet in made:
            ec2.delete_subnet(SubnetId=subnet)
        ec2.delete_vpc(VpcId=vpc)


@contextlib.contextmanager
def _role(aws: Aws, service: str) -> Iterator[str]:
    name = f"bare-{service}"
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": f"{service}.amazonaws.com"}}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    yield aws("iam").create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    aws("iam").delete_role(RoleName=name)


@contextlib.contextmanager
def pod_role(aws: Aws, name: str, namespace: str, account: str) -> Iterator[None]:
    """Give the service account's pods a role of this name that allows everything."""
    iam, eks = aws("iam"), aws("eks")
    actions = ["sts:AssumeRole", "sts:TagSession"]
    statement = {"Effect": "Allow", "Action": actions, "Principal": {"Service": "pods.eks.amazonaws.com"}}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
    iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=policy)
    made = eks.create_pod_identity_association(clusterName=NAME, namespace=namespace, serviceAccount=account, roleArn=role)
    yield
    eks.delete_pod_identity_association(clusterName=NAME, associationId=made["association"]["associationId"])
    iam.delete_role_policy(RoleName=name, PolicyName="all")
    iam.delete_role(RoleName=name)


@contextlib.contextmanager
def instance_profile(aws: Aws) -> Iterator[str]:
    """Create an instance profile with the nodes' role; yield its name."""
    iam, name = aws("iam"), "bare-nodes"
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName="bare-ec2")
    yield name
    iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName="bare-ec2")
    iam.delete_instance_profile(InstanceProfileName=name)


@contextlib.contextmanager
def interruption_queue(aws: Aws, queue: str) -> Iterator[None]:
    """Create a queue of this name that receives EC2's events."""
    sqs, events = aws("sqs"), aws("events")
    url = sqs.create_queue(QueueName=queue)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name=queue, EventPattern=json.dumps({"source": ["aws.ec2"]}))
    events.put_targets(Rule=queue, Targets=[{"Id": "queue", "Arn": arn}])
    yield
    events.remove_targets(Rule=queue, Ids=["queue"])
    events.delete_rule(Name=queue)
    sqs.delete_queue(QueueUrl=url)


@contextlib.contextmanager
def running_cluster(aws: Aws, groups: Iterable[str] = tuple(NODE_GROUPS)) -> Iterator[str]:
    """Create an ACTIVE cluster with two nodes of each of these NODE_GROUPS and the ADDONS; yield its name, and delete it afterwards."""
    eks = aws("eks")
    with subnets(aws) as networks, _role(aws, "eks") as own, _role(aws, "ec2") as nodes:
        eks.create_cluster(name=NAME, version="1.35", roleArn=own, resourcesVpcConfig={"subnetIds": networks})
        try:
            eks.get_waiter("cluster_active").wait(name=NAME, WaiterConfig=_FAST)
            for group in groups:
                labels = {"pool": group, "leeward.dev/pool": group}
                create_nodes(aws, group, nodes, networks, 2, labels=labels, **NODE_GROUPS[group])
            for group in groups:
                eks.get_waiter("nodegroup_active").wait(clusterName=NAME, nodegroupName=group, WaiterConfig=_FAST)
            for addon in ADDONS:
                eks.create_addon(clusterName=NAME, addonName=addon)
            for addon in ADDONS:
                eks.get_waiter("addon_active").wait(clusterName=NAME, addonName=addon, WaiterConfig=_FAST)
            yield NAME
        finally:
            _delete(eks)


def api() -> Api:
    """Return the pipeline's client of the cluster, authenticated by a client certificate."""
    pki = paths.DATA_DIR / "cluster" / "pki"
    configuration = client.Configuration(host=settings.API_SERVER_URL)
    configuration.ssl_ca_cert = str(pki / "ca.crt")
    configuration.cert_file, configuration.key_file = str(pki / "machine.crt"), str(pki / "machine.key")
    return Api(client.ApiClient(configuration))


def create_nodes(aws: Aws, group: str, role: str, networks: list[str], count: int, **more: Any) -> None:
    """Start the creation of a node group of `count` nodes."""
    size = {"minSize": count, "maxSize": count, "desiredSize": count}
    aws("eks").create_nodegroup(clusterName=NAME, nodegroupName=group, nodeRole=role, subnets=networks, scalingConfig=size, **more)


def delete_nodes(eks: Any, group: str) -> None:
    """Delete the node group and wait for the end of its deletion."""
    eks.delete_nodegroup(clusterName=NAME, nodegroupName=group)
    eks.get_waiter("nodegroup_deleted").wait(clusterName=NAME, nodegroupName=group, WaiterConfig=_FAST)


def _delete(eks: Any) -> None:
    for group in eks.list_nodegroups(clusterName=NAME)["nodegroups"]:
        delete_nodes(eks, group)
    eks.delete_cluster(name=NAME)
    eks.get_waiter("cluster_deleted").wait(name=NAME, WaiterConfig=_FAST)


def kubectl(*arguments: str, stdin: str | None = None, user: str = "machine") -> str:
    """Run kubectl with a client certificate of the cluster and return its output; AssertionError with its stderr when it fails."""
    pki = paths.DATA_DIR / "cluster" / "pki"
    identity = ["--client-certificate", f"{pki}/{user}.crt", "--client-key", f"{pki}/{user}.key"]
    server = ["--server", settings.API_SERVER_URL, "--certificate-authority", f"{pki}/ca.crt", "--kubeconfig", "/dev/null"]
    argv = [f"{paths.DATA_DIR}/bin/kubectl", *server, *identity, "--cache-dir", str(paths.DATA_DIR / "kubectl"), *arguments]
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, errors="replace", timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def push_busybox() -> str:
    """Push an image with busybox in /bin, linked under the names of _APPLETS, to the cloud's registry; return its reference."""
    links = {f"bin/{name}": "busybox" for name in _APPLETS}
    return push_image("busybox", {"bin/busybox": Path("/bin/busybox")}, links, "/bin", ["/bin/sh"])


def push_redis() -> str:
    """Push an image with this machine's Redis server and the libraries that it loads to the cloud's registry; return its reference."""
    program = Path("/usr/bin/redis-server")
    loaded = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=30, check=True).stdout
    files = {path.lstrip("/"): Path(path) for path in [str(program), *re.findall(r"(/\S+) \(0x", loaded)]}
    return push_image("redis", files, {}, "/usr/bin", ["redis-server"])


def push_image(name: str, files: Mapping[str, Path], links: Mapping[str, str], search_path: str, command: list[str]) -> str:
    """Push an image of these files and symbolic links, by their paths in it, to the cloud's registry; return its reference."""
    layer = _layer(files, links)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": [f"PATH={search_path}"], "Cmd": command},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": _upload(name, config, f"{kind}.config.v1+json"),
        "layers": [_upload(name, layer, f"{kind}.layer.v1.tar")],
    }
    _registry("PUT", f"/v2/{name}/manifests/1", json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")
    return f"{settings.REGISTRY}/{name}:1"


def _layer(files: Mapping[str, Path], links: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, path in files.items():
            tar.add(path.resolve(), name)
        for name, target in links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    return buffer.getvalue()


def _upload(name: str, content: bytes, kind: str) -> dict[str, Any]:
    """Upload the content to the registry and return its descriptor."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    location = _registry("POST", f"/v2/{name}/blobs/uploads/", b"", "")
    path = location.partition(settings.REGISTRY)[2]
    _registry("PUT", f"{path}{'&' if '?' in path else '?'}digest={digest}", content, "application/octet-stream")
    return {"mediaType": kind, "digest": digest, "size": len(content)}


def _registry(method: str, path: str, body: bytes, kind: str) -> str:
    """Send a request to the registry and return the Location of its answer."""
    connection = http.client.HTTPConnection(settings.REGISTRY_HOST, settings.REGISTRY_PORT, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        response = connection.getresponse()
        assert response.status in (201, 202), f"{method} {path}: {response.status} {response.read()[:300]!r}"
        return response.headers.get("Location", "")
    finally:
        connection.close()

"""Nodes, network and pod identity of a running cluster: two core and two inf2 nodes, CoreDNS and the Pod Identity agent installed."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bare_cluster
import boto3
import pytest
from bare_cluster import Aws, kubectl
from botocore.exceptions import ClientError

from localcloud import paths, settings
from localcloud.machine import cgroups
from tasks.cluster import neuron
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("cluster")
PATIENCE = "90s"
ONE_CHIP = ("1", "2")
CHIP = {"limits": {neuron.CHIP: 1}}
ROLE = "pod-identity-test"
ACCOUNT, STRANGER = "reader", "stranger"
"""Service accounts, one with and one without an association."""
AS_AN_SDK_DOES = 'wget -qO- --header "Authorization: $(cat $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE)" "$AWS_CONTAINER_CREDENTIALS_FULL_URI"'
WITH_THE_PODS_OWN_TOKEN = (
    f'wget -qO- --header "Authorization: $(cat /var/run/secrets/kubernetes.io/serviceaccount/token)" {settings.POD_IDENTITY_URL}'
)
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  tolerations: [{{operator: Exists}}]
  nodeSelector: {selector}
  containers:
    - name: main
      image: {image}
      command: [httpd, -f, -p, "8080", -h, /bin]
      readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
      securityContext: {{runAsUser: 1000, runAsNonRoot: true}}
      resources: {resources}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}
"""


@pytest.fixture(scope="module")
def cluster(cloud: object, aws: Aws) -> Iterator[str]:
    """A cluster that is created for this file and deleted after it."""
    with bare_cluster.running_cluster(aws) as name:
        yield name
    assert not (paths.DATA_DIR / "cluster").exists()
    assert not list((paths.DATA_DIR / "nodes").iterdir())


@pytest.fixture(scope="module")
def busybox(cluster: str) -> str:
    """An image that nodes can pull."""
    return bare_cluster.push_busybox()


@pytest.fixture(scope="module")
def plugin(cluster: str) -> None:
    """Installs the device plug-in as the pipeline does, and waits until every inf2 node offers its chip."""
    neuron.install_plugin(bare_cluster.api())
    eventually(lambda: [offered(node) for node in nodes() if inf2(node)], [ONE_CHIP, ONE_CHIP])


@pytest.fixture
def pod(busybox: str) -> Iterator[Callable[..., str]]:
    """A function that runs a pod which serves its /bin over HTTP, behind a service of its name, and returns the name when it is ready."""
    made = []

    def run(name: str, selector: dict[str, str] | None = None, resources: dict[str, Any] | None = None, wait: bool = True) -> str:
        made.append(name)
        text = POD.format(name=name, image=busybox, selector=json.dumps(selector or {}), resources=json.dumps(resources or {}))
        kubectl("apply", "-f", "-", stdin=text)
        if wait:
            kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={PATIENCE}")
        return name

    yield run
    for name in made:
        kubectl("delete", "pod,service", name, "--ignore-not-found", "--wait=false")


def nodes() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    return found


def inf2(node: dict[str, Any]) -> bool:
    return bool(node["metadata"]["labels"]["node.kubernetes.io/instance-type"].startswith("inf2"))


def offered(node: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the chips and the cores that the node offers to pods."""
    allocatable = node["status"]["allocatable"]
    return allocatable.get(neuron.CHIP), allocatable.get("aws.amazon.com/neuroncore")


def status_of(host: str, path: str, *, port: int = 80) -> int | str:
    """Return the HTTP status, or the text of the error."""
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError as error:
        return str(error)
    finally:
        connection.close()


def test_every_node_is_an_instance_of_its_zone() -> None:
    found = nodes()
    assert len(found) == 4
    for node in found:
        zone = node["metadata"]["labels"]["topology.kubernetes.io/zone"]
        assert node["spec"]["providerID"].startswith(f"aws:///{zone}/i-")


def test_without_the_device_plugin_no_node_offers_a_chip() -> None:
    assert {offered(node) for node in nodes()} == {(None, None)}


@pytest.mark.usefixtures("plugin")
def test_inf2_nodes_alone_offer_chips_and_are_tainted() -> None:
    for node in nodes():
        assert offered(node) == (ONE_CHIP if inf2(node) else (None, None))
        assert any(taint["key"] == neuron.CHIP for taint in node["spec"].get("taints", [])) == inf2(node)


@pytest.mark.usefixtures("plugin")
def test_a_chip_belongs_to_one_pod_until_that_ends(pod: Callable[..., str]) -> None:
    node = node_with(pod("chip", resources=CHIP))
    assert inf2(node)
    pod("next", {"kubernetes.io/hostname": node["metadata"]["name"]}, CHIP, wait=False)
    kubectl("wait", "--for=condition=PodScheduled=false", "pod/next", f"--timeout={PATIENCE}")
    assert f"Insufficient {neuron.CHIP}" in kubectl(
        "get", "pod", "next", "-o", """jsonpath={.status.conditions[?(@.type=="PodScheduled")].message}"""
    )
    kubectl("delete", "pod", "chip")
    kubectl("wait", "--for=condition=Ready", "pod/next", f"--timeout={PATIENCE}")


def node_with(name: str) -> dict[str, Any]:
    """Return the node that the pod runs on."""
    where = kubectl("get", "pod", name, "-o", "jsonpath={.spec.nodeName}")
    return next(node for node in nodes() if node["metadata"]["name"] == where)


def life_of(name: str) -> str:
    """Return a text that changes when the pod is replaced, ends or restarts."""
    return kubectl("get", "pod", name, "-o", "jsonpath={.metadata.uid} {.status.phase} {.status.containerStatuses[0].containerID}")


def plugin_on(node: dict[str, Any]) -> str:
    """Return the name of the device plug-in's pod on the node; empty while there is none."""
    there = ["-l", neuron.PODS, "--field-selector", f"spec.nodeName={node['metadata']['name']}"]
    return kubectl("-n", neuron.NAMESPACE, "get", "pods", *there, "-o", "name").strip()


def registrations(plugin: str) -> int:
    """Return how often this pod of the plug-in has registered its chips with a kubelet; 0 while its log cannot be read."""
    try:
        return kubectl("-n", neuron.NAMESPACE, "logs", plugin).count(f"{neuron.CHIP}: kubelet knows of 1")
    except AssertionError:
        return 0


@pytest.mark.usefixtures("plugin")
def test_a_replaced_device_plugin_offers_the_chip_again_and_a_running_worker_keeps_it(pod: Callable[..., str]) -> None:
    node = node_with(pod("worker", resources=CHIP))
    alive, before = life_of("worker"), plugin_on(node)
    kubectl("-n", neuron.NAMESPACE, "delete", before)
    eventually(lambda: (after := plugin_on(node)) not in ("", before) and registrations(after), 1)
    eventually(lambda: offered(node_with("worker")), ONE_CHIP)
    assert life_of("worker") == alive


def test_pods_find_services_by_name_on_other_nodes(pod: Callable[..., str]) -> None:
    server, client = pod("server", {"pool": "inf2"}), pod("client", {"pool": "core"})
    # The client's node may learn a moment later than kubectl that the server is ready.
    eventually(lambda: fetched(client, f"http://{server}.default.svc.cluster.local/busybox"), True)
    found = kubectl("exec", client, "--", "nslookup", "kubernetes.default.svc.cluster.local")
    assert "172.20.0.1" in found


def fetched(pod: str, url: str) -> bool:
    try:
        kubectl("exec", pod, "--", "wget", "-qO", "/dev/null", url)
    except AssertionError:
        return False
    return True


def test_the_host_reaches_services_and_pods_by_their_addresses(pod: Callable[..., str]) -> None:
    name = pod("reached")
    service = kubectl("get", "service", name, "-o", "jsonpath={.spec.clusterIP}")
    eventually(lambda: status_of(service, "/busybox"), 200)
    assert status_of(kubectl("get", "pod", name, "-o", "jsonpath={.status.podIP}"), "/busybox", port=8080) == 200


def test_pods_reach_the_aws_endpoint_by_the_address_that_the_host_uses(pod: Callable[..., str]) -> None:
    assert "ok" in kubectl("exec", pod("asking"), "--", "wget", "-qO-", f"{settings.AWS_ENDPOINT_URL}/localcloud/health")


def test_the_api_server_reaches_into_pods(pod: Callable[..., str]) -> None:
    name = pod("inside")
    assert kubectl("exec", name, "--", "id", "-u").strip() == "1000"
    assert "ELF" in kubectl("get", "--raw", f"/api/v1/namespaces/default/pods/{name}:8080/proxy/busybox")[:16]
    kubectl("logs", name)


def test_api_server_and_kubelet_refuse_requests_without_credentials() -> None:
    address = nodes()[0]["status"]["addresses"][0]["address"]
    for host, port, path, refused in (
        (settings.API_SERVER_HOST, settings.API_SERVER_PORT, "/api/v1/nodes", 403),
        (address, 10250, "/pods", 401),
    ):
        connection = http.client.HTTPSConnection(host, port, timeout=60, context=ssl._create_unverified_context())
        connection.request("GET", path)
        assert connection.getresponse().status == refused
        connection.close()


def test_a_node_may_not_change_another_nodes_object() -> None:
    first, second = nodes()[:2]
    user = f"kubelet-{first['spec']['providerID'].rpartition('/')[2]}"
    kubectl("annotate", "node", first["metadata"]["name"], "a=b", user=user)
    with pytest.raises(AssertionError, match="only its own Node object"):
        kubectl("annotate", "node", second["metadata"]["name"], "a=b", user=user)


@pytest.mark.usefixtures("plugin")
def test_a_killed_kubelet_is_started_again_and_offers_its_chips_again(pod: Callable[..., str]) -> None:
    node = node_with(pod("steady", resources=CHIP))
    alive, plugin = life_of("steady"), plugin_on(node)
    before = registrations(plugin)
    group = cgroups.processes(f"{cgroups.TREE}/node-{node['spec']['providerID'].rpartition('/')[2]}")
    os.kill(next(pid for pid in group if comm(pid) == "kubelet"), signal.SIGKILL)

    eventually(lambda: registrations(plugin), before + 1)
    eventually(lambda: offered(node_with("steady")), ONE_CHIP)
    assert life_of("steady") == alive


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_a_terminated_instance_takes_its_node_and_pods_along_and_leaves_nothing(cluster: str, pod: Callable[..., str], aws: Aws) -> None:
    eks = aws("eks")
    like = eks.describe_nodegroup(clusterName=cluster, nodegroupName="core")["nodegroup"]
    bare_cluster.create_nodes(aws, "brief", like["nodeRole"], like["subnets"], 1, labels={"brief": "true"})
    eks.get_waiter("nodegroup_active").wait(clusterName=cluster, nodegroupName="brief", WaiterConfig={"Delay": 1, "MaxAttempts": 90})
    pod("short-lived", {"brief": "true"})
    node = next(node for node in nodes() if node["metadata"]["labels"].get("brief"))
    instance = node["spec"]["providerID"].rpartition("/")[2]
    assert cgroups.processes(f"{cgroups.TREE}/node-{instance}")
    aws("ec2").terminate_instances(InstanceIds=[instance])
    eventually(lambda: node["metadata"]["name"] in kubectl("get", "nodes", "-o", "name"), False)
    eventually(lambda: "short-lived" in kubectl("get", "pods", "-o", "name"), False)
    eventually(lambda: cgroups.folders(f"{cgroups.TREE}/node-{instance}"), [])
    assert not (paths.DATA_DIR / "nodes" / instance).exists()
    bare_cluster.delete_nodes(eks, "brief")


@pytest.mark.usefixtures("plugin")
def test_an_instance_of_a_fleet_becomes_the_node_that_its_user_data_describes_until_it_is_terminated(cluster: str, aws: Aws) -> None:
    ec2 = aws("ec2")
    subnet = aws("eks").describe_cluster(name=cluster)["cluster"]["resourcesVpcConfig"]["subnetIds"][1]
    taint = {"key": neuron.CHIP, "value": "true", "effect": "NoSchedule"}
    kubelet = {"config": {"registerWithTaints": [taint]}, "flags": ["--node-labels=leeward.dev/pool=inf2,size=six"]}
    config = {"apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig", "spec": {"cluster": {"name": cluster}, "kubelet": kubelet}}
    data = {"ImageId": "ami-12345678", "UserData": base64.b64encode(json.dumps(config).encode()).decode()}
    template = ec2.create_launch_template(LaunchTemplateName="fleet", LaunchTemplateData=data)["LaunchTemplate"]["LaunchTemplateId"]
    launch = {
        "LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "$Latest"},
        "Overrides": [{"InstanceType": "inf2.24xlarge", "SubnetId": subnet}],
    }
    capacity = {"DefaultTargetCapacityType": "on-demand", "TotalTargetCapacity": 1}
    fleet = ec2.create_fleet(Type="instant", LaunchTemplateConfigs=[launch], TargetCapacitySpecification=capacity)
    (instance,) = fleet["Instances"][0]["InstanceIds"]
    try:
        eventually(lambda: ready(instance), "True")
        eventually(lambda: offered(node_of(instance)), ("6", "12"))
        node = node_of(instance)
        assert (
            node["metadata"]["labels"].items()
            >= {"leeward.dev/pool": "inf2", "size": "six", "node.kubernetes.io/instance-type": "inf2.24xlarge"}.items()
        )
        assert taint in node["spec"]["taints"]
    finally:
        ec2.terminate_instances(InstanceIds=[instance])
        ec2.delete_launch_template(LaunchTemplateId=template)
    eventually(lambda: node_of(instance), {})
    eventually(lambda: cgroups.folders(f"{cgroups.TREE}/node-{instance}"), [])


def node_of(instance: str) -> dict[str, Any]:
    """Return the node of the instance; empty when there is none."""
    return next((node for node in nodes() if node["spec"].get("providerID", "").endswith(f"/{instance}")), {})


def ready(instance: str) -> str:
    conditions = node_of(instance).get("status", {}).get("conditions", [])
    return next((one["status"] for one in conditions if one["type"] == "Ready"), "no node")


def test_nodes_write_to_no_folder_of_the_machine_but_the_clouds(pod: Callable[..., str]) -> None:
    before = time.time()
    kubectl("exec", pod("writer"), "--", "true")
    for folder in ("/var/lib/cni", "/var/lib/kubelet", "/var/log/pods", "/var/log/containers", "/usr/libexec/kubernetes"):
        assert not Path(folder).exists() or Path(folder).stat().st_mtime < before, folder
    assert Path("/proc/sys/kernel/panic").read_text().strip() != "10", "kubelet changed a kernel setting of the machine"


@pytest.fixture(scope="module")
def accounts(cluster: str, aws: Aws) -> Iterator[None]:
    """The two service accounts, and a role for one of them."""
    for account in (ACCOUNT, STRANGER):
        kubectl("create", "serviceaccount", account)
    with bare_cluster.pod_role(aws, ROLE, "default", ACCOUNT):
        yield


@pytest.fixture
def pod_of(accounts: None, busybox: str) -> Iterator[Callable[..., str]]:
    """A function that runs a pod of the service account, with an init container, and returns the pod's name."""
    made = []

    def run(name: str, account: str, **spec: Any) -> str:
        made.append(name)
        common = {"image": busybox, "securityContext": {"runAsUser": 1000, "runAsNonRoot": True}}
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "serviceAccountName": account,
                "terminationGracePeriodSeconds": 0,
                "nodeSelector": {"pool": "core"},
                "initContainers": [{"name": "before", "command": ["true"], **common}],
                "containers": [{"name": "main", "command": ["sleep", "3600"], **common}],
                **spec,
            },
        }
        kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={PATIENCE}")
        return name

    yield run
    for name in made:
        kubectl("delete", "pod", name, "--ignore-not-found", "--wait=false")


def run_in(pod: str, script: str) -> str:
    return kubectl("exec", pod, "--container=main", "--", "sh", "-c", script)


def containers(pod: str) -> list[dict[str, Any]]:
    spec = json.loads(kubectl("get", "pod", pod, "-o", "json"))["spec"]
    return [*spec["initContainers"], *spec["containers"]]


@pytest.mark.parametrize("host_network", [False, True], ids=["its own network", "the node's network"])
def test_a_pod_gets_credentials_of_its_role_with_the_settings_of_the_webhook(
    pod_of: Callable[..., str], cluster: str, host_network: bool
) -> None:
    name = pod_of(f"reads-{str(host_network).lower()}", ACCOUNT, hostNetwork=host_network)
    made = json.loads(run_in(name, AS_AN_SDK_DOES))
    assert made["AccountId"] == settings.ACCOUNT
    endpoint = run_in(name, "echo $AWS_ENDPOINT_URL").strip()
    sts = boto3.client(
        "sts",
        endpoint_url=endpoint,
        region_name=settings.REGION,
        aws_access_key_id=made["AccessKeyId"],
        aws_secret_access_key=made["SecretAccessKey"],
        aws_session_token=made["Token"],
    )
    arn = sts.get_caller_identity()["Arn"]
    assert arn.startswith(f"arn:aws:sts::{settings.ACCOUNT}:assumed-role/{ROLE}/eks-{cluster}-reads-")
    for container in containers(name):
        names = {each["name"] for each in container["env"]}
        assert names >= {"AWS_REGION", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}


def test_a_pod_without_an_association_is_not_changed_and_gets_no_credentials(pod_of: Callable[..., str]) -> None:
    name = pod_of("alone", STRANGER)
    assert not any(container.get("env") for container in containers(name))
    with pytest.raises(AssertionError, match="400"):  # the token that every pod has is for another audience
        run_in(name, WITH_THE_PODS_OWN_TOKEN)


def test_only_tokens_of_pods_with_the_right_audience_and_signature_are_accepted(pod_of: Callable[..., str], cluster: str, aws: Aws) -> None:
    bound = ["--bound-object-kind=Pod", f"--bound-object-name={pod_of('bound', ACCOUNT)}"]
    audience = f"--audience={settings.POD_IDENTITY_SERVICE}"
    assume = aws("eks-auth").assume_role_for_pod_identity
    right = kubectl("create", "token", ACCOUNT, audience, *bound).strip()
    given = assume(clusterName=cluster, token=right)
    assert given["subject"] == {"namespace": "default", "serviceAccount": ACCOUNT}
    assert f"assumed-role/{ROLE}/eks-{cluster}-bound-" in given["assumedRoleUser"]["arn"]
    wrong_audience, of_no_pod = (kubectl("create", "token", ACCOUNT, *more).strip() for more in (bound, [audience]))
    for wrong in (wrong_audience, of_no_pod, with_a_wrong_signature(right)):
        with pytest.raises(ClientError) as refused:
            assume(clusterName=cluster, token=wrong)
        assert refused.value.response["Error"]["Code"] == "InvalidTokenException"


def with_a_wrong_signature(token: str) -> str:
    """Return the token with a signature that is not its own."""
    head, payload, signature = token.split(".")
    return f"{head}.{payload}.{signature[::-1]}"

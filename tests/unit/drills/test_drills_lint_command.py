"""`leeward lint` reads a RayService through a kubeconfig, prints the findings, and its exit code says what they mean."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_server import Server, serving
from test_drills_lint import BUDGET, CHANGES, container, service, worker

from drills.cli import main as command
from drills.kubernetes.api import Api
from drills.lint.gather import read_manifests
from drills.lint.rules import RULES, check

NAMESPACE = "/api/v1/namespaces/models"
SERVICES = "/apis/ray.io/v1/namespaces/models/rayservices"
BUDGETS = "/apis/policy/v1/namespaces/models/poddisruptionbudgets"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A cluster with a sound service."""
    with serving() as (server, api):
        monkeypatch.setattr(command, "connect", lambda *_: api)
        put(server, service())
        yield server


def put(server: Server, ray_service: dict[str, Any]) -> None:
    """Put the service with its pods, head Service and budget into the cluster."""
    name = ray_service["metadata"]["name"]
    server.objects[f"{SERVICES}/{name}"] = ray_service | {"status": {"activeServiceStatus": {"rayClusterName": f"{name}-1"}}}
    for number in (1, 2):
        labels = {"ray.io/cluster": f"{name}-1", "ray.io/node-type": "worker"}
        server.objects[f"{NAMESPACE}/pods/worker-{number}"] = {
            "metadata": {"name": f"worker-{number}", "labels": labels, "annotations": {"karpenter.sh/do-not-disrupt": "true"}},
            "spec": {"nodeName": f"node-{number}"},
        }
    server.objects[f"{NAMESPACE}/services/head"] = {"metadata": {"name": "head"}, "spec": {"clusterIP": "10.0.0.9"}}
    server.objects["/apis/karpenter.sh/v1"] = {"kind": "APIResourceList"}
    server.objects[f"{BUDGETS}/workers"] = {"metadata": {"name": "workers"}, **BUDGET}


def changed(*rules: str) -> dict[str, Any]:
    """The service with these rules broken."""
    ray_service = service()
    for rule in rules:
        CHANGES[rule](ray_service)
    return ray_service


def lint(*more: str) -> int:
    return command.main(["lint", "-n", "models", *more])


def test_a_sound_service_has_no_findings_and_exit_code_0(cluster: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert lint() == 0
    assert capsys.readouterr().out == f"models/chat: {len(RULES)} of {len(RULES)} rules checked, 0 broken\n"


def test_deployments_that_only_the_code_configures_are_named_as_not_read(cluster: Server, capsys: pytest.CaptureFixture[str]) -> None:
    deployments = {"model": {"status": "HEALTHY"}, "Ingress": {"status": "HEALTHY"}}
    status = cluster.objects[f"{SERVICES}/chat"]["status"]
    status["activeServiceStatus"]["applicationStatuses"] = {"llm": {"status": "RUNNING", "serveDeploymentStatuses": deployments}}
    assert lint() == 0
    assert capsys.readouterr().out.startswith("not read: what the code sets for llm/Ingress: serveConfigV2 does not name them\n")


def test_the_worst_finding_comes_first_with_reason_and_remedy(cluster: Server, capsys: pytest.CaptureFixture[str]) -> None:
    put(cluster, changed("images by digest", "head takes no work"))
    assert lint("--service", "chat") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "BREAKS  head takes no work: num-cpus of the head: not set"
    assert lines[1] == "        a replica on the head is lost with it (kuberay#1463)"
    assert lines[2].startswith("        remedy: rayClusterConfig: {headGroupSpec: ")
    assert lines[-1] == f"models/chat: {len(RULES)} of {len(RULES)} rules checked, 2 broken (1 breaks, 1 hint)"


def test_a_service_that_is_only_at_risk_fails_if_strict(cluster: Server) -> None:
    put(cluster, changed("Redis over TLS"))
    assert lint() == 0
    assert lint("--strict") == 1


def test_nothing_in_the_cluster_is_changed(cluster: Server) -> None:
    before = json.dumps(cluster.objects, sort_keys=True)
    lint()
    assert json.dumps(cluster.objects, sort_keys=True) == before


def test_what_the_role_may_not_read_is_named_and_leaves_its_rules_unchecked(
    cluster: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.answers["GET", BUDGETS] = (403, b'{"message": "forbidden"}')
    assert lint() == 0
    printed = capsys.readouterr().out
    assert "not checked: a PodDisruptionBudget for the workers: budgets were not read\n" in printed
    assert "not checked: a drain can go on: budgets were not read\n" in printed
    assert "not read: this role may not list poddisruptionbudgets\n" in printed
    assert f"{len(RULES) - 2} of {len(RULES)} rules checked, 0 broken\n" in printed
    assert lint("--junit", str(tmp_path / "lint.xml")) == 0
    assert [case.get("name") for case in ET.parse(tmp_path / "lint.xml").getroot() if case.find("skipped") is not None] == [
        "a PodDisruptionBudget for the workers",
        "a drain can go on",
    ]


def test_a_service_without_a_cluster_yet_leaves_the_rules_about_pods_unchecked(cluster: Server, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.objects[f"{SERVICES}/chat"] = service()
    assert lint("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["not_read"] == ["no Ray cluster of it exists yet"]
    assert len(found["not_checked"]) == 6


def test_a_redis_in_the_cluster_is_found_by_the_address_of_the_storage(cluster: Server, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.objects["/api/v1/namespaces/data/services/redis"] = {"metadata": {"name": "redis"}, "spec": {"selector": {"app": "redis"}}}
    pod = {"metadata": {"name": "redis-7"}, "spec": {"volumes": [{"name": "data", "emptyDir": {}}]}}
    cluster.objects["/api/v1/namespaces/data/pods/redis-7"] = pod
    options = cluster.objects[f"{SERVICES}/chat"]["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    options["redisAddress"] = "rediss://redis.data:6379"
    assert lint("--json") == 0
    assert json.loads(capsys.readouterr().out)["findings"] == [], "this may be a name of any domain"
    options["redisAddress"] = "rediss://redis.data.svc:6379"
    assert lint("--json") == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [(one["rule"], one["found"]) for one in found] == [("Redis keeps what it has", "redis-7 keeps its data in the pod itself")]
    services = next(query for _, path, query in cluster.requests if path == "/api/v1/namespaces/data/services")
    assert services["fieldSelector"] == ["metadata.name=redis"]
    cluster.answers["GET", "/api/v1/namespaces/data/pods"] = (403, b'{"message": "forbidden"}')
    assert lint() == 0
    assert "not checked: Redis keeps what it has: the pods of Redis were not read\n" in capsys.readouterr().out


def test_a_redis_beside_the_head_goes_with_it(cluster: Server, capsys: pytest.CaptureFixture[str]) -> None:
    labels = {"ray.io/cluster": "chat-1", "ray.io/node-type": "head"}
    keep = {"karpenter.sh/do-not-disrupt": "true"}
    cluster.objects[f"{NAMESPACE}/pods/head"] = {"metadata": {"name": "head", "labels": labels, "annotations": keep}, "spec": {}}
    options = cluster.objects[f"{SERVICES}/chat"]["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    options["redisAddress"] = "rediss://127.0.0.1:6380"
    assert lint("--json") == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [one["found"] for one in found] == ["it runs in the head's own pod: head"]


def test_json_and_junit_have_the_same_findings(cluster: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(cluster, changed("Redis over TLS", "head takes no work"))
    assert lint("--json", "--junit", str(tmp_path / "lint.xml")) == 1
    rows = json.loads(capsys.readouterr().out)["findings"]
    assert [row["rule"] for row in rows] == ["head takes no work", "Redis over TLS"]
    suite = ET.parse(tmp_path / "lint.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == (str(len(RULES)), "1")
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["head takes no work"]
    assert [case.get("name") for case in suite if case.find("system-out") is not None] == ["Redis over TLS"]


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a kubeconfig."""

    def connect(*_: Any) -> Api:
        raise AssertionError("a cluster was asked")

    monkeypatch.setattr(command, "connect", connect)


@pytest.mark.parametrize("from_stdin", [False, True])
def test_a_file_is_checked_without_a_cluster(
    no_cluster: None, from_stdin: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = {"kind": "RayService", **changed("head takes no work")}
    text = yaml.safe_dump_all([{"kind": "Namespace"}, None, {"kind": "List", "items": [{"kind": "Secret"}, written]}])
    (tmp_path / "service.yaml").write_text(text)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert command.main(["lint", "-f", "-" if from_stdin else str(tmp_path / "service.yaml")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "BREAKS  head takes no work: num-cpus of the head: not set"
    assert "not checked: workers on several nodes: pods were not read" in lines
    seen = [rule for rule in RULES if not rule.needs]
    assert lines[-1] == f"models/chat: {len(seen)} of {len(RULES)} rules checked, 1 broken (1 breaks)"


def test_applications_of_which_a_file_names_no_deployment_are_not_read(
    no_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = {"kind": "RayService", **service()}
    written["spec"]["serveConfigV2"] = yaml.safe_dump({"applications": [{"name": "shop", "import_path": "app:shop"}]})
    (tmp_path / "service.yaml").write_text(yaml.safe_dump(written))
    assert command.main(["lint", "-f", str(tmp_path / "service.yaml")]) == 0
    assert "not read: what the code sets for the deployments of shop: serveConfigV2 does not name them" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is no YAML: "),
        ("- a list", "has no RayService"),
        ("kind: RayService", "cannot be read: metadata is missing"),
        ("{kind: RayService, metadata: {generateName: x}, spec: {}}", "cannot be read: metadata.name is missing"),
        ("{kind: RayService, metadata: {name: 7}, spec: {}}", "cannot be read: metadata.name must be text, not a number"),
        ("{kind: RayService, metadata: {name: x}, spec: {}}", "cannot be read: spec.rayClusterConfig is missing"),
        (
            "{kind: RayService, metadata: {name: x}, spec: {rayClusterConfig: {headGroupSpec: {template: {spec: {containers: {a: b}}}}}}}",
            "spec.rayClusterConfig.headGroupSpec.template.spec.containers must be a list, not a mapping",
        ),
        ("kind: Deployment\n---\nkind: RayCluster", "has no RayService, only Deployment, RayCluster"),
        ("kind: ConfigMapList\nitems: null", "has no RayService, only ConfigMapList"),
        ("kind: List\nitems: [1, null, [a]]", "has no RayService"),
        ("# nothing\n---\n# here", "has no RayService"),
        ("{{- if .Values.serve }}\nkind: RayService\n{{- end }}", "line 1; lint reads what kubectl would apply: render the templates"),
        ('resource "x" "y" {\n  body = <<YAML\nkind: RayService\nYAML\n}', "lint reads what kubectl would apply"),
        ("[" * 5000, "nested too deeply"),
        ("a: !!timestamp x", "cannot be read"),
        ("a: 2026-99-99", "cannot be read"),
        (
            "{kind: RayService, metadata: {name: a}}\n---\n{kind: RayService, metadata: {name: b}}",
            "choose one with --service; there are: a, b",
        ),
    ],
)
def test_a_file_without_a_service_to_check_is_refused(
    no_cluster: None, text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "service.yaml").write_text(text)
    assert command.main(["lint", "-f", str(tmp_path / "service.yaml")]) == 2
    assert said in capsys.readouterr().err


def test_a_file_of_bytes_is_refused_and_one_from_windows_is_read(
    no_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "service.yaml"
    file.write_bytes(b"\xff\xfe\x00\xd8\x80")
    assert command.main(["lint", "-f", str(file)]) == 2
    assert "is no YAML: " in capsys.readouterr().err
    file.write_bytes(yaml.safe_dump({"kind": "RayService", **service()}).encode("utf-16"))
    assert command.main(["lint", "-f", str(file)]) == 0


def test_what_other_programs_write_is_read(no_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "service.yaml"
    written = {"kind": "RayService", **changed("images by digest")}
    container(worker(written))["image"] = "registry.example/\N{OWL}"
    lists = {"kind": "List", "items": [{"kind": "RayServiceList", "items": [written]}]}
    crd = "kind: CustomResourceDefinition\nspec: {default: =}\n---\n"
    texts = (
        json.dumps(lists).encode(),  # as ASCII, with two escapes for the owl
        b"\xef\xbb\xbf" + (crd + yaml.safe_dump(lists, allow_unicode=True)).replace("\n", "\r\n").encode(),
    )
    for text in texts:
        file.write_bytes(text)
        assert command.main(["lint", "-f", str(file)]) == 0
        assert "images by digest: registry.example/\N{OWL}" in capsys.readouterr().out
    file.write_text(json.dumps(lists).replace("\\udd89", ""))  # half an owl
    assert command.main(["lint", "-f", str(file)]) == 0
    capsys.readouterr().out.encode()


def test_a_configuration_that_is_no_text_or_of_an_old_kuberay_is_named(
    no_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "service.yaml"
    written = {"kind": "RayService", **changed("two replicas or more of everything")}
    written["spec"]["serveConfigV2"] = yaml.safe_load(written["spec"]["serveConfigV2"])
    file.write_text(yaml.safe_dump(written))
    assert command.main(["lint", "-f", str(file)]) == 1
    assert "not read: serveConfigV2 as text: it is a mapping here, which Kubernetes refuses" in capsys.readouterr().out
    del written["spec"]["serveConfigV2"]
    file.write_text(yaml.safe_dump(written))
    assert command.main(["lint", "-f", str(file)]) == 0
    assert "not read: what is deployed: serveConfigV2 names no application\n" in capsys.readouterr().out
    written["spec"]["serveConfig"] = {"importPath": "app:app"}
    file.write_text(yaml.safe_dump(written))
    assert command.main(["lint", "-f", str(file)]) == 0
    assert "(serveConfig is of KubeRay before 1.1, later ones ignore it)" in capsys.readouterr().out
    for text, said in (
        ("applications:\n  - [unclosed", "serveConfigV2 is no YAML: "),
        ("- a list", "serveConfigV2 must be a mapping, not a list"),
        ("applications: [{deployments: [{num_replicas: 2}]}]", "serveConfigV2.applications[0].deployments[0].name is missing"),
    ):
        written["spec"]["serveConfigV2"] = text
        file.write_text(yaml.safe_dump(written))
        assert command.main(["lint", "-f", str(file)]) == 2
        assert said in capsys.readouterr().err


def beside(tmp_path: Path, *others: Any) -> list[str]:
    """The broken rules of a service in a file that has other things, too."""
    written = {"kind": "RayService", **service()}
    written["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]["redisAddress"] = "rediss://redis:6379"
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([*others, written]))
    gathered = read_manifests((tmp_path / "all.yaml").read_bytes(), "a file", None)
    return [finding.rule.name for finding in check(gathered.living).findings]


@pytest.mark.parametrize(
    ("labels", "spec", "broken"),
    [
        ({"ray.io/node-type": "worker"}, {"minAvailable": 1}, []),
        ({"ray.io/group": "gpu", "ray.io/cluster": "chat-x7k2p"}, {"minAvailable": 1}, []),
        ({"ray.io/node-type": "worker"}, {"minAvailable": 2}, ["a drain can go on"]),
        ({"ray.io/node-type": "worker"}, {"maxUnavailable": 1}, ["a drain can go on"]),
        ({"ray.io/group": "gpu", "ray.io/cluster": "chat"}, {"minAvailable": 1}, ["a PodDisruptionBudget for the workers"]),
        ({"app": "shop"}, {"maxUnavailable": 1}, []),
        ({"app.kubernetes.io/name": "kuberay"}, {"minAvailable": 3}, ["a drain can go on"]),
        (
            {"ray.io/node-type": "worker", "ray.io/cluster": "chat-b-x7k2p"},
            {"minAvailable": 1},
            ["a PodDisruptionBudget for the workers"],
        ),
    ],
)
def test_budgets_beside_a_service_in_a_file_are_read(
    labels: dict[str, str], spec: dict[str, Any], broken: list[str], tmp_path: Path
) -> None:
    budget = {"kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": {"selector": {"matchLabels": labels}, **spec}}
    assert beside(tmp_path, budget) == broken
    elsewhere = {**budget, "metadata": {"name": "b", "namespace": "elsewhere"}}
    assert beside(tmp_path, elsewhere) == []


@pytest.mark.parametrize(
    ("kind", "spec", "broken"),
    [
        ("Deployment", {}, ["Redis keeps what it has"]),
        ("Deployment", {"replicas": 2}, []),
        ("StatefulSet", {"volumeClaimTemplates": [{"metadata": {"name": "data"}}]}, ["a second Redis"]),
        ("DaemonSet", {}, []),
    ],
)
def test_the_redis_beside_a_service_in_a_file_is_read(kind: str, spec: dict[str, Any], broken: list[str], tmp_path: Path) -> None:
    template = {"metadata": {"labels": {"app": "redis"}}, "spec": {"containers": []}}
    workload = {"kind": kind, "metadata": {"name": "r", "namespace": "models"}, "spec": {"template": template, **spec}}
    behind = {"kind": "Service", "metadata": {"name": "redis"}, "spec": {"selector": {"app": "redis"}}}
    assert beside(tmp_path, workload, behind) == broken
    assert beside(tmp_path, workload) == []
    assert beside(tmp_path, {"kind": "Service", "metadata": None}, {"kind": "PodDisruptionBudget"}) == []


def test_two_services_of_one_name_are_not_taken_for_one(no_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "service.yaml"
    other = {**service(), "metadata": {"name": "chat", "namespace": "staging"}}
    file.write_text(yaml.safe_dump_all([{"kind": "RayService", **one} for one in (service(), other)]))
    for words in ([], ["--service", "chat"]):
        assert command.main(["lint", "-f", str(file), *words]) == 2
        assert "there are: chat, chat" in capsys.readouterr().err


def test_a_service_that_is_not_there_is_refused_with_those_that_are(cluster: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert lint("--service", "other") == 2
    assert "namespace 'models' has no RayService 'other'; there are: chat" in capsys.readouterr().err


def test_of_several_services_one_must_be_named(cluster: Server, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.objects[f"{SERVICES}/second"] = service() | {"metadata": {"name": "second", "namespace": "models"}}
    assert lint() == 2
    assert "choose one with --service; there are: chat, second" in capsys.readouterr().err


def test_a_role_that_may_not_read_the_service_itself_is_refused(cluster: Server, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.answers["GET", SERVICES] = (403, b'{"message": "rayservices.ray.io is forbidden"}')
    assert lint() == 2
    assert "forbidden" in capsys.readouterr().err


def test_a_cluster_that_does_not_answer_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as (_, api):
        pass
    monkeypatch.setattr(command, "connect", lambda *_: api)
    assert lint() == 2
    assert "no answer from the API server" in capsys.readouterr().err


def test_the_context_of_a_kubeconfig_decides_which_cluster_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config"
    contexts = [{"name": "there", "context": {"cluster": "c", "user": "u"}}]
    clusters = [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}]
    file.write_text(
        yaml.safe_dump({"contexts": contexts, "clusters": clusters, "users": [{"name": "u", "user": {}}], "current-context": "there"})
    )
    given = command.parser().parse_args(["lint", "--kubeconfig", str(file), "--context", "there"])
    assert isinstance(command.connect(given), Api)
    assert lint("--kubeconfig", str(file), "--context", "elsewhere") == 2
    assert "elsewhere" in capsys.readouterr().err
    assert lint("--kubeconfig", str(tmp_path / "none")) == 2
    assert "name one with --kubeconfig" in capsys.readouterr().err


def test_report_goes_to_the_report_of_a_drill(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["report", "--help"])
    assert "evidence" in capsys.readouterr().out

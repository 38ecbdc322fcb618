"""Lint: a sound service has no findings, and each rule finds its own fault and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from drills.lint.living import Living, service_of, storage_hosts
from drills.lint.rules import RULES, Severity, check

POD = {"metadata": {"labels": {"ray.io/node-type": "worker"}, "annotations": {"karpenter.sh/do-not-disrupt": "true"}}}
BUDGET = {"spec": {"selector": {"matchLabels": {"ray.io/node-type": "worker"}}}}
REDIS = {"metadata": {"name": "redis-1"}, "spec": {"volumes": [{"name": "data", "emptyDir": {}}]}}
IMAGE = "registry.example/ray:2.60.0@sha256:" + "0" * 64


def service() -> dict[str, Any]:
    """A RayService that keeps every rule, written as its users write them."""
    container = {"name": "ray", "image": IMAGE}
    deployment = {
        "name": "model",
        "num_replicas": 2,
        "max_replicas_per_node": 1,
        "max_ongoing_requests": 64,
        "max_queued_requests": 64,
        "graceful_shutdown_timeout_s": 25,
    }
    patient = [{"name": "RAY_SERVE_SLOW_STARTUP_WARNING_S", "value": "600"}]
    return {
        "metadata": {"name": "chat", "namespace": "models"},
        "spec": {
            "excludeHeadPodFromServeSvc": True,
            "serveConfigV2": yaml.safe_dump({"applications": [{"name": "llm", "deployments": [deployment]}]}),
            "rayClusterConfig": {
                "rayVersion": "2.60.0",
                "gcsFaultToleranceOptions": {
                    "redisAddress": "rediss://redis:6379",
                    "redisPassword": {"valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}},
                },
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0"},
                    "headService": {"spec": {"type": "ClusterIP"}},
                    "template": {"spec": {"containers": [{**container, "env": patient}]}},
                },
                "workerGroupSpecs": [{"groupName": "gpu", "replicas": 2, "template": {"spec": {"containers": [container]}}}],
            },
        },
    }


def living(ray_service: dict[str, Any] | None = None, **more: Any) -> Living:
    """The service with two workers on two nodes and a budget for them."""
    pods = tuple({**POD, "metadata": {**POD["metadata"], "name": f"worker-{n}"}, "spec": {"nodeName": f"node-{n}"}} for n in (1, 2))
    seen = {"head_service": {"spec": {"clusterIP": "10.0.0.9"}}, "pods": pods, "budgets": (BUDGET,), "karpenter": True, "redis": ()}
    return Living(ray_service or service(), **{**seen, **more})


def broken(found: Living) -> list[str]:
    """The names of the broken rules."""
    return [finding.rule.name for finding in check(found).findings]


def cluster(ray_service: dict[str, Any]) -> dict[str, Any]:
    return ray_service["spec"]["rayClusterConfig"]


def head(ray_service: dict[str, Any]) -> dict[str, Any]:
    return cluster(ray_service)["headGroupSpec"]


def worker(ray_service: dict[str, Any]) -> dict[str, Any]:
    return cluster(ray_service)["workerGroupSpecs"][0]


def container(group: dict[str, Any]) -> dict[str, Any]:
    return group["template"]["spec"]["containers"][0]


def deployment(**options: Any) -> Callable[[dict[str, Any]], None]:
    """A change of the one deployment; None takes an option away."""

    def change(ray_service: dict[str, Any]) -> None:
        config = yaml.safe_load(ray_service["spec"]["serveConfigV2"])
        (one,) = config["applications"][0]["deployments"]
        one.update(options)
        for name in [name for name, value in options.items() if value is None]:
            del one[name]
        ray_service["spec"]["serveConfigV2"] = yaml.safe_dump(config)

    return change


def environment(group: Callable[[dict[str, Any]], dict[str, Any]], **variables: str) -> Callable[[dict[str, Any]], None]:
    """A change of the environment of a group's Ray container."""
    return lambda s: container(group(s)).update(env=[{"name": name, "value": value} for name, value in variables.items()])


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "GCS fault tolerance": lambda s: cluster(s).pop("gcsFaultToleranceOptions"),
    "head out of the serve Service": lambda s: s["spec"].pop("excludeHeadPodFromServeSvc"),
    "a proxy on every worker": lambda s: s["spec"].update(serveConfigV2=s["spec"]["serveConfigV2"] + "proxy_location: HeadOnly\n"),
    "head takes no work": lambda s: head(s)["rayStartParams"].pop("num-cpus"),
    "no name for the head Service": lambda s: head(s)["headService"].update(metadata={"name": "mine"}),
    "two replicas or more of everything": deployment(num_replicas=1),
    "two workers or more": lambda s: worker(s).update(replicas=1),
    "workers outlast the head": environment(worker, RAY_gcs_rpc_server_reconnect_timeout_s="60"),
    "what runs may end": deployment(graceful_shutdown_timeout_s=600),
    "replicas have time to be taken over": environment(head),
    "replicas spread over nodes": deployment(max_replicas_per_node=None),
    "room for the requests of a lost replica": deployment(max_ongoing_requests=None),
    "what waits is bounded": deployment(max_queued_requests=None),
    "readiness asks the proxy": lambda s: container(worker(s)).update(readinessProbe={"exec": {"command": ["true"]}}),
    "answers have their time": lambda s: s["spec"].update(
        serveConfigV2=s["spec"]["serveConfigV2"] + "http_options: {port: 8000, request_timeout_s: 5}\n"
    ),
    "Redis over TLS": lambda s: cluster(s)["gcsFaultToleranceOptions"].update(redisAddress="redis:6379"),
    "Redis's password from a Secret": lambda s: cluster(s)["gcsFaultToleranceOptions"].update(redisPassword={"value": "secret"}),
    "a storage namespace for each cluster": lambda s: cluster(s)["gcsFaultToleranceOptions"].update(externalStorageNamespace="mine"),
    "deprecated thresholds are not relied on": lambda s: s["spec"].update(serviceUnhealthySecondThreshold=300),
    "one Ray everywhere": lambda s: cluster(s).update(rayVersion="2.59.0"),
    "images by digest": lambda s: container(worker(s)).update(image="registry.example/ray:2.60.0"),
}
"""What breaks a rule of the specification."""

SURROUNDINGS: dict[str, dict[str, Any]] = {
    "the head's address stays": {"head_service": {"spec": {"clusterIP": "None"}}},
    "workers on several nodes": {
        "pods": tuple({**POD, "metadata": {**POD["metadata"], "name": n}, "spec": {"nodeName": "one"}} for n in "ab")
    },
    "a PodDisruptionBudget for the workers": {"budgets": ()},
    "a drain can go on": {"budgets": ({"metadata": {"name": "strict"}, "spec": {**BUDGET["spec"], "minAvailable": 2}},)},
    "Redis keeps what it has": {"redis": (REDIS,)},
    "a second Redis": {"redis": ({**REDIS, "spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}},)},
    "Karpenter leaves its pods alone": {
        "pods": tuple({"metadata": {"name": n, "labels": {"ray.io/node-type": "worker"}}, "spec": {"nodeName": n}} for n in "ab")
    },
}
"""What breaks a rule of the objects around it."""


def test_a_sound_service_has_no_findings() -> None:
    assert broken(living()) == []


@pytest.mark.parametrize("rule", CHANGES)
def test_a_rule_finds_its_own_fault_in_the_specification_and_no_other_rule_does(rule: str) -> None:
    changed = copy.deepcopy(service())
    CHANGES[rule](changed)
    assert broken(living(changed)) == [rule]


@pytest.mark.parametrize("rule", SURROUNDINGS)
def test_a_rule_finds_its_own_fault_around_the_service_and_no_other_rule_does(rule: str) -> None:
    assert broken(living(**SURROUNDINGS[rule])) == [rule]


def test_every_rule_is_tried() -> None:
    assert {rule.name for rule in RULES} == {*CHANGES, *SURROUNDINGS}


def test_what_could_not_be_asked_is_neither_kept_nor_broken() -> None:
    checked = check(living(pods=None, budgets=None, karpenter=None, redis=None))
    assert checked.findings == ()
    assert set(checked.unchecked) == set(SURROUNDINGS) - {"the head's address stays"}


def test_what_cannot_be_understood_leaves_a_rule_unchecked() -> None:
    changed = service()
    deployment(graceful_shutdown_timeout_s="5m")(changed)
    checked = check(living(changed))
    assert list(checked.unchecked) == ["what runs may end"]
    changed["spec"]["serveConfigV2"] = "applications: [unclosed"
    unchecked = check(living(changed)).unchecked
    assert len(unchecked) == 9
    assert all("serveConfigV2 is no YAML: " in why and "line 1" in why for why in unchecked.values())


def test_a_value_from_elsewhere_is_not_guessed() -> None:
    changed = service()
    container(head(changed))["env"] = [
        {"name": "RAY_SERVE_SLOW_STARTUP_WARNING_S", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}
    ]
    assert broken(living(changed)) == []


@pytest.mark.parametrize("written", ["${REPLICAS}", "many", [], {"a": 1}, float("inf")])
def test_what_is_no_number_is_named(written: Any) -> None:
    changed = service()
    deployment(num_replicas=written)(changed)
    assert "is no number" in check(living(changed)).unchecked["two replicas or more of everything"]


def test_what_is_found_stays_on_its_line_and_is_nothing_that_a_terminal_obeys() -> None:
    changed = service()
    deployment(name="a\nb\x1b[31m", num_replicas=1)(changed)
    assert [finding.found for finding in check(living(changed)).findings] == ["llm/a b\N{REPLACEMENT CHARACTER}[31m: 1"]


def test_groups_on_which_no_replica_fits_are_no_workers() -> None:
    changed = service()
    deployment(ray_actor_options={"num_cpus": 1, "resources": {"big": 1}})(changed)
    spare = copy.deepcopy(worker(changed))
    spare["groupName"], spare["replicas"] = "spare", 5
    cluster(changed)["workerGroupSpecs"].append(spare)
    worker(changed)["rayStartParams"] = {"resources": '\'"{\\"big\\": 2}"\''}
    assert broken(living(changed)) == []
    worker(changed)["replicas"] = 1
    assert broken(living(changed)) == ["two workers or more"]


@pytest.mark.parametrize(
    ("group", "found"),
    [
        ({"replicas": 1, "minReplicas": 2}, None),
        ({"replicas": 3, "maxReplicas": 1}, "at least 1 for llm/model (gpu: 1)"),
        ({"replicas": 3, "suspend": True}, "at least 0 for llm/model (gpu: 0)"),
        ({"replicas": 1, "numOfHosts": 4}, "at least 1 for llm/model (gpu: 1 of 4 hosts each)"),
        ({"replicas": 2, "numOfHosts": 4}, None),
    ],
)
def test_workers_are_counted_as_kuberay_makes_them_and_hosts_that_go_together_as_one(group: dict[str, Any], found: str | None) -> None:
    changed = service()
    del worker(changed)["replicas"]
    worker(changed).update(group)
    assert [finding.found for finding in check(living(changed)).findings] == ([found] if found else [])


def test_where_no_group_takes_a_deployment_it_is_named() -> None:
    changed = service()
    deployment(ray_actor_options={"resources": {"big": 1}})(changed)
    (finding,) = check(living(changed)).findings
    assert finding.found == "at least 0 for llm/model (no group has what its replicas ask for)"
    cluster(changed)["workerGroupSpecs"] = []
    (finding,) = check(living(changed)).findings
    assert finding.found == "at least 0 for llm/model (there is no group of workers)"


@pytest.mark.parametrize(("name", "fits"), [("accelerator_type:L4", True), ("TPU-v6e-8-head", True), ("big", False)])
def test_ray_makes_a_resource_of_the_kind_of_an_accelerator(name: str, fits: bool) -> None:
    changed = service()
    deployment(ray_actor_options={"num_cpus": 1, "resources": {name: 0.001}})(changed)
    container(worker(changed))["resources"] = {"limits": {"nvidia.com/gpu": 1}}
    assert broken(living(changed)) == ([] if fits else ["two workers or more"])


def test_resources_of_a_group_say_what_ray_is_told_of_as_its_parameters_do() -> None:
    changed = service()
    deployment(ray_actor_options={"num_cpus": 2, "num_gpus": 1, "resources": {"big": 1}})(changed)
    head(changed).update(rayStartParams={}, resources={"CPU": "0", "memory": "4Gi"})
    worker(changed)["resources"] = {"CPU": "4", "nvidia.com/gpu": "1", "big": "2"}
    assert broken(living(changed)) == []
    worker(changed)["resources"] = {"CPU": "4", "nvidia.com/gpu": "1"}
    container(worker(changed))["env"] = [{"name": "RAY_OVERRIDE_RESOURCES", "value": '{"big": 2}'}]
    assert broken(living(changed)) == []
    worker(changed)["resources"] = {"CPU": "1", "nvidia.com/gpu": "1", "big": "2"}
    assert broken(living(changed)) == ["two workers or more"]


@pytest.mark.parametrize(
    ("resources", "parameters", "fits"),
    [
        ({"limits": {"cpu": "1500m"}}, {}, True),
        ({"limits": {"cpu": "1"}}, {}, False),
        ({"limits": {"cpu": "1"}}, {"num-cpus": "2"}, True),
        ({"requests": {"cpu": "8"}}, {"num-cpus": "0"}, False),
        ({}, {}, True),
    ],
)
def test_a_replica_fits_where_ray_is_told_of_enough_processors(resources: dict[str, Any], parameters: dict[str, str], fits: bool) -> None:
    changed = service()
    deployment(ray_actor_options={"num_cpus": 2})(changed)
    container(worker(changed))["resources"] = resources
    worker(changed)["rayStartParams"] = parameters
    assert broken(living(changed)) == ([] if fits else ["two workers or more"])


def test_a_replica_with_an_accelerator_fits_where_the_container_has_one() -> None:
    changed = service()
    deployment(ray_actor_options={"num_gpus": 1})(changed)
    assert broken(living(changed)) == ["two workers or more"]
    container(worker(changed))["resources"] = {"limits": {"nvidia.com/gpu": 1}}
    assert broken(living(changed)) == []


def test_a_head_without_processors_takes_a_replica_that_asks_for_none() -> None:
    changed = service()
    deployment(ray_actor_options={"num_cpus": 0})(changed)
    assert broken(living(changed)) == ["head takes no work"]


def test_the_patience_of_workers_is_also_read_from_the_heads_system_configuration() -> None:
    changed = service()
    head(changed)["rayStartParams"]["system-config"] = "'{\"gcs_rpc_server_reconnect_timeout_s\": 5}'"
    assert broken(living(changed)) == ["workers outlast the head"]


def test_room_for_a_few_requests_is_no_more_than_the_default() -> None:
    changed = service()
    deployment(max_ongoing_requests=5)(changed)
    assert [finding.found for finding in check(living(changed)).findings] == ["llm/model: 5"]
    deployment(max_ongoing_requests=6)(changed)
    assert broken(living(changed)) == []


@pytest.mark.parametrize(
    ("version", "options", "found"),
    [
        ("2.60.0", {}, "not in serveConfigV2 for llm/model"),
        (
            "2.60.0",
            {"autoscaling_config": {"min_replicas": 2, "max_ongoing_requests": 100}},
            "in autoscaling_config, where it does nothing, for llm/model",
        ),
        ("2.31.0", {}, None),
        ("2.9.0", {"max_concurrent_queries": 3}, "llm/model: 3"),
        ("2.9.0", {"max_concurrent_queries": 100}, None),
        ("2.46.0", {"max_concurrent_queries": 100}, "not in serveConfigV2 for llm/model"),
        ("", {}, "not in serveConfigV2 for llm/model"),
    ],
)
def test_how_many_requests_a_replica_takes_by_default_depends_on_the_version(version: str, options: Any, found: str | None) -> None:
    changed = service()
    deployment(max_ongoing_requests=None)(changed)
    deployment(**options)(changed)
    cluster(changed)["rayVersion"] = version
    for group in (head(changed), worker(changed)):
        container(group)["image"] = IMAGE.replace("2.60.0", version or "2.60.0")
    assert [finding.found for finding in check(living(changed)).findings] == ([found] if found else [])


@pytest.mark.parametrize(("version", "found"), [("2.9.3", []), ("2.10.0", ["what waits is bounded"])])
def test_an_option_that_the_version_does_not_have_is_not_asked_for(version: str, found: list[str]) -> None:
    changed = service()
    deployment(max_queued_requests=None)(changed)
    cluster(changed)["rayVersion"] = version
    for group in (head(changed), worker(changed)):
        container(group)["image"] = IMAGE.replace("2.60.0", version)
    assert broken(living(changed)) == found


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (["/bin/sh", "-c", "ray stop"], True),
        (["ray", "stop", "--grace-period", "10"], True),
        (["/bin/sh", "-c", "ray stop -f"], True),
        (["/bin/sh", "-c", "ray stop -g 60"], False),
        (["/bin/sh", "-c", "sleep 10"], False),
        (["/bin/sh", "-c", "sleep 60; ray stop"], False),
    ],
)
def test_a_hook_that_stops_ray_does_not_wait_for_what_runs(command: list[str], found: bool) -> None:
    changed = service()
    container(worker(changed))["lifecycle"] = {"preStop": {"exec": {"command": command}}}
    assert broken(living(changed)) == (["what runs may end"] if found else [])


@pytest.mark.parametrize(
    ("version", "images", "found"),
    [
        ("2.60.0", ("shop/model:0.0.1-gpu", "vllm/vllm-openai:v0.11.0"), []),
        ("2.60", ("mirror/ray-llm:2.60.0-py311-cu128", "shop/model:ray-2.60.0-1.2.3"), []),
        ("2.60.0", ("rayproject/ray:2.60.0", "shop/ray2.9.0-py310-model:latest"), ["gpu: 2.9.0, rayVersion: 2.60.0"]),
        ("", ("rayproject/ray:2.60.0", "rayproject/ray:2.59.0"), ["head: 2.60.0, gpu: 2.59.0"]),
        ("", ("rayproject/ray:2.60.0", "rayproject/ray:2.60.0-gpu"), []),
    ],
)
def test_an_image_says_a_version_of_ray_only_beside_rays_name(version: str, images: tuple[str, str], found: list[str]) -> None:
    changed = service()
    cluster(changed)["rayVersion"] = version
    for group, image in zip((head(changed), worker(changed)), images, strict=True):
        container(group)["image"] = image
    assert [one.found for one in check(living(changed)).findings if one.rule.name == "one Ray everywhere"] == found


@pytest.mark.parametrize(
    "probe", [{"httpGet": {"path": "/-/healthz", "port": 8000}}, {"httpGet": {"port": "serve"}}, {"tcpSocket": {"port": 8000}}]
)
def test_a_readiness_probe_may_ask_the_proxy_in_any_way(probe: dict[str, Any]) -> None:
    changed = service()
    container(worker(changed))["readinessProbe"] = probe
    assert broken(living(changed)) == []


def test_a_redis_with_a_second_pod_survives_one_of_them() -> None:
    assert broken(living(redis=(REDIS, REDIS))) == []


@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        ("rediss://:secret@redis:6379", [("models", "redis")]),
        ("redis.data.svc.cluster.local:6379,redis-1.redis.data.svc:6379", [("data", "redis"), ("data", "redis")]),
        ("rediss://master.x.cache.amazonaws.com:6379", [None]),
        ("10.0.0.7:6379", [None]),
    ],
)
def test_the_storage_is_looked_for_where_its_address_points_into_the_cluster(address: str, hosts: list[tuple[str, str] | None]) -> None:
    changed = service()
    cluster(changed)["gcsFaultToleranceOptions"]["redisAddress"] = address
    assert [service_of(host, "models") for host in storage_hosts(living(changed))] == hosts


def test_with_the_autoscaler_the_minima_count() -> None:
    changed = service()
    cluster(changed)["enableInTreeAutoscaling"] = True
    worker(changed).update(replicas=3, minReplicas=1)
    assert broken(living(changed)) == ["two workers or more"]


@pytest.mark.parametrize(
    ("spec", "covered"),
    [
        ({"selector": {"matchExpressions": [{"key": "ray.io/node-type", "operator": "In", "values": ["worker"]}]}}, True),
        ({"selector": {"matchExpressions": [{"key": "ray.io/node-type", "operator": "NotIn", "values": ["worker"]}]}}, False),
        ({"selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}, False),
        ({"selector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}, True),
        ({"selector": {}}, True),
        ({}, False),
        ({**BUDGET["spec"], "minAvailable": 0}, False),
    ],
)
def test_a_budget_covers_the_pods_that_its_selector_selects(spec: dict[str, Any], covered: bool) -> None:
    assert broken(living(budgets=({"spec": spec},))) == ([] if covered else ["a PodDisruptionBudget for the workers"])


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"maxUnavailable": 1}, "cannot tell how many pods"),
        ({"minAvailable": "50%"}, "cannot tell how many pods"),
        ({"minAvailable": 2}, "minAvailable: 2, and there are 2"),
        ({"minAvailable": 1}, ""),
    ],
)
def test_a_budget_lets_a_worker_go_only_by_a_number_that_leaves_one(spec: dict[str, Any], why: str) -> None:
    found = check(living(budgets=({"metadata": {"name": "b"}, "spec": {**BUDGET["spec"], **spec}},))).findings
    assert [why in finding.found for finding in found] == ([True] if why else [])


def test_a_budget_for_the_head_alone_holds_up_a_drain() -> None:
    keep = {"karpenter.sh/do-not-disrupt": "true"}
    pod = {"metadata": {"name": "head", "labels": {"ray.io/node-type": "head"}, "annotations": keep}, "spec": {}}
    alone = {"metadata": {"name": "head"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"ray.io/node-type": "head"}}}}
    assert broken(living(pods=(*(living().pods or ()), pod), budgets=(BUDGET, alone))) == ["a drain can go on"]


def test_a_budget_that_selects_nothing_of_the_service_is_named() -> None:
    wrong = {"metadata": {"name": "typo"}, "spec": {"selector": {"matchLabels": {"ray.io/group-name": "gpu"}}}}
    other = {"metadata": {"name": "shop"}, "spec": {"selector": {"matchLabels": {"app": "shop"}}}}
    (finding,) = check(living(budgets=(wrong, other))).findings
    assert finding.found == "worker-1, worker-2; none of its pods has the labels of typo"


def test_workers_that_wait_for_a_node_or_are_being_deleted_are_on_no_node() -> None:
    pods = [{**POD, "metadata": {**POD["metadata"], "name": n}, "spec": {"nodeName": "one"}} for n in "ab"]
    waiting = [{**pods[0], "spec": {}}, pods[1]]
    ending = [{**pods[0], "metadata": {**pods[0]["metadata"], "deletionTimestamp": "now"}}, pods[1]]
    assert broken(living(pods=tuple(waiting))) == broken(living(pods=tuple(ending))) == []


def test_a_cluster_without_karpenter_needs_no_annotation_for_it() -> None:
    assert broken(living(karpenter=False, **SURROUNDINGS["Karpenter leaves its pods alone"])) == []


def test_without_a_head_service_to_look_at_kuberays_default_counts() -> None:
    changed = service()
    del head(changed)["headService"]
    assert broken(living(changed, head_service=None)) == ["the head's address stays"]
    head(changed)["serviceType"] = "NodePort"
    assert broken(living(changed, head_service=None)) == []
    del head(changed)["serviceType"]
    head(changed)["headService"] = {"metadata": {"labels": {"a": "b"}}}
    assert broken(living(changed, head_service=None)) == [], "KubeRay makes no written Service headless"


def test_the_annotation_with_an_address_in_the_environment_is_fault_tolerance_too() -> None:
    changed = service()
    del cluster(changed)["gcsFaultToleranceOptions"]
    changed["metadata"]["annotations"] = {"ray.io/ft-enabled": "true"}
    container(head(changed))["env"].append({"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"})
    assert broken(living(changed)) == ["Redis over TLS"]


def test_an_address_of_redis_alone_is_no_fault_tolerance() -> None:
    changed = service()
    del cluster(changed)["gcsFaultToleranceOptions"]
    container(head(changed))["env"].append({"name": "RAY_REDIS_ADDRESS", "value": "rediss://redis:6379"})
    (finding,) = check(living(changed)).findings
    assert finding.found == "RAY_REDIS_ADDRESS alone turns nothing on, KubeRay refuses it"


@pytest.mark.parametrize(("written", "open_"), [("hunter2", True), ("$REDIS_PASSWORD", False), ("", False)])
def test_a_parameter_may_name_the_variable_that_has_the_password(written: str, open_: bool) -> None:
    changed = service()
    head(changed)["rayStartParams"]["redis-password"] = written
    assert broken(living(changed)) == (["Redis's password from a Secret"] if open_ else [])


def test_storage_on_a_volume_is_asked_nothing_about_redis() -> None:
    changed = service()
    cluster(changed)["gcsFaultToleranceOptions"] = {"backend": "rocksdb"}
    assert broken(living(changed)) == []


def test_a_deployment_that_scales_counts_by_its_least() -> None:
    changed = service()
    deployment(num_replicas=None, autoscaling_config={"min_replicas": 1, "max_replicas": 8})(changed)
    assert broken(living(changed)) == ["two replicas or more of everything"]


def test_the_models_of_ray_serve_llm_are_deployments_by_its_defaults() -> None:
    changed, scaled = service(), {"min_replicas": 2, "max_replicas": 4}
    model = {"model_loading_config": {"model_id": "org/chat-1.5"}, "deployment_config": {"max_queued_requests": 64}}
    application = {"name": "llm", "import_path": "ray.serve.llm:build_openai_app", "args": {"llm_configs": [model, "a-file.yaml"]}}

    def write() -> Living:
        changed["spec"]["serveConfigV2"] = yaml.safe_dump({"applications": [application]})
        return living(changed)

    assert broken(write()) == ["two replicas or more of everything"]
    (finding,) = check(write()).findings
    assert finding.found == "llm/LLMServer:org--chat-1_5: 1"
    model["deployment_config"] = {"autoscaling_config": scaled, "max_queued_requests": 64, "max_ongoing_requests": 4}
    assert broken(write()) == ["room for the requests of a lost replica"]


def test_replicas_that_are_placed_by_bundles_are_not_told_to_spread_by_an_option_that_serve_refuses() -> None:
    changed = service()
    deployment(max_replicas_per_node=None, placement_group_bundles=[{"CPU": 1}])(changed)
    assert broken(living(changed)) == []


def test_a_service_without_a_written_configuration_breaks_no_rule_about_deployments() -> None:
    changed = service()
    changed["spec"]["serveConfigV2"] = ""
    assert broken(living(changed)) == []


def test_the_worst_comes_first_and_every_finding_has_a_remedy() -> None:
    changed = service()
    for name in ("images by digest", "Redis over TLS", "head takes no work"):
        CHANGES[name](changed)
    found = check(living(changed)).findings
    assert [finding.rule.severity for finding in found] == [Severity.BREAKS, Severity.RISKS, Severity.HINT]
    assert all(finding.found and finding.rule.remedy and finding.rule.why and finding.rule.learnt_from for finding in found)


def test_a_secret_in_what_was_found_is_hidden() -> None:
    changed = service()
    cluster(changed)["gcsFaultToleranceOptions"].update(redisAddress="redis://default:hunter2@redis:6379")
    (finding,) = check(living(changed)).findings
    assert finding.rule.name == "Redis over TLS"
    assert "hunter2" not in finding.found
    assert "redis:6379" in finding.found
    changed["spec"]["serveConfigV2"] = "TOKEN: hunter2\nbroken: [unclosed"
    checked = check(living(changed))
    assert checked.unchecked
    assert "hunter2" not in str(checked)

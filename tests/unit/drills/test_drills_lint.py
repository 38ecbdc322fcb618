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
    "a drain can go on": {"budgets": ({"metadata": {"name": "strict"}, "spec": {**BUDGET["spec"], "maxUnavailable": 0}},)},
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
    assert len(check(living(changed)).unchecked) == 8


def test_a_value_from_elsewhere_is_not_guessed() -> None:
    changed = service()
    container(head(changed))["env"] = [
        {"name": "RAY_SERVE_SLOW_STARTUP_WARNING_S", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}
    ]
    assert broken(living(changed)) == []


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


def test_the_annotation_with_an_address_in_the_environment_is_fault_tolerance_too() -> None:
    changed = service()
    del cluster(changed)["gcsFaultToleranceOptions"]
    changed["metadata"]["annotations"] = {"ray.io/ft-enabled": "true"}
    container(head(changed))["env"].append({"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"})
    assert broken(living(changed)) == ["Redis over TLS"]


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

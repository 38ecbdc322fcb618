"""A service with scaling: the settings for Serve, KubeRay and Ray's autoscaler, and that only the autoscaler gets a token.

Ray is imported by the tests that need it, because every process of a run imports this file, and only one runs it.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import yaml
from pydantic import SecretStr, ValidationError

from blocks.parameters import ENGINES, Engine, Scaling, Service
from tasks.cluster.redis import Redis
from tasks.service import preflight, rayservice

Object = dict[str, Any]
FIXED = Service()
SCALED = Service(scaling=Scaling(max_workers=4, ongoing_requests=12, up_after_s=10, down_after_s=120, idle_worker_s=60))
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


def rendered(service: Service, engine: Engine = "cpu") -> list[Object]:
    return rayservice.render(service, engine, preflight.IMAGES, Redis("r", 6379, SecretStr("x" * 16)))


def spec(service: Service, engine: Engine = "cpu") -> Object:
    (found,) = [thing["spec"] for thing in rendered(service, engine) if thing["kind"] == "RayService"]
    return dict(found)


def cluster(service: Service, engine: Engine = "cpu") -> Object:
    return dict(spec(service, engine)["rayClusterConfig"])


def deployments(service: Service, engine: Engine = "cpu") -> list[Object]:
    (application,) = yaml.safe_load(spec(service, engine)["serveConfigV2"])["applications"]
    return list(application["deployments"])


def head_pod(service: Service) -> Object:
    """The head's pod with the container that KubeRay adds to it (BuildAutoscalerContainer and mergeAutoscalerOverrides)."""
    config = cluster(service)
    pod = copy.deepcopy(config["headGroupSpec"]["template"]["spec"])
    options = config["autoscalerOptions"]
    added = {key: options[key] for key in ("resources", "securityContext", "volumeMounts")}
    pod["containers"].append({"name": "autoscaler", "image": pod["containers"][0]["image"], **added})
    return dict(pod)


def test_without_scaling_the_manifests_contain_no_autoscaling_settings() -> None:
    text = yaml.safe_dump_all(rendered(FIXED))
    for word in ("autoscaling", "autoscalerOptions", "enableInTree", "PACK", "serviceAccountToken:"):
        assert word not in text
    assert {one["num_replicas"] for one in deployments(FIXED)} == {2}


@pytest.mark.parametrize("engine", ENGINES)
def test_with_scaling_only_the_needed_settings_differ(engine: Engine) -> None:
    scaled, fixed = cluster(SCALED, engine), cluster(FIXED, engine)
    (group,), (plain,) = scaled["workerGroupSpecs"], fixed["workerGroupSpecs"]
    assert group == {**plain, "maxReplicas": 4}
    assert (group["replicas"], group["minReplicas"]) == (2, 2)
    assert scaled["enableInTreeAutoscaling"] is True
    assert scaled["headGroupSpec"]["rayStartParams"] == fixed["headGroupSpec"]["rayStartParams"]
    for one, other in zip(deployments(SCALED, engine), deployments(FIXED, engine), strict=True):
        assert {**one, "num_replicas": 2, "autoscaling_config": None} == {**other, "autoscaling_config": None}
    others = [[thing for thing in rendered(service, engine) if thing["kind"] != "RayService"] for service in (SCALED, FIXED)]
    assert others[0] == others[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_serve_accepts_the_configuration_and_scales_both_deployments_equally(engine: Engine) -> None:
    from ray.serve.config import AutoscalingConfig
    from ray.serve.schema import ServeDeploySchema

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        schema = ServeDeploySchema.model_validate(yaml.safe_load(spec(SCALED, engine)["serveConfigV2"]))
        read = [AutoscalingConfig.model_validate(one["autoscaling_config"]) for one in deployments(SCALED, engine)]
    assert {one.num_replicas for one in schema.applications[0].deployments} == {"auto"}
    api, model = read
    assert api == model
    assert (api.min_replicas, api.max_replicas, api.target_ongoing_requests) == (2, 4, 12)
    assert (api.upscale_delay_s, api.downscale_delay_s) == (10, 120)
    assert api.metrics_interval_s < api.look_back_period_s


@pytest.mark.parametrize(("engine", "ongoing"), [("cpu", 12), ("neuron", 6)])
def test_a_replica_is_by_default_sized_for_its_engine(engine: Engine, ongoing: int) -> None:
    told = deployments(Service(scaling=Scaling()), engine)
    assert {one["autoscaling_config"]["target_ongoing_requests"] for one in told} == {ongoing}


@pytest.mark.parametrize("engine", ENGINES)
def test_rays_autoscaler_knows_the_resources_of_a_worker_before_one_exists(engine: Engine) -> None:
    from ray.autoscaler._private.kuberay import autoscaling_config

    resource = {"metadata": {"name": "mistral-1", "namespace": "mistral"}, "spec": cluster(SCALED, engine)}
    told = autoscaling_config._derive_autoscaling_config_from_ray_cr(resource)
    types = told["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0, "nothing is placed on the head"
    worker = types["inf2"]
    assert (worker["min_workers"], worker["max_workers"]) == (2, 4)
    asked: dict[str, float] = {}
    for one in deployments(SCALED, engine):
        options = one["ray_actor_options"]
        for name, amount in {"CPU": options["num_cpus"], **options.get("resources", {})}.items():
            asked[name] = asked.get(name, 0) + amount
    assert {name: n for name, n in asked.items() if name != "CPU"} == {name: worker["resources"][name] for name in asked if name != "CPU"}
    assert asked["CPU"] <= worker["resources"]["CPU"]
    assert told["idle_timeout_minutes"] == 1


def test_the_autoscaler_container_that_kuberay_adds_passes_the_restricted_policy() -> None:
    pod = head_pod(SCALED)
    (container,) = [one for one in pod["containers"] if one["name"] == "autoscaler"]
    context = container["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    allowed = {"configMap", "downwardAPI", "emptyDir", "projected", "secret", "persistentVolumeClaim", "csi", "ephemeral"}
    assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])
    assert container["resources"]["requests"] == {"cpu": "50m", "memory": "256Mi"}
    assert "cpu" not in container["resources"]["limits"]
    # KubeRay sets this itself and refuses another value.
    assert "restartPolicy" not in pod


def test_only_the_autoscaler_has_the_service_accounts_token() -> None:
    pod = head_pod(SCALED)
    assert pod["automountServiceAccountToken"] is False
    (volume,) = [v for v in pod["volumes"] if "serviceAccountToken" in str(v)]
    holders = {c["name"]: m["mountPath"] for c in pod["containers"] for m in c.get("volumeMounts", ()) if m["name"] == volume["name"]}
    assert holders == {"autoscaler": TOKEN_FOLDER}
    paths = {source.get("path") or source["items"][0]["path"] for entry in volume["projected"]["sources"] for source in entry.values()}
    assert paths == {"token", "ca.crt", "namespace"}


def test_the_token_is_mounted_where_ray_reads_it() -> None:
    from ray.autoscaler._private.kuberay import node_provider

    assert f"{TOKEN_FOLDER}/token" == node_provider.IN_CLUSTER_TOKEN_PATH
    assert f"{TOKEN_FOLDER}/ca.crt" == node_provider.IN_CLUSTER_CA_CERT_PATH


def test_the_variable_that_makes_serve_pack_replicas_is_read_by_serve() -> None:
    from ray.serve._private import constants

    (head,) = cluster(SCALED)["headGroupSpec"]["template"]["spec"]["containers"]
    told = {item["name"]: item["value"] for item in head["env"] if "value" in item}
    assert told["RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY"] == "1"
    assert hasattr(constants, "RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY")
    assert all(one["max_replicas_per_node"] == 1 for one in deployments(SCALED)), "packed, but never two of a kind on a node"


def test_an_idle_worker_is_kept_longer_than_an_answer_may_take() -> None:
    (group,) = cluster(SCALED)["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    (deadline,) = [float(item["value"]) for item in container["env"] if item["name"] == "LEEWARD_DEADLINE_S"]
    least = Scaling.model_fields["idle_worker_s"].metadata[0].ge
    assert least > deadline + 10, "and until no more requests come by its proxy"


@pytest.mark.parametrize(("workers", "broken"), [(2, []), (1, ["two replicas or more of everything", "two workers or more"])])
def test_the_rules_of_survival_hold_for_the_fewest_replicas_there_may_be(workers: int, broken: list[str]) -> None:
    (service,) = [t for t in rendered(Service(workers=workers, scaling=Scaling())) if t["kind"] == "RayService"]
    assert [finding.rule.name for finding in preflight.check(service).findings] == broken


def test_a_maximum_below_the_minimum_of_workers_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"max_workers is 2, fewer than the 3 workers"):
        Service(workers=3, scaling=Scaling(max_workers=2))
    assert Service(workers=3, scaling=Scaling(max_workers=3)).most_workers == 3
    assert Service(workers=3).most_workers == 3


@pytest.mark.parametrize("wrong", [{"max_workers": 1}, {"max_workers": 21}, {"ongoing_requests": 0}, {"idle_worker_s": 5}, {"up": 1}])
def test_a_scaling_that_cannot_work_is_refused(wrong: Object) -> None:
    with pytest.raises(ValidationError):
        Scaling.model_validate(wrong)

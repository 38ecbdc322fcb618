"""The manifests keep the rules that a service needs to survive; the reasons are in the manifests themselves."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from manifest_values import FRAGMENTS, VALUES

from blocks.parameters import ENGINES, Service
from blocks.target import Images
from drills.definition import Load
from drills.kubernetes import manifests, ownership
from localcloud import settings as embedded
from serving.settings import Settings
from tasks.images.publish import recipes
from tasks.service import chat, compilation, engines, preflight, rayservice

Object = dict[str, Any]
IMAGES = Path(__file__).parents[3] / "serving" / "images"


def documents(name: str) -> list[Object]:
    return manifests.load(name, VALUES[name])


def all_objects() -> Iterator[Object]:
    return itertools.chain.from_iterable(documents(name) for name in VALUES if name not in FRAGMENTS)


def ray_service(engine: str = "cpu", *, model: str = "", fault_tolerant: bool = True) -> Object:
    (service,) = documents("rayservice")
    for fragment in engines.overlays(engine, "r/x@sha256:1", model or None):
        service = manifests.merge(service, fragment)
    if fault_tolerant:
        service = manifests.merge(service, documents("gcs-fault-tolerance")[0])
    return service


def head(service: Object) -> Object:
    return service["spec"]["rayClusterConfig"]["headGroupSpec"]


def workers(service: Object) -> Object:
    (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    return group


def pod(group: Object) -> Object:
    return group["template"]["spec"]


def env(group: Object) -> dict[str, Any]:
    (container,) = pod(group)["containers"]
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def deployments(service: Object) -> dict[str, Object]:
    (application,) = service["spec"]["serveConfigV2"]["applications"]
    return {one["name"]: one for one in application["deployments"]}


def settings(service: Object) -> Settings:
    """Settings of a worker of the service, without those that Kubernetes fills in."""
    given = {key: value for key, value in env(workers(service)).items() if key.startswith("LEEWARD_") and isinstance(value, str)}
    return Settings.from_env(given)


def locked(name: str) -> set[str]:
    """The pins of a list of requirements, `package==version`."""
    return set(re.findall(r"^[\w.-]+==[^ ]+", (IMAGES / f"requirements-{name}.txt").read_text(encoding="utf-8"), re.MULTILINE))


def pods() -> Iterator[tuple[str, Object]]:
    """Every pod template in manifests/, by name."""
    yield "head", head(ray_service())["template"]
    for engine in ENGINES:
        yield f"{engine} worker", workers(ray_service(engine))["template"]
    for thing in all_objects():
        if thing["kind"] in ("Deployment", "Job"):
            yield thing["metadata"]["name"], thing["spec"]["template"]


def test_every_file_is_tested_here() -> None:
    assert {file.stem for file in manifests.MANIFESTS.glob("*.yaml")} == set(VALUES)


def test_every_placeholder_is_a_whole_scalar_and_documented() -> None:
    readme = (manifests.MANIFESTS / "README.md").read_text(encoding="utf-8")
    for file in manifests.MANIFESTS.glob("*.yaml"):
        for scalar in _scalars(list(yaml.safe_load_all(file.read_text(encoding="utf-8")))):
            if "${" in str(scalar):
                found = re.fullmatch(r"\$\{([a-z][a-z0-9_]*)\}", str(scalar))
                assert found, f"{file.name}: {scalar!r} is not a whole placeholder"
                assert f"`{found[1]}`" in readme, f"{found[1]} is missing from manifests/README.md"


def test_every_object_has_the_label_part_of_leeward() -> None:
    for thing in all_objects():
        assert thing["metadata"]["labels"]["app.kubernetes.io/part-of"] == "leeward", thing["metadata"]["name"]


@pytest.mark.parametrize(("name", "template"), list(pods()))
def test_every_pod_passes_the_restricted_policy_and_has_no_token(name: str, template: Object) -> None:
    spec = template["spec"]
    assert spec["securityContext"].items() >= {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}.items()
    for container in [*spec["containers"], *spec.get("initContainers", ())]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert name == "kuberay-operator" or spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize(("name", "template"), list(pods()))
def test_every_container_has_resource_requests_and_no_cpu_limit(name: str, template: Object) -> None:
    for container in [*template["spec"]["containers"], *template["spec"].get("initContainers", ())]:
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        assert "cpu" not in container["resources"]["limits"]


def test_namespaces_enforce_the_restricted_policy() -> None:
    (namespace,) = documents("namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_labels_and_annotations_that_cleanup_uses_exist_in_the_manifests() -> None:
    (namespace,) = documents("namespace")
    assert ownership.MADE_BY in namespace["metadata"]["annotations"]
    (job, _), (deployment, *_) = documents("load-job"), documents("chat")
    assert ownership.belongs(job, Service().subject)
    assert ownership.belongs(deployment, Service().subject)
    assert all(
        map(
            ownership.labelled,
            (*documents("load-job"), *documents("chat"), *documents("redis"), *documents("api-key"), *documents("disruption")),
        )
    )


def test_the_head_runs_on_a_core_node() -> None:
    assert pod(head(ray_service()))["nodeSelector"] == {"leeward.dev/pool": "core"}


def test_a_dead_head_is_removed_soon_so_that_a_new_one_can_start() -> None:
    spec = pod(head(ray_service()))
    assert spec["terminationGracePeriodSeconds"] <= 10
    keys = {t["key"]: t["tolerationSeconds"] for t in spec["tolerations"] if t["effect"] == "NoExecute"}
    assert keys.keys() == {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
    assert max(keys.values()) <= 30


def test_a_deleted_head_ends_at_once_and_a_new_one_starts_no_unneeded_process() -> None:
    group = head(ray_service())
    (container,) = pod(group)["containers"]
    assert container["lifecycle"]["preStop"] == {"exec": {"command": ["sh", "-c", "kill -KILL -1"]}}
    assert pod(group)["terminationGracePeriodSeconds"] == 2, "the least that a kubelet gives a pod with a hook"
    assert env(group)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] == "0", "a head has nothing to drain"
    assert env(group)["RAY_worker_niceness"] == "0", "recovery waits for Serve's controller, which is an actor on the head"
    assert group["rayStartParams"]["no-monitor"] == "true"
    assert group["rayStartParams"]["include-log-monitor"] == "0", "KubeRay leaves out a flag that is false"


def test_every_worker_has_a_replica_of_each_deployment_and_no_more() -> None:
    service = ray_service()
    group = workers(service)
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == 2
    for one in deployments(service).values():
        assert (one["num_replicas"], one["max_replicas_per_node"]) == (2, 1)
    assert sum(one["ray_actor_options"]["num_cpus"] for one in deployments(service).values()) <= int(group["rayStartParams"]["num-cpus"])
    (rule,) = pod(group)["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    assert rule["labelSelector"]["matchLabels"].items() <= group["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("engine", ["cpu", "neuron"])
def test_an_engine_fills_the_chip_of_its_worker_and_an_api_takes_none_of_it(engine: str) -> None:
    service = ray_service(engine)
    group = workers(service)
    (container,) = pod(group)["containers"]
    asked = container["resources"]
    assert asked["requests"]["aws.amazon.com/neuron"] == asked["limits"]["aws.amazon.com/neuron"] == 1
    cores = json.loads(json.loads(group["rayStartParams"]["resources"]))["neuron_cores"]
    assert deployments(service)["engine"]["ray_actor_options"]["resources"] == {"neuron_cores": cores} == {"neuron_cores": 2}
    assert "resources" not in deployments(service)["api"]["ray_actor_options"]
    assert {"key": "aws.amazon.com/neuron", "operator": "Exists", "effect": "NoSchedule"} in pod(group)["tolerations"]
    assert pod(group)["nodeSelector"] == {"leeward.dev/pool": "inf2"}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_manifest_of_an_engine_starts_that_engine(engine: str) -> None:
    assert settings(ray_service(engine)).engine == engine


def test_the_neuron_engine_stores_compiled_models_in_a_writable_folder() -> None:
    told = env(workers(ray_service("neuron")))
    (container,) = pod(workers(ray_service("neuron")))["containers"]
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert told["LEEWARD_ARTIFACTS"] == settings(ray_service("neuron")).artifacts in writable


def test_the_load_of_a_drill_fits_the_slots_of_one_surviving_engine() -> None:
    load, service = Load(), ray_service()
    told, pace = settings(service), float(env(workers(service))["LEEWARD_STEPS_PER_S"])
    assert load.streams + 1 + load.short_per_s * load.short_tokens / pace <= told.slots
    assert max(load.stream_tokens, load.short_tokens) <= told.max_tokens


@pytest.mark.parametrize("engine", ENGINES)
def test_the_engine_itself_refuses_requests_beyond_its_limit(engine: str) -> None:
    service = ray_service(engine)
    told, inside = settings(service), deployments(service)
    most = told.slots + told.max_queue
    assert inside["engine"]["max_ongoing_requests"] > most
    assert inside["api"]["max_ongoing_requests"] > most * inside["engine"]["num_replicas"]
    assert all(one["max_queued_requests"] > 0 for one in inside.values())


@pytest.mark.parametrize("engine", ENGINES)
def test_the_longest_answer_fits_every_step_of_a_shutdown(engine: str) -> None:
    service = ray_service(engine)
    graces = {one["graceful_shutdown_timeout_s"] for one in deployments(service).values()}
    drain = float(env(workers(service))["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    assert settings(service).deadline_s < min(graces) <= max(graces) < drain < pod(workers(service))["terminationGracePeriodSeconds"]


def test_the_load_balancer_gives_a_leaving_worker_the_time_that_it_takes_itself() -> None:
    (found,) = documents("ingress")
    told = {key.rpartition("/")[2]: value for key, value in found["metadata"]["annotations"].items()}
    attributes = dict(pair.split("=") for name in ("target-group", "load-balancer") for pair in told[f"{name}-attributes"].split(","))
    service = ray_service()
    deadline, grace = settings(service).deadline_s, pod(workers(service))["terminationGracePeriodSeconds"]
    assert deadline < float(attributes["deregistration_delay.timeout_seconds"]) < grace
    assert deadline < float(attributes["idle_timeout.timeout_seconds"])
    (container,) = pod(workers(service))["containers"]
    assert told["healthcheck-path"] == container["readinessProbe"]["httpGet"]["path"]
    assert json.loads(told["listen-ports"]) == [{"HTTPS": 443}], "nothing without TLS"
    assert all(isinstance(value, str) for value in told.values())


@pytest.mark.parametrize("model", ["", "smollm2"])
def test_the_longest_answer_at_the_pace_of_the_model_ends_before_its_deadline(model: str) -> None:
    told = settings(ray_service(model=model))
    assert told.max_tokens / told.steps_per_s < told.deadline_s


def test_a_model_changes_only_the_workers_and_lies_where_the_image_has_it() -> None:
    plain, speaking = ray_service(), ray_service(model="smollm2")
    folder = settings(speaking).model
    assert f"COPY --from=smollm2 {folder} {folder}\n" in (IMAGES / "Containerfile").read_text(encoding="utf-8")
    changed = {name for name, value in env(workers(speaking)).items() if env(workers(plain)).get(name) != value}
    assert changed == {f"LEEWARD_{name}" for name in ("MODEL", "SLOTS", "STEPS_PER_S", "POSITIONS")}
    assert (head(speaking), deployments(speaking)) == (head(plain), deployments(plain))


def test_an_engine_on_the_cpu_has_as_many_threads_as_its_container_asks_for_cores() -> None:
    told = env(workers(ray_service()))["LEEWARD_THREADS"]
    assert told == {"resourceFieldRef": {"containerName": "ray-worker", "resource": "requests.cpu"}}


@pytest.mark.parametrize(
    ("engine", "model", "revision", "fetched"),
    [
        ("neuron", "", None, ["mistralai/Mistral-7B-Instruct-v0.3", "main"]),
        ("neuron", "", "v1", ["mistralai/Mistral-7B-Instruct-v0.3", "v1"]),
        ("neuron", "somebody/Mistral-7B-fine-tuned", "0123abc", ["somebody/Mistral-7B-fine-tuned", "0123abc"]),
        ("neuron", "s3://bucket/models/mistral", None, ["s3://bucket/models/mistral", ""]),
        ("cpu", "s3://bucket/models/tiny", None, ["s3://bucket/models/tiny", ""]),
    ],
)
def test_a_model_that_is_not_in_the_image_is_fetched_to_where_the_engine_reads_it(
    engine: str, model: str, revision: str | None, fetched: list[str]
) -> None:
    rendered = rayservice.render(Service(model=model or None, revision=revision), engine, preflight.IMAGES, None)[-1]
    group = workers(rendered)
    (fetch,), (container,) = pod(group)["initContainers"], pod(group)["containers"]
    assert fetch["command"] == ["python3", "-m", "serving.fetch", *fetched, env(group)["LEEWARD_MODEL"]]
    assert fetch["image"] == container["image"]
    for one in (fetch, container):
        assert env(group)["LEEWARD_MODEL"] in {mount["mountPath"] for mount in one["volumeMounts"]}
    assert "HF_TOKEN" not in env(group)
    assert env(group)["HF_HUB_OFFLINE"] == "1", "a replica that starts again needs no hub"


@pytest.mark.parametrize("model", ["", "smollm2"])
def test_a_model_of_the_image_is_not_fetched(model: str) -> None:
    assert "initContainers" not in pod(workers(ray_service(model=model)))


def test_a_job_compiles_in_a_pod_like_a_workers() -> None:
    rendered = rayservice.render(Service(), "neuron", preflight.IMAGES, None, None, "s3://bucket/compiled")[-1]
    made = compilation.job(Service(), rendered, 60)
    (compiler,), (worker,) = made["spec"]["template"]["spec"]["containers"], pod(workers(rendered))["containers"]
    assert compiler["command"] == ["python3", "-m", "serving.engines.compilation"]
    same = ("image", "env", "resources", "volumeMounts", "securityContext")
    assert all(compiler[key] == worker[key] for key in same)
    told = {item["name"]: item.get("value") for item in worker["env"]}
    assert told["LEEWARD_ARTIFACTS"] == "s3://bucket/compiled", "in place of the folder of one pod"
    assert made["spec"]["template"]["spec"]["serviceAccountName"] == pod(workers(rendered))["serviceAccountName"] == "workers"
    assert "serviceAccountName" not in pod(workers(ray_service())), "a worker that needs nothing of AWS has no identity there"
    other = rayservice.render(Service(revision="v1"), "neuron", preflight.IMAGES, None, None, "s3://bucket/compiled")[-1]
    assert compilation.job(Service(), other, 60)["metadata"]["name"] != made["metadata"]["name"]
    more = rayservice.render(Service(workers=3), "neuron", preflight.IMAGES, None, None, "s3://bucket/compiled")[-1]
    assert compilation.job(Service(), more, 60)["metadata"]["name"] == made["metadata"]["name"]


@pytest.mark.parametrize("name", ["worker", "chat"])
def test_workers_and_chat_get_the_api_key_if_there_is_one(name: str) -> None:
    (secret,) = documents("api-key")
    template = workers(ray_service())["template"] if name == "worker" else documents("chat")[0]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    (reference,) = (item["valueFrom"]["secretKeyRef"] for item in container["env"] if item["name"] == "LEEWARD_API_KEY")
    assert reference == {"name": secret["metadata"]["name"], "key": next(iter(secret["stringData"])), "optional": True}


def test_workers_and_load_have_more_cpu_weight_than_a_starting_head() -> None:
    service = ray_service()
    shares = {name: _cores(t["spec"]["containers"][0]["resources"]["requests"]["cpu"]) for name, t in pods()}
    assert shares["cpu worker"] >= 4 * shares["head"]
    assert shares["load-1"] > shares["head"]
    assert shares["cpu worker"] <= int(workers(service)["rayStartParams"]["num-cpus"])


def test_workers_are_ready_by_their_proxy_and_alive_by_their_raylet() -> None:
    (container,) = pod(workers(ray_service()))["containers"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": 8000}
    assert container["livenessProbe"]["httpGet"]["path"] == "/api/healthz"
    assert container["readinessProbe"]["failureThreshold"] > 1


def test_workers_and_head_are_not_evicted_by_disruptions() -> None:
    service = ray_service()
    for group in (head(service), workers(service)):
        notes = group["template"]["metadata"]["annotations"]
        assert notes["karpenter.sh/do-not-disrupt"] == "true"
        assert notes["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


def test_the_disruption_budget_counts_workers_in_whole_numbers() -> None:
    (budget,) = documents("disruption")
    assert type(budget["spec"]["minAvailable"]) is int
    labels = workers(ray_service())["template"]["metadata"]["labels"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_heads_service_has_a_cluster_ip_and_opens_no_node_port() -> None:
    service = head(ray_service())["headService"]["spec"]
    assert service == {"type": "ClusterIP", "publishNotReadyAddresses": True}
    assert "serviceType" not in head(ray_service())


def test_the_wrapper_of_ray_start_exists_and_starts_no_client_server_in_a_head() -> None:
    module, _, name = env(head(ray_service()))["RAY_START_HOOK"].rpartition(".")
    parameters = SimpleNamespace(ray_client_server_port=10001)
    getattr(import_module(module), name)(parameters, True)
    assert parameters.ray_client_server_port is None


def test_nothing_is_set_that_kuberay_refuses_or_ignores() -> None:
    service = ray_service()
    assert "metadata" not in head(service)["headService"]
    assert not {"serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold"} & service["spec"].keys()
    assert "ray.io/ft-enabled" not in service["metadata"].get("annotations", {})
    assert not {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD"} & env(head(service)).keys()


def test_head_and_workers_have_exactly_the_same_python_version() -> None:
    neuron = (IMAGES / "neuron.Containerfile").read_text(encoding="utf-8")
    (head_python,) = re.findall(r"^docker\.io/library/python:(\d+)\.(\d+)\.\d+-", recipes("neuron", Images())["head"].base)
    assert f"-py{''.join(head_python)}-" in neuron
    assert "".join(head_python) == "310", "requirements-head-py310.txt is what is installed on it"
    recipe = recipes("cpu", Images(base="b"))
    assert recipe["head"].base == recipe["worker"].base


def test_packages_that_head_and_workers_exchange_objects_of_have_the_same_versions() -> None:
    for one, other in (("head", "cpu"), ("cpu", "bench"), ("head-py310", "neuron")):
        assert locked(one) <= locked(other)


def test_the_head_image_has_no_torch_and_the_chat_image_no_ray() -> None:
    assert not {"torch", "transformers", "mistral-common"} & {pin.split("==")[0] for pin in locked("head")}
    assert not {"torch", "ray", "transformers"} & {pin.split("==")[0] for pin in locked("chat")}


def test_every_package_of_the_code_is_in_every_image_that_runs_it() -> None:
    packages = {path.parent.name for path in IMAGES.parent.glob("*/__init__.py")} - {"chat"}
    for name in ("Containerfile", "neuron.Containerfile"):
        text = (IMAGES / name).read_text(encoding="utf-8")
        assert packages <= set(re.findall(r"^COPY (\w+) /opt/leeward/serving/\1$", text, re.MULTILINE))


def test_usage_statistics_are_off() -> None:
    service = ray_service()
    assert env(head(service))["RAY_USAGE_STATS_ENABLED"] == env(workers(service))["RAY_USAGE_STATS_ENABLED"] == "0"


def test_gcs_state_is_kept_in_redis_over_tls_with_a_password_from_a_secret() -> None:
    service = ray_service()
    options = service["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    assert options["redisAddress"].startswith("rediss://")
    (secret, ca) = documents("redis")
    reference = options["redisPassword"]["valueFrom"]["secretKeyRef"]
    assert (reference["name"], [reference["key"]]) == (secret["metadata"]["name"], list(secret["stringData"]))
    assert "externalStorageNamespace" not in options
    assert env(head(service))["RAY_REDIS_CA_CERT"] == "/etc/leeward/redis/ca.crt"
    mounts = {m["name"]: m["mountPath"] for m in pod(head(service))["containers"][0]["volumeMounts"]}
    volumes = {v["name"]: v for v in pod(head(service))["volumes"]}
    assert (mounts["redis-ca"], volumes["redis-ca"]["configMap"]["name"]) == ("/etc/leeward/redis", ca["metadata"]["name"])
    assert list(ca["data"]) == ["ca.crt"]


def test_without_fault_tolerance_only_the_head_differs_and_has_no_redis_settings() -> None:
    plain, tolerant = ray_service(fault_tolerant=False), ray_service()
    assert "redis" not in json.dumps(plain)
    assert workers(plain) == workers(tolerant)
    assert plain["spec"]["serveConfigV2"] == tolerant["spec"]["serveConfigV2"]
    merged, base = head(tolerant), head(plain)
    assert pod(merged)["volumes"][: len(pod(base)["volumes"])] == pod(base)["volumes"]
    assert env(base).items() <= env(merged).items()


def test_the_serve_application_is_the_one_in_the_image() -> None:
    ((application,),) = (ray_service()["spec"]["serveConfigV2"]["applications"],)
    source = (Path(__file__).parents[3] / "serving/app.py").read_text(encoding="utf-8")
    assert application["import_path"] == "serving.app:app"
    assert "\napp = " in source
    assert deployments(ray_service()).keys() == set(re.findall(r'name="(\w+)"', source))


def test_the_load_runs_once_on_another_node_than_the_head_and_ends_by_itself() -> None:
    job, _ = documents("load-job")
    spec = job["spec"]["template"]["spec"]
    assert (job["spec"]["backoffLimit"], spec["restartPolicy"]) == (0, "Never")
    assert job["spec"]["activeDeadlineSeconds"] == 1800
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    (rule,) = spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    term = rule["podAffinityTerm"]
    # An empty selector means all namespaces; without a selector only the load's own would count.
    assert term["namespaceSelector"] == {}
    assert term["labelSelector"]["matchLabels"] == {"ray.io/node-type": "head"}, "KubeRay's own label, which every head has"


def test_the_chat_answers_on_7860() -> None:
    from serving import chat as page

    _, service = documents("chat")
    assert [port["port"] for port in service["spec"]["ports"]] == [chat.PORT] == [page.PORT] == [7860]


def device_plugin() -> Object:
    """The pod specification of the device plug-in."""
    (thing,) = (thing for thing in documents("neuron-device-plugin") if thing["kind"] == "DaemonSet")
    return thing["spec"]["template"]["spec"]


def test_the_device_plugin_runs_wherever_a_worker_may_and_nowhere_else() -> None:
    spec = device_plugin()
    (pool,) = (t for t in documents("node-pools") if t["kind"] == "NodePool" and t["metadata"]["name"] == "inf2")
    template = pool["spec"]["template"]
    assert spec["nodeSelector"] == pod(workers(ray_service()))["nodeSelector"]
    assert spec["nodeSelector"].items() <= template["metadata"]["labels"].items()
    assert {taint["key"] for taint in template["spec"]["taints"]} <= {toleration["key"] for toleration in spec["tolerations"]}
    managed = (manifests.MANIFESTS.parent / "terraform" / "nodes.tf").read_text(encoding="utf-8")
    assert '"leeward.dev/pool" = "inf2"' in re.sub(r" +", " ", managed)


def test_the_device_plugin_gets_no_more_of_a_node_than_it_needs() -> None:
    spec = device_plugin()
    (container,) = spec["containers"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert {v["hostPath"]["path"] for v in spec["volumes"]} == {"/var/lib/kubelet/device-plugins", "/run"}
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert container["resources"]["limits"].keys() == {"memory"}


def test_the_device_plugin_may_read_no_secrets_exec_into_no_pods_and_create_only_events() -> None:
    (role,) = (thing for thing in documents("neuron-device-plugin") if thing["kind"] == "ClusterRole")
    may = {resource: set(rule["verbs"]) for rule in role["rules"] for resource in rule["resources"]}
    assert may.keys() == {"nodes", "nodes/status", "pods", "events"}
    assert [resource for resource, verbs in may.items() if verbs & {"create", "delete", "deletecollection", "*"}] == ["events"]


def test_the_device_plugin_is_pinned_and_the_embedded_clouds_nodes_have_it() -> None:
    (container,) = device_plugin()["containers"]
    assert container["image"] == embedded.NEURON_DEVICE_PLUGIN_IMAGE
    assert re.fullmatch(r"[\d.]+", container["image"].rpartition(":")[2])


def _cores(quantity: str) -> float:
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def _scalars(node: Any) -> Iterator[Any]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield key
            yield from _scalars(value)
    elif isinstance(node, list):
        for item in node:
            yield from _scalars(item)
    else:
        yield node

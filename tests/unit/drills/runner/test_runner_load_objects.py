"""What a load creates in the cluster: a Job with its plan and its program, which carries no secret and leaves nothing."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from kubernetes_server import Server, serving

from drills.definition import Drill, Load
from drills.kubernetes.api import Object
from drills.load.run import Plan
from drills.request import FromSecret, Template
from drills.runner import journal, load_file, load_job, watch
from drills.runner.load_job import LoadJob, Placement, job_objects
from drills.subject import Subject

OURS = Subject(namespace="mistral", name="mistral")
THEIRS = Subject(namespace="shop", name="llm", home="shop", serve_service="llm-front", serve_port=9000)
DRILL = Drill.named("head-pod")


def objects(subject: Subject = OURS, load: Load = DRILL.load, template: Template | None = None, **placed: Any) -> tuple[Object, Object]:
    job, program = job_objects(subject, "load-1", Placement(image="i", **placed), load, load_job.duration(DRILL), template)
    return job, program


def plan_of(program: Object) -> dict[str, Any]:
    return dict(json.loads(program["data"]["plan.json"]))


def pod_of(job: Object) -> Any:
    return job["spec"]["template"]["spec"]


def test_the_plan_has_all_settings_of_the_drill_and_lasts_longer_than_it() -> None:
    job, program = objects()
    plan = plan_of(program)
    assert DRILL.load.model_dump().items() <= plan.items()
    longest = DRILL.timing.before_s + DRILL.timing.observe_timeout_s + DRILL.timing.after_s
    assert plan["max_duration_s"] > longest
    assert job["spec"]["activeDeadlineSeconds"] > plan["warm_up_s"] + plan["max_duration_s"] + plan["linger_s"]


def test_the_load_of_a_drill_ends_when_nobody_reads_it_and_another_one_does_not() -> None:
    with serving() as (server, api):
        LoadJob(api, THEIRS, "load-1").start(Placement(image="i"), DRILL.load, 60, lease_s=load_job.LEASE_S)
        (program,) = (thing for path, thing in server.objects.items() if "configmaps" in path)
    assert plan_of(program)["lease_s"] == load_job.LEASE_S > watch.API_AWAY_S, "an API server that is away does not end it"
    assert plan_of(objects()[1])["lease_s"] == 0


def test_the_load_understands_the_plan_that_it_is_given() -> None:
    from drills.load.__main__ import PLAN_ONLY

    _, program = objects(THEIRS)
    plan = Plan.from_json({name: value for name, value in plan_of(program).items() if name not in PLAN_ONLY})
    assert plan.url == "http://llm-front.shop.svc:9000"
    assert plan.tokens == {"short": DRILL.load.short_tokens, "stream": DRILL.load.stream_tokens}


def test_a_service_without_streams_gets_none() -> None:
    _, program = objects(template=Template.of("plain"))
    assert plan_of(program)["streams"] == 0


def test_everything_is_in_the_home_of_the_subject() -> None:
    assert {thing["metadata"]["namespace"] for thing in objects(THEIRS)} == {"shop"}
    assert {thing["metadata"]["namespace"] for thing in objects(OURS)} == {"leeward-load"}


def test_the_container_runs_the_program_and_the_plan_of_the_config_map() -> None:
    job, program = objects()
    (container,), volumes = pod_of(job)["containers"], {v["name"]: v for v in pod_of(job)["volumes"]}
    folders = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert folders["/leeward"]["configMap"]["name"] == program["metadata"]["name"]
    files = {f"/leeward/{name}" for name in (*program["binaryData"], *program["data"])}
    assert set(container["command"][2:]) == files
    assert container["workingDir"] in folders, "it writes its records there"
    assert base64.b64decode(program["binaryData"]["load.pyz"]) == load_file.make()
    assert len(json.dumps(program)) < 2**20, "the most that a ConfigMap can have"


def test_a_secret_header_is_a_reference_and_its_value_is_nowhere() -> None:
    token = FromSecret(secret="my-token", key="t", prefix="Bearer ")
    job, program = objects(template=Template.of("plain", headers={"Authorization": token, "x-tenant": "a"}))
    (reference,) = [item for item in pod_of(job)["containers"][0]["env"] if "secretKeyRef" in item.get("valueFrom", {})]
    assert reference["valueFrom"]["secretKeyRef"] == {"name": "my-token", "key": "t", "optional": False}
    sent = Plan.from_json({"url": "http://x", "template": plan_of(program)["template"], "streams": 0}).template
    assert sent.header_values({reference["name"]: "sesame"}) == {"Authorization": "Bearer sesame", "x-tenant": "a"}


def test_our_own_load_gets_the_api_key_if_there_is_one() -> None:
    from drills.kubernetes import manifests

    (secret,) = manifests.load("api-key", {"namespace": "leeward-load", "api_key": "k"})
    (reference,) = [item["valueFrom"]["secretKeyRef"] for item in pod_of(objects()[0])["containers"][0]["env"][1:]]
    assert reference == {"name": secret["metadata"]["name"], "key": next(iter(secret["stringData"])), "optional": True}


def test_nodes_that_are_struck_are_avoided_by_name() -> None:
    assert pod_of(objects()[0])["affinity"]["nodeAffinity"] == {}
    job, _ = objects(avoid_nodes=("a", "b"), node_selector={"pool": "core"}, pull_secrets=("registry",))
    (term,) = pod_of(job)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    # The API server takes one value for each field, and all requirements of a term must hold.
    assert [(r["key"], r["operator"], r["values"]) for r in term["matchFields"]] == [("metadata.name", "NotIn", [node]) for node in "ab"]
    assert (pod_of(job)["nodeSelector"], pod_of(job)["imagePullSecrets"]) == ({"pool": "core"}, [{"name": "registry"}])


class WithUids(Server):
    """A server that gives every new object a UID."""

    def _post(self, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        return super()._post(path, query, {**body, "metadata": {**body["metadata"], "uid": f"uid-{len(self.objects)}"}})


def test_the_program_belongs_to_the_job_and_goes_with_it() -> None:
    maps, jobs = "/api/v1/namespaces/shop/configmaps", "/apis/batch/v1/namespaces/shop/jobs"
    with serving(WithUids()) as (server, api):
        load = LoadJob(api, THEIRS, "load-1")
        assert load.start(Placement(image="i"), DRILL.load, 60)
        (owner,) = server.objects[f"{maps}/load-1"]["metadata"]["ownerReferences"]
        assert owner["uid"] == server.objects[f"{jobs}/load-1"]["metadata"]["uid"]
        assert not load.start(Placement(image="i"), DRILL.load, 60)
        journal.remove_load(api, THEIRS, "load-1")
        assert not server.objects


def test_a_load_whose_program_was_not_created_any_more_gets_it_by_the_next_try() -> None:
    with serving(WithUids()) as (server, api):
        load, path = LoadJob(api, THEIRS, "load-1"), "/api/v1/namespaces/shop/configmaps"
        load.start(Placement(image="i"), DRILL.load, 60)
        del server.objects[f"{path}/load-1"]
        assert not load.start(Placement(image="i"), DRILL.load, 60)
        assert f"{path}/load-1" in server.objects


def test_the_file_is_the_same_each_time_and_runs_without_any_package(tmp_path: Path) -> None:
    file = tmp_path / "load.pyz"
    file.write_bytes(load_file.make())
    assert load_file.make() == file.read_bytes()
    done = subprocess.run([sys.executable, "-I", "-S", file], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.strip()) == (1, "usage: load.pyz PLAN.json")

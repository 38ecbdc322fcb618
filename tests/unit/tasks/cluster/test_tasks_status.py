"""The status lists everything of a stack, marks what could not be asked as unknown, and changes nothing."""

from __future__ import annotations

import itertools
import json
import threading
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from drill_runs import deleted
from embedded_aws import EmbeddedAws
from kubernetes_server import Server

from blocks.cluster import ClusterNotActive, NoCluster
from blocks.parameters import Infrastructure, Service
from drills.kubernetes.api import Api, Unavailable
from drills.runner import journal
from drills.runner.journal import Journal, Lock
from drills.subject import HOME
from tasks.aws.account import ensure_state_bucket, redis_auth_token
from tasks.aws.leftovers import SERVICES
from tasks.status import tables
from tasks.status.aws import questions as aws_questions
from tasks.status.cluster import questions as cluster_questions
from tasks.status.questions import Asked, NoAnswer, Question, StatusRow, ask

READY = {"conditions": [{"type": "Ready", "status": "True"}]}
NOT_READY = {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}
SERVICE = "/apis/ray.io/v1/namespaces/mistral/rayservices/mistral"
OWNER = "12345678-aaaa"
_numbers = itertools.count()


@pytest.fixture
def stack() -> str:
    """A stack name that no other test uses, because buckets stay in the embedded S3."""
    return f"seen{next(_numbers)}"


def put(server: Server, collection: str, name: str, status: dict[str, Any] | None = None, **more: Any) -> None:
    labels = more.pop("labels", {})
    server.objects[f"{collection}/{name}"] = {"metadata": {"name": name, "labels": labels}, "status": status or {}, **more}


def pod(server: Server, name: str, kind: str, status: dict[str, Any], node: str = "") -> None:
    put(server, "/api/v1/namespaces/mistral/pods", name, status, labels={"ray.io/node-type": kind}, spec={"nodeName": node})


def seen(api: Api) -> list[str]:
    return [str(line) for line in ask(cluster_questions(api, Service()))]


def test_an_empty_cluster_gives_no_rows(pair: tuple[Server, Api]) -> None:
    assert seen(pair[1]) == []


def test_the_service_and_its_pods_are_listed_with_their_states(pair: tuple[Server, Api]) -> None:
    server, api = pair
    put(server, SERVICE.rpartition("/")[0], "mistral", {"conditions": [{"type": "UpgradeInProgress", "status": "True"}]})
    pod(server, "w1", "worker", READY, "inf2-1")
    pod(server, "h", "head", {**NOT_READY, "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]})
    assert seen(api) == [
        "RayService mistral/mistral: not ready, UpgradeInProgress",
        "head pod h: Unschedulable:",
        "worker pod w1: ready on inf2-1",
    ]


def test_objects_that_are_being_deleted_are_marked(pair: tuple[Server, Api]) -> None:
    server, api = pair
    put(server, SERVICE.rpartition("/")[0], "mistral", READY)
    server.objects[SERVICE]["metadata"]["deletionTimestamp"] = "2026-11-23T12:00:00Z"
    assert seen(api) == ["RayService mistral/mistral: ready, being deleted"]


def test_a_drill_is_listed_by_its_lock_its_journal_and_its_load(pair: tuple[Server, Api]) -> None:
    server, api = pair
    note = deleted("head-1", "u", 2.0)
    put(server, f"/apis/batch/v1/namespaces/{HOME}/jobs", "load-12345678-1", {"active": 1})
    journal.write(api, Service().subject, Journal(owner=OWNER, drill="head-pod", started=0.0, faults=(note,)))
    assert Lock(api, Service().subject, OWNER).take() is True
    load, lock, head = seen(api)
    assert load == "load load-12345678-1: 1 active"
    assert lock.startswith(f"drill lock mistral/mistral: held by run {OWNER} since {datetime.now(UTC):%Y-}")
    assert head == f"drill journal head-pod: open, of run {OWNER} since 1970-01-01 00:00:00 UTC; fault done to head-1"


def test_a_finished_drill_is_not_listed(pair: tuple[Server, Api]) -> None:
    _, api = pair
    journal.write(api, Service().subject, Journal(owner=OWNER, drill="head-pod", started=0.0, state="closed"))
    Lock(api, Service().subject, OWNER).take()
    Lock(api, Service().subject, OWNER).release()
    assert seen(api) == []


def test_nodes_are_counted_by_pool_and_nodeclaims_are_listed(pair: tuple[Server, Api]) -> None:
    server, api = pair
    put(server, "/api/v1/nodes", "a", READY, labels={"leeward.dev/pool": "inf2"})
    put(server, "/api/v1/nodes", "b", NOT_READY, labels={"leeward.dev/pool": "inf2"})
    put(server, "/api/v1/nodes", "c", READY)
    claims = "/apis/karpenter.sh/v1/nodeclaims"
    put(server, claims, "inf2-x", {**READY, "nodeName": "a"})
    put(server, claims, "inf2-y", {"conditions": [{"type": "Launched", "status": "False"}]})
    assert seen(api) == [
        "nodes inf2: 2, of which 1 ready",
        "nodes no pool: 1, of which 1 ready",
        "NodeClaim inf2-x: ready, node a",
        "NodeClaim inf2-y: not ready, not Launched",
    ]


def test_the_status_changes_nothing_in_the_cluster(pair: tuple[Server, Api]) -> None:
    server, api = pair
    seen(api)
    assert {method for method, _, _ in server.requests} == {"GET"}


def test_a_question_without_an_answer_gives_one_row_and_the_others_are_answered(pair: tuple[Server, Api]) -> None:
    server, api = pair
    put(server, "/api/v1/nodes", "c", READY)
    server.answers["GET", SERVICE] = (503, b'{"message": "overloaded"}')
    (unknown, nodes) = ask(cluster_questions(api, Service()))
    assert (unknown.kind, unknown.known) == ("RayService", False)
    assert "could not be asked" in unknown.says
    assert "overloaded" in unknown.says
    assert (nodes.kind, nodes.known) == ("nodes", True)


def test_a_question_without_an_answer_in_time_does_not_delay_the_others() -> None:
    never = threading.Event()

    def slow() -> list[StatusRow]:
        never.wait(600)
        return []

    lines = ask([Question("ec2", "s", slow), Question("eks", "s", lambda: [StatusRow("eks cluster", "s", "exists")])], within_s=2)
    assert [str(line) for line in lines] == ["ec2 s: could not be asked: no answer in time", "eks cluster s: exists"]
    with pytest.raises(NoAnswer):
        Asked(slow).answer(0.0)


def in_aws(aws: EmbeddedAws, stack: str, *, made_here: bool = True) -> list[str]:
    return [str(line) for line in ask(aws_questions(aws, stack, made_here=made_here))]


def test_an_empty_account_gives_no_rows(aws: EmbeddedAws, stack: str) -> None:
    assert in_aws(aws, stack) == []


def test_aws_resources_are_listed_together_with_the_bucket_that_stays(aws: EmbeddedAws, stack: str) -> None:
    bucket = ensure_state_bucket(aws, stack)
    redis_auth_token(aws, stack)
    kept = f"s3 bucket {bucket}: has state and evidence, and stays"
    assert in_aws(aws, stack) == [f"secretsmanager secret leeward/{stack}/redis-auth: exists", kept]
    assert in_aws(aws, stack, made_here=False) == [kept]


def test_a_lock_on_the_state_is_listed_with_its_holder(aws: EmbeddedAws, stack: str) -> None:
    bucket = ensure_state_bucket(aws, stack)
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
    lock = {"ID": "2ea1b2ff", "Operation": "OperationTypeApply", "Who": "root@here", "Created": created, "Info": "", "Path": "x"}
    aws.client("s3").put_object(Bucket=bucket, Key="terraform.tfstate.tflock", Body=json.dumps(lock).encode())
    said = in_aws(aws, stack)[-1]
    assert said.startswith(f"Terraform lock {bucket}/terraform.tfstate: held by root@here (apply, since ")
    assert "lock 2ea1b2ff" in said


def test_an_unreadable_lock_on_the_state_is_listed_as_unknown(aws: EmbeddedAws, stack: str) -> None:
    bucket = ensure_state_bucket(aws, stack)
    aws.client("s3").put_object(Bucket=bucket, Key="terraform.tfstate.tflock", Body=b"{}")
    assert f"Terraform lock {stack}: could not be asked: not a lock of Terraform" in in_aws(aws, stack)[-1]


class Away:
    """An AWS account that does not answer."""

    def client(self, name: str) -> Any:
        raise ConnectionError(f"{name} is away")


def test_an_account_that_does_not_answer_gives_one_unknown_row_per_service() -> None:
    lines = [str(line) for line in ask(aws_questions(Away(), "s", made_here=True))]
    assert lines == [f"{what} s: could not be asked: sts is away" for what in (*SERVICES, "s3 bucket", "Terraform lock")]


class Place:
    """A site with a given AWS session and cluster."""

    def __init__(self, stack: str, aws: Any, cluster: Api | Exception) -> None:
        self.cluster, self.infrastructure = stack, Infrastructure(name=stack)
        self.block = SimpleNamespace(aws=aws, provisioned=True, session=lambda: aws)
        self._cluster = cluster

    def api(self) -> Api:
        if isinstance(self._cluster, Exception):
            raise self._cluster
        return self._cluster


def looked(stack: str, aws: Any, cluster: Api | Exception) -> list[str]:
    return [str(line) for line in tables.stack_rows(Place(stack, aws, cluster), Service())]  # type: ignore[arg-type]  # a double


def test_a_stack_that_does_not_exist_gives_one_row(aws: EmbeddedAws, stack: str) -> None:
    assert looked(stack, aws, NoCluster("none")) == [f"stack {stack}: nothing of it is there"]
    bucket = ensure_state_bucket(aws, stack)
    assert looked(stack, aws, NoCluster("none")) == [
        f"s3 bucket {bucket}: has state and evidence, and stays",
        f"stack {stack}: nothing of it is there but the bucket with state and evidence",
    ]


def test_a_stack_that_cannot_be_asked_is_not_reported_as_gone() -> None:
    assert not [line for line in looked("s", Away(), NoCluster("none")) if "nothing" in line]


def test_a_cluster_that_is_being_created_is_a_row_and_no_error(aws: EmbeddedAws, stack: str) -> None:
    assert looked(stack, aws, ClusterNotActive("EKS cluster is CREATING")) == [f"cluster {stack}: EKS cluster is CREATING"]


def test_a_cluster_that_cannot_be_asked_is_a_row() -> None:
    assert looked("s", None, Unavailable("no route")) == ["cluster s: could not be asked: no route"]


def test_a_target_without_aws_asks_only_the_cluster(pair: tuple[Server, Api]) -> None:
    put(pair[0], "/api/v1/nodes", "c", READY)
    assert looked("s", None, pair[1]) == ["nodes no pool: 1, of which 1 ready"]

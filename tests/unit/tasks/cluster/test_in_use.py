"""What a service uses is not taken away from it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes_server import serving

from drills.kubernetes.api import Unavailable
from tasks.cluster import in_use
from tasks.cluster.access import NoAccess
from tasks.cluster.in_use import InService, check_in_use, users
from tasks.terraform.events import Change, PlanSummary

REDIS = Change("aws_elasticache_replication_group.gcs[0]", "delete")
ROLE = Change("aws_iam_role.node", "replace")
WITH_REDIS: dict[str, Any] = {
    "metadata": {"namespace": "mistral", "name": "mistral"},
    "spec": {"rayClusterConfig": {"gcsFaultToleranceOptions": {"redisAddress": "rediss://x:6379"}}},
}
WITHOUT: dict[str, Any] = {"metadata": {"namespace": "other", "name": "plain"}, "spec": {"rayClusterConfig": {}}}


def test_a_redis_is_used_by_the_services_with_fault_tolerance_alone() -> None:
    assert users([WITH_REDIS, WITHOUT], PlanSummary((REDIS,))) == [f"mistral/mistral uses {REDIS.address}"]


def test_cluster_network_and_node_roles_are_used_by_every_service() -> None:
    assert len(users([WITH_REDIS, WITHOUT], PlanSummary((ROLE,)))) == 2
    assert (
        users([WITH_REDIS, WITHOUT], PlanSummary((Change("aws_vpc.this", "update"), Change("aws_sqs_queue.karpenter[0]", "delete")))) == []
    )


def test_a_plan_that_takes_a_running_services_redis_away_is_refused_with_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as (server, api):
        monkeypatch.setattr(in_use, "connect", lambda site: api)
        plan, site = PlanSummary((REDIS,)), SimpleNamespace()
        check_in_use.fn(site, plan)
        server.objects["/apis/ray.io/v1/rayservices/mistral"] = WITH_REDIS
        with pytest.raises(InService, match="mistral/mistral uses aws_elasticache_replication_group"):
            check_in_use.fn(site, plan)
        check_in_use.fn(site, PlanSummary((Change(REDIS.address, "update"),)))


def test_without_a_cluster_nothing_is_in_use_and_one_that_does_not_answer_is_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(error: Exception) -> Any:
        def fail(site: Any) -> None:
            raise error

        return fail

    monkeypatch.setattr(in_use, "connect", connect(NoAccess("none")))
    check_in_use.fn(SimpleNamespace(), PlanSummary((REDIS,)))
    monkeypatch.setattr(in_use, "connect", connect(Unavailable("no answer")))
    with pytest.raises(InService, match="does not say what uses it"):
        check_in_use.fn(SimpleNamespace(), PlanSummary((REDIS,)))

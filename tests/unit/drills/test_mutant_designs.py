"""The broken designs of tests/mutants: lint sees those that can be seen, and every one has a page that exists and words of its cause."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from drills.cli import main as command
from drills.cli.definition import definition, requests
from drills.definition import catalogue
from drills.lint.living import LOOPBACK, Living, storage_hosts
from drills.lint.rules import RULES, Severity, check
from tests.mutants.designs import DESIGNS, HEALTHY, SERVICE, Design

SEEN = [design for design in DESIGNS.values() if design.rules]


def around(design: Design) -> Living:
    """The service as lint reads it from a cluster that has placed each worker on a node of its own."""
    things = design.objects({})
    spec = design.ray_service()["spec"]["rayClusterConfig"]
    count = sum(group["replicas"] for group in spec["workerGroupSpecs"])
    head: dict[str, Any] = {"metadata": {"name": "head", "labels": {"ray.io/node-type": "head"}}, "spec": {"nodeName": "node-0"}}
    workers = [
        {"metadata": {"name": f"worker-{n}", "labels": {"ray.io/node-type": "worker"}}, "spec": {"nodeName": f"node-{n}"}}
        for n in range(count)
    ]
    redis = next(thing["spec"]["template"] for thing in things if thing["kind"] == "Deployment")
    at = {"metadata": {"name": "redis"}, "spec": redis["spec"]}
    living = Living(design.ray_service())
    hosts = storage_hosts(living)
    return Living(
        ray_service={**design.ray_service(), "metadata": {"name": SERVICE, "namespace": "here"}},
        head_service={"spec": {"clusterIP": "10.0.0.9" if "headService" in spec["headGroupSpec"] else "None"}},
        pods=(head, *workers),
        budgets=tuple(thing for thing in things if thing["kind"] == "PodDisruptionBudget"),
        karpenter=False,
        redis=() if not hosts else (head,) if set(hosts) & set(LOOPBACK) else (at,),
    )


def broken(design: Design) -> set[str]:
    return {finding.rule.name for finding in check(around(design)).findings}


def test_the_healthy_service_is_at_risk_by_its_small_redis_and_by_nothing_that_breaks_it() -> None:
    found = check(around(HEALTHY[0]))
    assert found.unchecked == {}
    assert [finding.rule.name for finding in found.findings if finding.rule.severity is Severity.BREAKS] == []
    assert broken(HEALTHY[0]) == {"Redis over TLS", "Redis keeps what it has", "images by digest"}


@pytest.mark.parametrize("design", SEEN, ids=lambda design: design.name)
def test_lint_names_every_design_that_it_can_see(design: Design) -> None:
    assert set(design.rules) <= {rule.name for rule in RULES}
    assert set(design.rules) <= broken(design)
    breaking = {rule.name for rule in RULES if rule.severity is Severity.BREAKS}
    assert broken(design) & breaking == set(design.rules) & breaking


@pytest.mark.parametrize("design", [*DESIGNS.values(), *HEALTHY], ids=lambda design: f"{design.name}-{design.page}")
def test_the_drill_of_each_can_be_asked_of_the_command(design: Design) -> None:
    assert design.page in catalogue()
    options = command.parser().parse_args(["drill", *design.drill(), "--break", f"here/{SERVICE}"])
    drill = definition(options, requests(options))
    assert drill.load.streams > 0
    assert design.verdict != "failed" or design.causes


def test_every_design_of_the_list_is_there() -> None:
    assert {
        *("no-storage", "serving-head", "one-replica", "one-node", "forgetful-redis", "impatient", "narrow", "hasty"),
        *("cuts", "forgets", "spare-group", "blocked-drain", "short-time-out"),
    } <= set(DESIGNS)


def test_an_overlay_changes_what_it_names_and_nothing_else() -> None:
    healthy, changed = HEALTHY[0].ray_service(), DESIGNS["impatient"].ray_service()
    container = changed["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    assert container["env"].pop() == {"name": "RAY_gcs_rpc_server_reconnect_timeout_s", "value": "2"}
    assert changed == healthy
    assert "gcsFaultToleranceOptions" not in DESIGNS["no-storage"].ray_service()["spec"]["rayClusterConfig"]
    (one,) = yaml.safe_load(DESIGNS["one-replica"].ray_service()["spec"]["serveConfigV2"])["applications"][0]["deployments"]
    assert (one["num_replicas"], one["max_replicas_per_node"]) == (1, 1)

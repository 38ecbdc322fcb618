"""One drill for each kind of fault beside the loss of the head: it is done to the very thing that was found, proven and undone."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes import config
from system_under_test import SHORT, Run, System

from blocks.parameters import SERVICE
from drills.definition import Drill
from drills.kubernetes.api import Api
from drills.runner import journal
from drills.runner.acts import cut_network


def drilled(system: System, name: str) -> dict[str, Any]:
    """Return the evidence of that drill, whose fault is proven whatever its verdict is."""
    page = Drill.named(name)
    run = system.run("drill/main", drill=name, timing=page.timing.model_dump() | SHORT)
    found = run.evidence
    assert found["verdict"] in ("passed", "failed"), found["why"]
    assert len(found["strikes"]) == len(page.faults)
    assert all(strike["done"] for strike in found["strikes"])
    assert found["recovery_s"] is not None
    return found


@pytest.fixture
def api(system: System, struck: Run) -> Api:
    return Api(config.new_client_from_config(str(system.kubeconfig)))


@pytest.mark.long
def test_a_killed_process_of_the_head_restarts_its_container_and_no_worker(system: System, struck: Run) -> None:
    found = drilled(system, "gcs-server-killed")
    (strike,) = found["strikes"]
    assert (strike["target"]["name"], strike["told"]) == ("gcs_server", "gone")
    heads = {pod["uid"] for pod in found["pods"] if pod["role"] == "head"}
    assert heads == set(strike["target"]["pods"]), "it is the same pod"


def test_a_stopped_process_goes_on_by_itself_and_nothing_is_left(system: System, api: Api) -> None:
    (strike,) = drilled(system, "gcs-stopped-30s")["strikes"]
    assert (strike["told"], strike["ended"]) == ("stopped", pytest.approx(strike["at"] + 30))
    left = journal.read(api, SERVICE.subject)
    assert left
    assert not left.left


@pytest.mark.long
def test_a_drained_node_gets_no_pod_of_the_service_and_is_schedulable_again(system: System, api: Api) -> None:
    found = drilled(system, "node-drained")
    (strike,) = found["strikes"]
    after = {worker["uid_after"]: worker["node"] for worker in found["workers"] if worker["uid_after"]}
    assert strike["target"]["name"] not in after.values()
    assert not set(strike["target"]["pods"]) & set(after)
    assert not [n["metadata"]["name"] for n in api.items("/api/v1/nodes") if n["spec"].get("unschedulable")]


@pytest.mark.long
def test_a_head_is_cut_off_and_back_by_itself_and_the_namespace_is_as_strict_as_before(system: System, api: Api) -> None:
    (strike,) = drilled(system, "head-cut-30s")["strikes"]
    assert (strike["told"], strike["ended"]) == ("cut", pytest.approx(strike["at"] + 30))
    pod = api.get(f"/api/v1/namespaces/{SERVICE.namespace}/pods/{strike['target']['name']}")
    (added,) = [s for s in pod["status"]["ephemeralContainerStatuses"] if s["name"] == strike["target"]["mark"]]
    assert added["state"]["terminated"]["exitCode"] == 0
    namespace = api.get(f"/api/v1/namespaces/{SERVICE.namespace}")["metadata"]
    assert namespace["labels"][cut_network.ENFORCE] == "restricted"
    assert cut_network.LIFTED not in namespace["annotations"]


@pytest.mark.long
def test_a_worker_is_lost_while_the_head_is_away(system: System, struck: Run) -> None:
    found = drilled(system, "worker-while-head-down")
    head, worker = found["strikes"]
    assert 0 < worker["at"] - head["at"] < 20
    replaced = [seen for seen in found["workers"] if seen["uid_before"] == worker["target"]["uid"]]
    assert [seen["uid_after"] for seen in replaced] == [None]


@pytest.mark.long
def test_a_head_is_lost_while_the_operator_is_away_and_the_operator_works_again(system: System, api: Api) -> None:
    operator, head = drilled(system, "head-lost-without-operator")["strikes"]
    assert operator["told"] == "held"
    assert operator["at"] < head["at"] < operator["ended"]
    namespace, _, name = operator["target"]["name"].partition("/")
    lease = api.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}")
    assert lease["spec"]["holderIdentity"] not in ("", operator["target"]["mark"])

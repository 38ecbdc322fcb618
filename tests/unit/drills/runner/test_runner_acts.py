"""Each act finds one target, strikes that one and no other, also after a crash, and undoes what lasts.

Commands in containers run here for real, on a process of the test, whose name no other process has.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_server import Message, Server, exit_status, serving

from blocks.errors import TimedOut
from blocks.parameters import Service
from drills.faults import CutNetwork, DeletePod, DrainNode, Signal, When
from drills.kubernetes.api import Api
from drills.observed import HeadSeen, Snapshot, WorkerSeen
from drills.runner import faults, journal
from drills.runner.acts import cut_network, drain_node, signal_process
from drills.runner.acts.act import NothingToBreak
from drills.runner.faults import Follower, UndoFailed
from drills.runner.journal import Journal, Lock
from drills.strikes import Strike, Target

PODS = "/api/v1/namespaces/mistral/pods"
NODE = "/api/v1/nodes/inf2-1"
SUBJECT = Service().subject
NAME = "leeward-acts"
"""Name of the test's own process. Processes of a Ray cluster on this machine must not be found."""
KILL = Signal.model_construct(of="head", process=NAME, signal="KILL")


def put_pod(server: Server, name: str, role: str, **spec: Any) -> None:
    labels = {"ray.io/cluster": "mistral-1", "ray.io/node-type": role}
    running = {"name": "ray", "containerID": f"containerd://{name}-1", "state": {"running": {}}}
    server.objects[f"{PODS}/{name}"] = {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels, "creationTimestamp": "2026-11-23T12:00:00Z"},
        "spec": {
            "containers": [{"name": "ray", "image": "registry/head@sha256:1"}],
            "nodeName": "core-1" if role == "head" else f"inf2-{name[-1]}",
            **spec,
        },
        "status": {
            "phase": "Running",
            "podIP": f"10.0.0.{len(server.objects)}",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [running],
        },
    }


def run(pod: str, container: str, command: list[str]) -> list[Message]:
    """Run the command on this machine, without its standard files after its end."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    return [(1, done.stdout), (2, done.stderr), exit_status(done.returncode)]


@pytest.fixture
def pair() -> Iterator[tuple[Server, Api]]:
    with serving() as (server, api):
        ray_service = {"metadata": {"name": "mistral"}, "status": {"activeServiceStatus": {"rayClusterName": "mistral-1"}}}
        server.objects["/apis/ray.io/v1/namespaces/mistral/rayservices/mistral"] = ray_service
        put_pod(server, "head", "head")
        for name in ("w1", "w2"):
            put_pod(server, name, "worker")
        server.objects[NODE] = {"metadata": {"name": "inf2-1", "uid": "uid-node"}, "spec": {}}
        server.run = run
        yield server, api


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    program = shutil.copy("/bin/sleep", tmp_path / NAME)
    with subprocess.Popen([program, "300"]) as child:
        yield child
        child.kill()


def state(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0]


def commands(server: Server) -> int:
    return sum(method == "EXEC" for method, _, _ in server.requests)


def test_a_process_is_found_by_name_and_known_by_container_id_and_start_time(
    pair: tuple[Server, Api], process: subprocess.Popen[bytes]
) -> None:
    found = signal_process.find(pair[1], SUBJECT, KILL, None)
    started = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()[19]
    assert found.target == Target(
        kind="process",
        name=NAME,
        uid=f"{process.pid}:{started}",
        node="core-1",
        pod="head",
        container="containerd://head-1",
        pods=("uid-head",),
    )
    assert found.undo == ""


def test_a_killed_process_is_gone_and_a_second_try_keeps_the_time_that_was_planned(
    pair: tuple[Server, Api], process: subprocess.Popen[bytes]
) -> None:
    _, api = pair
    planned = signal_process.find(api, SUBJECT, KILL, None).model_copy(update={"at": 5.0})
    done = signal_process.strike(api, SUBJECT, KILL, planned)
    assert (done.done, done.told, done.ended) == (True, "gone", None)
    assert done.at > 5.0
    assert process.wait(60) == -9
    again = signal_process.strike(api, SUBJECT, KILL, planned)
    assert (again.told, again.at) == ("gone", 5.0)


def test_a_process_with_the_same_id_and_another_start_time_is_not_touched(
    pair: tuple[Server, Api], process: subprocess.Popen[bytes]
) -> None:
    planned = signal_process.find(pair[1], SUBJECT, KILL, None)
    other = planned.model_copy(update={"target": planned.target.model_copy(update={"uid": f"{process.pid}:7"})})
    assert signal_process.strike(pair[1], SUBJECT, KILL, other).told == "gone"
    assert process.poll() is None


@pytest.mark.parametrize("change", ["container", "pod"])
def test_nothing_is_done_in_another_container_or_pod_than_the_planned_one(
    pair: tuple[Server, Api], process: subprocess.Popen[bytes], change: str
) -> None:
    server, api = pair
    planned = signal_process.find(api, SUBJECT, KILL, None)
    so_far, pod = commands(server), server.objects[f"{PODS}/head"]
    if change == "pod":
        pod["metadata"]["uid"] = "another"
    else:
        pod["status"]["containerStatuses"][0]["containerID"] = "containerd://head-2"
    assert signal_process.strike(api, SUBJECT, KILL, planned).told == "gone"
    signal_process.undo(api, SUBJECT, planned)
    assert commands(server) == so_far
    assert process.poll() is None


def test_a_container_that_ends_with_the_command_in_it_counts_as_struck(pair: tuple[Server, Api], process: subprocess.Popen[bytes]) -> None:
    server, api = pair
    planned = signal_process.find(api, SUBJECT, KILL, None)

    def end(pod: str, container: str, command: list[str]) -> list[Message]:
        run(pod, container, command)
        server.objects[f"{PODS}/head"]["status"]["containerStatuses"][0] = {"name": "ray", "state": {"waiting": {}}}
        return [exit_status(137)]

    server.run = end
    assert signal_process.strike(api, SUBJECT, KILL, planned).told == "gone"


def test_a_pod_with_the_process_ids_of_its_node_is_refused_before_a_command_runs_there(pair: tuple[Server, Api]) -> None:
    server, api = pair
    put_pod(server, "head", "head", hostPID=True)
    with pytest.raises(NothingToBreak, match="hostPID"):
        signal_process.find(api, SUBJECT, KILL, None)
    assert commands(server) == 0


def test_a_stopped_process_goes_on_by_a_timer_of_its_own_and_is_not_stopped_twice(
    pair: tuple[Server, Api], process: subprocess.Popen[bytes]
) -> None:
    _, api = pair
    stop = Signal.model_construct(of="head", process=NAME, signal="STOP", hold_s=2.0)
    planned = signal_process.find(api, SUBJECT, stop, None)
    assert planned.undo == f"let {NAME} in head go on"
    done = signal_process.strike(api, SUBJECT, stop, planned)
    assert (done.told, done.ended, state(process)) == ("stopped", done.at + 2.0, "T")
    again = signal_process.strike(api, SUBJECT, stop, planned)
    assert (again.told, again.at) == ("stopped", planned.at)
    while state(process) == "T":
        time.sleep(0.1)
    assert time.time() >= done.at + 2.0
    assert signal_process.strike(api, SUBJECT, stop, planned).told == "stopped", "it is not stopped again"
    assert state(process) != "T"
    signal_process.undo(api, SUBJECT, done)
    assert not Path(f"/tmp/leeward-stopped-{planned.target.uid.replace(':', '-')}").exists()


def test_a_stopped_process_goes_on_when_it_is_undone_before_its_time(pair: tuple[Server, Api], process: subprocess.Popen[bytes]) -> None:
    _, api = pair
    stop = Signal.model_construct(kind="signal", of="head", process=NAME, signal="STOP", hold_s=600.0, when=None)
    written = journal.write(api, SUBJECT, Journal(owner="run", drill="x", started=1.0))
    written = faults.inject(api, SUBJECT, (stop,), written)
    assert state(process) == "T"
    assert written.left
    assert faults.undo(api, SUBJECT) == [f"let {NAME} in head go on"]
    assert state(process) != "T"
    assert faults.undo(api, SUBJECT) == [], "it was undone"
    read = journal.read(api, SUBJECT)
    assert read
    assert not read.left


@pytest.mark.parametrize(
    ("fault", "words", "actor"),
    [
        (Signal(process="serve-controller"), "Serve controller", "c"),
        (Signal(process="serve-proxy", of="worker"), "Serve proxy", "p1"),
        (Signal(process="replica", of="worker"), "replica of api", "a1"),
        (Signal(process="replica", of="worker", deployment="engine"), "replica of engine", "r1"),
    ],
)
def test_an_actor_of_serve_is_found_by_the_process_id_that_ray_tells(
    pair: tuple[Server, Api], process: subprocess.Popen[bytes], fault: Signal, words: str, actor: str
) -> None:
    server, api = pair
    addresses = {name: server.objects[f"{PODS}/{name}"]["status"]["podIP"] for name in ("head", "w1")}
    where = {"node_ip": addresses["w1"], "state": "RUNNING"}
    deployments = {
        "api": {"status": "HEALTHY", "replicas": [{"actor_id": "a1", **where}]},
        "engine": {"status": "HEALTHY", "replicas": [{"actor_id": "r1", **where}]},
    }
    applications = {
        "applications": {"m": {"status": "RUNNING", "deployments": deployments}},
        "controller_info": {"actor_id": "c", "node_ip": addresses["head"], "worker_id": "w"},
        "proxies": {"n1": {"actor_id": "p1", "node_ip": addresses["w1"], "status": "HEALTHY"}},
    }
    ray = "/api/v1/namespaces/mistral/services/mistral-head-svc:8265/proxy"
    server.answers["GET", f"{ray}/api/serve/applications/"] = (200, json.dumps(applications).encode())
    told = {"data": {"result": {"result": [{"actor_id": actor, "pid": process.pid}]}}}
    server.answers["GET", f"{ray}/api/v0/actors"] = (200, json.dumps(told).encode())
    found = signal_process.find(api, SUBJECT, fault, None)
    assert found.target.name == words
    assert found.target.uid.startswith(f"{process.pid}:")
    assert found.target.pod == ("head" if actor == "c" else "w1")


def test_an_actor_that_ray_does_not_list_is_nothing_to_break(pair: tuple[Server, Api]) -> None:
    with pytest.raises(NothingToBreak, match="Serve controller"):
        signal_process.find(pair[1], SUBJECT, Signal(process="serve-controller"), None)


def test_a_drained_node_is_cordoned_and_only_the_pods_of_the_service_are_evicted(pair: tuple[Server, Api]) -> None:
    server, api = pair
    server.objects[f"{PODS}/other"] = {"metadata": {"name": "other", "uid": "uid-other"}, "spec": {"nodeName": "inf2-1"}}
    planned = drain_node.find(api, SUBJECT, DrainNode(), None)
    assert (planned.target.name, planned.target.uid, planned.target.pods) == ("inf2-1", "uid-node", ("uid-w1",))
    done = drain_node.strike(api, SUBJECT, DrainNode(), planned)
    assert server.objects[NODE]["spec"]["unschedulable"] is True
    assert f"{PODS}/w1" not in server.objects
    assert f"{PODS}/other" in server.objects
    assert done.ended is not None
    assert drain_node.strike(api, SUBJECT, DrainNode(), planned).done, "a second try finds nothing to do"
    for _ in range(2):
        drain_node.undo(api, SUBJECT, done)
        assert not server.objects[NODE]["spec"].get("unschedulable")


def test_a_drain_says_which_budget_forbids_it_and_is_undone(pair: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch) -> None:
    server, api = pair
    monkeypatch.setattr(drain_node, "EVICT_WITHIN_S", 0.0)
    server.budgets[f"{PODS}/w1"] = "The disruption budget workers needs 2 healthy pods and has 2 currently"
    written = journal.write(api, SUBJECT, Journal(owner="run", drill="x", started=1.0))
    with pytest.raises(TimedOut, match="disruption budget workers needs 2"):
        faults.inject(api, SUBJECT, (DrainNode(),), written)
    assert server.objects[NODE]["spec"]["unschedulable"] is True
    assert faults.undo(api, SUBJECT) == ["uncordon node inf2-1"], "what was planned and not finished is undone, too"
    assert not server.objects[NODE]["spec"].get("unschedulable")


@pytest.mark.parametrize("later", [{"unschedulable": True}, None])
def test_a_node_that_another_one_cordoned_or_replaced_stays_as_it_is(pair: tuple[Server, Api], later: dict[str, Any] | None) -> None:
    server, api = pair
    planned = drain_node.find(api, SUBJECT, DrainNode(), None)
    server.objects[NODE] = {"metadata": {"name": "inf2-1", "uid": "uid-node" if later else "new"}, "spec": {"unschedulable": True}}
    drain_node.undo(api, SUBJECT, planned)
    assert server.objects[NODE]["spec"]["unschedulable"] is True
    if later:
        with pytest.raises(NothingToBreak, match="cordoned already"):
            drain_node.find(api, SUBJECT, DrainNode(), None)


class Added:
    """What becomes of a container that is added to a pod: its state, and what it says."""

    def __init__(self, server: Server, says: str = "cut 105.0\n", state: str = "running", code: int = 0) -> None:
        self.server, self.says, self.state, self.code = server, says, state, code
        self.containers: list[dict[str, Any]] = []
        self.levels: list[str] = []
        """The namespace's Pod Security whenever one was added."""
        server.starts, server.run = self.start, self.command
        server.objects["/api/v1/namespaces/mistral"] = {
            "metadata": {
                "name": "mistral",
                "labels": {cut_network.ENFORCE: "restricted"},
                "annotations": {"leeward.dev/made-by": "leeward"},
            }
        }

    @property
    def namespace(self) -> Any:
        return self.server.objects["/api/v1/namespaces/mistral"]["metadata"]

    def start(self, pod: str, container: dict[str, Any]) -> None:
        self.containers.append(container)
        self.levels.append(self.namespace["labels"].get(cut_network.ENFORCE))
        self.pod, self.name = pod, container["name"]
        self.server.answers["GET", f"{pod}/log"] = (200, self.says.encode())
        self.set(self.state)

    def set(self, state: str) -> None:
        states = {"terminated": {"exitCode": self.code}, "waiting": {"reason": "ImagePullBackOff"}}
        status = self.server.objects[self.pod]["status"]
        status["ephemeralContainerStatuses"] = [{"name": self.name, "state": {state: states.get(state, {})}}]

    def command(self, pod: str, container: str, command: list[str]) -> list[Message]:
        assert (container, command) == (self.name, ["touch", "/tmp/leeward-heal"])
        self.server.answers["GET", f"{self.pod}/log"] = (200, f"{self.says}healed 107.0\n".encode())
        self.set("terminated")
        return [exit_status(0)]


def test_a_pod_is_cut_off_by_a_container_with_the_one_capability_that_it_needs_and_only_once(pair: tuple[Server, Api]) -> None:
    server, api = pair
    added, fault = Added(server), CutNetwork(for_s=30)
    server.objects[f"{PODS}/head"]["status"]["hostIPs"] = [{"ip": "192.168.1.7"}]
    planned = cut_network.find(api, SUBJECT, fault, None)
    assert added.containers == [], "it was only asked for"
    assert (planned.target.name, planned.target.uid, planned.undo) == ("head", "uid-head", "let head back into the network")
    for _ in range(2):
        done = cut_network.strike(api, SUBJECT, fault, planned)
        assert (done.told, done.at, done.ended) == ("cut", 105.0, 135.0)
    (container,) = added.containers
    assert container["name"] == planned.target.mark
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    assert [container["command"][4], container["command"][-1]] == ["30", "192.168.1.7"]
    compile(container["command"][3], "blackhole", "exec")
    assert added.levels == ["privileged"]
    assert added.namespace["labels"][cut_network.ENFORCE] == "restricted"
    assert cut_network.LIFTED not in added.namespace["annotations"]


def test_a_namespace_of_somebody_else_keeps_its_pod_security_and_the_cut_is_refused_before(pair: tuple[Server, Api]) -> None:
    server, api = pair
    added = Added(server)
    added.namespace["annotations"].clear()
    with pytest.raises(NothingToBreak, match=r"NET_ADMIN.*PodSecurity.*needs the label"):
        cut_network.find(api, SUBJECT, CutNetwork(), None)
    server.answers["GET", "/api/v1/namespaces/mistral"] = (403, b'{"message": "forbidden"}')
    with pytest.raises(NothingToBreak, match="NET_ADMIN"):
        cut_network.find(api, SUBJECT, CutNetwork(), None)
    assert added.namespace["labels"][cut_network.ENFORCE] == "restricted"
    added.namespace["labels"].clear()
    assert cut_network.strike(api, SUBJECT, CutNetwork(), cut_network.find(api, SUBJECT, CutNetwork(), None)).told == "cut"


def test_the_network_of_a_node_is_never_cut(pair: tuple[Server, Api]) -> None:
    put_pod(pair[0], "head", "head", hostNetwork=True)
    with pytest.raises(NothingToBreak, match="hostNetwork"):
        cut_network.find(pair[1], SUBJECT, CutNetwork(), None)


def test_a_container_that_cannot_cut_is_an_error_with_what_it_said(pair: tuple[Server, Api]) -> None:
    server, api = pair
    Added(server, says="OSError: Operation not permitted", state="terminated", code=1)
    planned = cut_network.find(api, SUBJECT, CutNetwork(), None)
    with pytest.raises(cut_network.NotCut, match="Operation not permitted"):
        cut_network.strike(api, SUBJECT, CutNetwork(), planned)
    cut_network.undo(api, SUBJECT, planned)


def test_a_pod_that_was_replaced_is_not_cut_off_and_needs_no_way_back(pair: tuple[Server, Api]) -> None:
    server, api = pair
    added = Added(server)
    planned = cut_network.find(api, SUBJECT, CutNetwork(), None)
    server.objects[f"{PODS}/head"]["metadata"]["uid"] = "another"
    with pytest.raises(NothingToBreak, match="replaced"):
        cut_network.strike(api, SUBJECT, CutNetwork(), planned)
    cut_network.undo(api, SUBJECT, planned)
    assert added.containers == []


def test_a_pod_is_let_back_before_its_time_and_a_runner_that_died_leaves_no_lifted_pod_security(pair: tuple[Server, Api]) -> None:
    server, api = pair
    added = Added(server)
    written = journal.write(api, SUBJECT, Journal(owner="run", drill="x", started=1.0))
    faults.inject(api, SUBJECT, (CutNetwork(for_s=600),), written)
    added.namespace["labels"][cut_network.ENFORCE] = "privileged"
    added.namespace["annotations"][cut_network.LIFTED] = "restricted"
    assert faults.undo(api, SUBJECT) == ["let head back into the network"]
    assert commands(server) == 1
    assert (added.namespace["labels"][cut_network.ENFORCE], cut_network.LIFTED in added.namespace["annotations"]) == ("restricted", False)
    assert faults.undo(api, SUBJECT) == []


def test_rules_that_are_still_there_after_the_end_are_an_error_that_says_what_to_do(pair: tuple[Server, Api]) -> None:
    server, api = pair
    added = Added(server)
    done = cut_network.strike(api, SUBJECT, CutNetwork(), cut_network.find(api, SUBJECT, CutNetwork(), None))
    added.code = 137
    added.set("terminated")
    with pytest.raises(cut_network.NotCut, match=r"may still be cut off.*137"):
        cut_network.undo(api, SUBJECT, done)


def test_a_container_that_has_not_started_is_waited_for_as_long_as_it_would_still_cut(
    pair: tuple[Server, Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, api = pair
    monkeypatch.setattr(cut_network, "CUT_WITHIN_S", 0.0)
    monkeypatch.setattr(cut_network, "LATEST_S", 1.0)
    Added(server, says="", state="waiting")
    planned = cut_network.find(api, SUBJECT, CutNetwork(), None)
    with pytest.raises(TimedOut, match="ImagePullBackOff"):
        cut_network.strike(api, SUBJECT, CutNetwork(), planned)
    cut_network.undo(api, SUBJECT, planned)
    assert time.time() > planned.at + 1.0


def test_a_try_after_one_that_died_while_pod_security_was_lifted_puts_it_back_to_what_it_was(pair: tuple[Server, Api]) -> None:
    server, api = pair
    added = Added(server)
    planned = cut_network.find(api, SUBJECT, CutNetwork(), None)
    added.namespace["labels"][cut_network.ENFORCE] = "privileged"
    added.namespace["annotations"][cut_network.LIFTED] = "restricted"
    assert cut_network.strike(api, SUBJECT, CutNetwork(), planned).told == "cut"
    assert (added.namespace["labels"][cut_network.ENFORCE], cut_network.LIFTED in added.namespace["annotations"]) == ("restricted", False)


def test_undoing_goes_from_the_last_to_the_first_and_an_error_keeps_none_of_the_others(pair: tuple[Server, Api]) -> None:
    _, api = pair
    strange = Strike(act="flood", target=Target(name="x", uid="x"), at=1.0, undo="dry it")
    drained = [drain_node.find(api, SUBJECT, DrainNode(), None).model_copy(update={"undo": f"uncordon {n}"}) for n in (1, 2)]
    note = journal.FaultNote(strikes=(drained[0], strange, drained[1]), done=True)
    journal.write(api, SUBJECT, Journal(owner="run", drill="x", started=1.0, faults=(note,)))
    told: list[str] = []
    with pytest.raises(UndoFailed, match="dry it"):
        faults.undo(api, SUBJECT, told.append)
    assert told == ["undone: uncordon 2", "undone: uncordon 1"]
    read = journal.read(api, SUBJECT)
    assert read
    assert [strike.left for strike in read.faults[0].strikes] == [False, True, False]


def test_a_deleted_worker_is_the_busiest_one_by_what_was_known_before_where_ray_cannot_be_asked(pair: tuple[Server, Api]) -> None:
    from drills.observed import ReplicaSeen
    from drills.runner.acts import delete_pod

    def found(**fault: Any) -> str:
        replicas = tuple(ReplicaSeen(actor_id=f"a{n}", deployment="m", pod=pod) for n, pod in enumerate(("w1", "w2", "w2")))
        before = Snapshot(t=1.0, replicas=replicas, app_status="RUNNING")
        return delete_pod.find(pair[1], SUBJECT, DeletePod(of="worker", **fault), before).target.name

    assert (found(), found(which="idlest")) == ("w2", "w1")


# faults that follow


def look(t: float, *, head: bool = True, worker: str = "uid-w1") -> Snapshot:
    return Snapshot(
        t=t,
        head=HeadSeen(pod="head", uid="uid-new", running=True, ready=head),
        workers=(WorkerSeen(pod="w1", uid=worker, ready=True),),
    )


BEFORE = Snapshot(t=99.0, head=HeadSeen(pod="head", uid="uid-head", running=True, ready=True))


def follower(api: Api, when: When) -> Follower:
    from drills.definition import Drill

    drill = Drill.named("head-pod").model_copy(update={"faults": (DeletePod(grace="forced"), DeletePod(of="worker", when=when))})
    Lock(api, SUBJECT, "run").take()
    journal.write(api, SUBJECT, Journal(owner="run", drill="x", started=1.0, before=BEFORE))
    written = faults.inject_once(api, SUBJECT, drill, "run")
    note = written.faults[0].model_copy(update={"strikes": (written.faults[0].strikes[0].model_copy(update={"at": 100.0}),)})
    return Follower(api, SUBJECT, drill, journal.write(api, SUBJECT, written.with_fault(1, note)))


def test_a_fault_that_follows_is_done_once_when_its_moment_is_seen(pair: tuple[Server, Api]) -> None:
    server, api = pair
    follow = follower(api, When(seen="head-down", within_s=20))
    assert not follow.note.done
    for now in (look(99.5, head=False), look(101), look(102).model_copy(update={"head": BEFORE.head})):
        assert follow.see(BEFORE, now) == ""
    assert f"{PODS}/w1" in server.objects
    assert follow.see(BEFORE, look(103, head=False)) == "delete-pod of the worker, the pod's own grace period: w1"
    assert f"{PODS}/w1" not in server.objects
    assert follow.note.done
    assert [strike.target.uid for strike in follow.note.strikes] == ["uid-head", "uid-w1"]
    assert follow.see(BEFORE, look(104, head=False)) == ""
    assert f"{PODS}/w2" in server.objects


def test_a_fault_whose_moment_is_not_seen_in_time_is_not_done(pair: tuple[Server, Api]) -> None:
    server, api = pair
    follow = follower(api, When(seen="head-down", within_s=20))
    assert follow.see(BEFORE, look(119)) == ""
    assert (
        follow.see(BEFORE, look(121))
        == "not done: delete-pod of the worker, the pod's own grace period: head-down was not seen within 20 s"
    )
    assert (follow.note.done, len(follow.drill.faults)) == (True, 1)
    assert follow.see(BEFORE, look(122, head=False)) == ""
    assert f"{PODS}/w1" in server.objects


@pytest.mark.parametrize(("when", "at"), [(When(after_s=5), 105.0), (When(seen="head-ready"), 101.0)])
def test_a_fault_may_follow_after_some_time_or_when_the_head_is_ready_again(pair: tuple[Server, Api], when: When, at: float) -> None:
    follow = follower(pair[1], when)
    for t in (100.5, 101.0, 104.0, 105.0):
        if follow.see(BEFORE, look(t, head=t >= 101)):
            assert t == at
            return
    pytest.fail("it was not done")


def test_a_run_that_resumes_finishes_the_fault_that_was_planned(pair: tuple[Server, Api]) -> None:
    server, api = pair
    follow = follower(api, When(after_s=0))
    planned = Strike(target=Target(name="w2", uid="uid-w2"), at=101.0)
    follow.journal = journal.write(api, SUBJECT, follow.journal.with_fault(1, follow.note.with_strike(1, planned)))
    assert follow.see(BEFORE, look(102)) == "delete-pod of the worker, the pod's own grace period: w2"
    assert (f"{PODS}/w1" in server.objects, f"{PODS}/w2" in server.objects) == (True, False)

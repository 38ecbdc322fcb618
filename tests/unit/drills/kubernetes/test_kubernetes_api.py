"""The Kubernetes API: which responses are worth a retry; apply, delete, proxies and commands in containers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from kubernetes import client
from kubernetes_server import SUCCESS, Message, Server, exit_status, serving

from blocks.errors import Permanent, Transient
from drills.kubernetes.api import Api, CommandFailed, Conflict, EvictionBlocked, NotFound, Refused, Unavailable
from localcloud.machine.pki import Authority

PAIR = tuple[Server, Api]


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_temporary_failures_of_the_api_server_are_transient(pair: PAIR, status: int) -> None:
    pair[0].answers["GET", "/version"] = (status, b'{"message": "trouble"}')
    with pytest.raises(Unavailable, match="trouble") as error:
        pair[1].get("/version")
    assert isinstance(error.value, Transient)


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (409, Conflict), (403, Refused), (422, Refused)])
def test_refusals_of_the_api_server_are_permanent(pair: PAIR, status: int, kind: type[Refused]) -> None:
    pair[0].answers["GET", "/version"] = (status, b'{"message": "no"}')
    with pytest.raises(kind) as error:
        pair[1].get("/version")
    assert isinstance(error.value, Permanent)
    assert error.value.status == status


def test_a_refusal_by_a_terminating_namespace_is_transient(pair: PAIR) -> None:
    message = b'{"message": "unable to create new content in namespace x because it is being terminated"}'
    pair[0].answers["GET", "/version"] = (403, message)
    with pytest.raises(Unavailable):
        pair[1].get("/version")


def test_an_unreachable_api_server_is_transient() -> None:
    with pytest.raises(Unavailable, match="no answer"):
        Api(client.ApiClient(client.Configuration(host="http://127.0.0.1:1"))).get("/version")


def test_apply_finds_the_path_of_a_kind_and_names_the_field_manager(pair: PAIR) -> None:
    server, api = pair
    api.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "chat", "namespace": "front"}})
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "front"}})
    assert set(server.objects) == {"/apis/apps/v1/namespaces/front/deployments/chat", "/api/v1/namespaces/front"}
    patches = [query for method, _, query in server.requests if method == "PATCH"]
    assert patches == [{"fieldManager": ["leeward"], "force": ["false"]}] * 2


def test_apply_takes_over_fields_of_other_managers_and_returns_the_conflict(pair: PAIR) -> None:
    server, api = pair
    server.objects["/api/v1/namespaces/x/configmaps/c"] = {"metadata": {"name": "c", "heldBy": "kubectl-edit"}}
    said = api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "x"}, "data": {"a": "1"}})
    assert "kubectl-edit" in said
    assert server.objects["/api/v1/namespaces/x/configmaps/c"]["data"] == {"a": "1"}


def test_a_kind_that_the_cluster_does_not_know_is_not_found(pair: PAIR) -> None:
    with pytest.raises(NotFound, match="WorkerGroup"):
        pair[1].apply({"apiVersion": "v1", "kind": "WorkerGroup", "metadata": {"name": "x"}})


def test_a_pod_of_another_uid_is_not_deleted(pair: PAIR) -> None:
    server, api = pair
    path = "/api/v1/namespaces/x/pods/head"
    server.objects[path] = {"metadata": {"name": "head", "uid": "new"}}
    with pytest.raises(Conflict):
        api.delete(path, uid="old", grace_s=0)
    assert path in server.objects
    assert api.delete(path, uid="new", grace_s=0)
    assert server.bodies[-1]["gracePeriodSeconds"] == 0
    assert not api.delete(path)


def test_a_proxied_answer_other_than_200_is_transient(pair: PAIR) -> None:
    server, api = pair
    where = "/api/v1/namespaces/x/services/s:8000/proxy/infer"
    server.answers["GET", where] = (200, b"fine")
    assert api.proxy("GET", "x", "services", "s", 8000, "/infer") == b"fine"
    server.answers["GET", where] = (404, b"no route")
    with pytest.raises(Unavailable, match="404 no route"):
        api.proxy("GET", "x", "services", "s", 8000, "/infer")


def test_a_collection_of_an_unknown_kind_is_empty(pair: PAIR) -> None:
    pair[0].answers["GET", "/apis/ray.io/v1/rayservices"] = (404, b"404 page not found")
    assert pair[1].items("/apis/ray.io/v1/rayservices") == []


EXEC = "/api/v1/namespaces/x/pods/head/exec"
POD = ("x", "head", "ray-head")


def test_a_command_runs_in_its_container_and_its_output_is_whole(pair: PAIR) -> None:
    server, api = pair
    asked = []

    def run(pod: str, container: str, command: list[str]) -> Iterable[Message]:
        asked.append((pod, container, command))
        # Longer than lengths of one and of two bytes can express, in several messages, and binary.
        return [(1, b"\xff" * 200), (2, b"a warning"), (1, b"b" * 70_000), (1, b""), SUCCESS]

    server.run = run
    command = ["sh", "-c", 'echo "$1" && ls', "sh", "a b&c=d"]
    assert api.exec(*POD, command) == b"\xff" * 200 + b"b" * 70_000
    assert asked == [("head", "ray-head", command)]
    assert server.headers[-1]["sec-websocket-protocol"] == "v5.channel.k8s.io,v4.channel.k8s.io"


def test_the_error_of_a_failed_command_has_its_exit_status_and_stderr(pair: PAIR) -> None:
    server, api = pair
    server.run = lambda *_: [(1, b"half"), (2, b"ls: no such file"), exit_status(2)]
    with pytest.raises(CommandFailed, match=r"ls in x/head .ray-head. ended with exit status 2: ls: no such file") as error:
        api.exec(*POD, ["ls", "/nowhere"])
    assert error.value.status == 2
    assert isinstance(error.value, Permanent)


def test_a_command_that_was_never_started_may_be_tried_again(pair: PAIR) -> None:
    pair[0].run = lambda *_: [(3, b'{"status": "Failure", "reason": "InternalError", "message": "container is not running"}')]
    with pytest.raises(Unavailable, match="container is not running"):
        pair[1].exec(*POD, ["ls"])


def test_half_a_status_of_a_command_is_no_success(pair: PAIR) -> None:
    pair[0].run = lambda *_: [(1, b"all of it"), (3, b'{"status": "Succ')]
    with pytest.raises(Unavailable, match=r"ls in x/head .ray-head. ended without a readable status"):
        pair[1].exec(*POD, ["ls"])


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (403, Refused), (400, Refused), (500, Unavailable)])
def test_a_command_that_the_api_server_refuses_fails_as_any_request_does(pair: PAIR, status: int, kind: type[Exception]) -> None:
    pair[0].answers["GET", EXEC] = (status, b'{"message": "pods head"}')
    with pytest.raises(kind, match=f"HTTP {status} pods head"):
        pair[1].exec(*POD, ["ls"])


def test_a_command_that_does_not_end_is_waited_for_until_its_timeout(pair: PAIR) -> None:
    server, api = pair
    over = threading.Event()

    def run(*_: object) -> Iterator[Message]:
        yield 1, b"still here"
        over.wait(60)

    server.run = run
    try:
        with pytest.raises(Unavailable, match=r"sleep in x/head .ray-head.: no end of it within 0.2 s"):
            api.exec(*POD, ["sleep", "1000"], timeout_s=0.2)
    finally:
        over.set()


def test_a_command_that_prints_too_much_is_cut_off(pair: PAIR) -> None:
    def run(*_: object) -> Iterator[Message]:
        while True:
            yield 1, b"y\n" * 1000

    pair[0].run = run
    with pytest.raises(CommandFailed, match="printed more than 10,000 bytes") as error:
        pair[1].exec(*POD, ["yes"], most_bytes=10_000)
    assert error.value.status is None


def test_a_connection_that_breaks_before_the_commands_end_is_no_success(pair: PAIR) -> None:
    pair[0].run = lambda *_: [(1, b"half")]
    with pytest.raises(Unavailable, match="closed before the command's end"):
        pair[1].exec(*POD, ["ls"])


def test_an_unreachable_api_server_is_transient_for_commands_and_not_reported_as_a_timeout() -> None:
    with pytest.raises(Unavailable, match=r"ls in x/head .ray-head.: the connection to it failed or broke.*refused"):
        Api(client.ApiClient(client.Configuration(host="http://127.0.0.1:1"))).exec(*POD, ["ls"])


@pytest.mark.parametrize("ours", [True, False])
def test_a_command_uses_the_same_ca_and_identity_as_requests(tmp_path: Path, ours: bool) -> None:
    authority = Authority(tmp_path / "ca", "ca")
    served = authority.server("server", "server", ["127.0.0.1"])
    both = tmp_path / "both.pem"
    both.write_bytes(served.certificate.read_bytes() + served.key.read_bytes())
    trusted = authority if ours else Authority(tmp_path / "another", "ca")
    given = {
        "ca_cert_data": trusted.certificate.read_text(),
        "api_key": {"authorization": "k8s"},
        "api_key_prefix": {"authorization": "Bearer"},
    }
    with serving(tls=both, **given) as (server, api):
        server.run = lambda *_: [(1, b"1000"), SUCCESS]
        if not ours:
            with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
                api.exec(*POD, ["id", "-u"])
            return
        assert api.exec(*POD, ["id", "-u"]) == b"1000"
        assert server.headers[-1]["authorization"] == "Bearer k8s"


EVICTED = "/api/v1/namespaces/x/pods/p"


def test_an_eviction_removes_the_pod_with_that_uid_only(pair: PAIR) -> None:
    server, api = pair
    server.objects[EVICTED] = {"metadata": {"name": "p", "uid": "new"}}
    with pytest.raises(Conflict):
        api.evict(EVICTED, uid="old")
    assert api.evict(EVICTED, uid="new")
    assert not api.evict(EVICTED, uid="new")
    eviction = server.bodies[-1]
    assert (eviction["apiVersion"], eviction["metadata"]) == ("policy/v1", {"name": "p", "namespace": "x"})


def test_an_eviction_that_a_disruption_budget_forbids_is_no_failure_of_the_server_and_names_it(pair: PAIR) -> None:
    server, api = pair
    server.objects[EVICTED] = {"metadata": {"name": "p", "uid": "u"}}
    server.budgets[EVICTED] = "The disruption budget workers needs 2 healthy pods and has 2 currently"
    with pytest.raises(EvictionBlocked, match="disruption budget workers needs 2"):
        api.evict(EVICTED, uid="u")
    assert EVICTED in server.objects
    server.answers["POST", f"{EVICTED}/eviction"] = (429, b'{"message": "too many requests"}')
    with pytest.raises(Unavailable):
        api.evict(EVICTED, uid="u")


def test_a_dry_run_changes_nothing(pair: PAIR) -> None:
    server, api = pair
    server.objects[EVICTED] = {"metadata": {"name": "p", "uid": "u"}}
    api.call("DELETE", EVICTED, query={"dryRun": "All"}, body={})
    assert EVICTED in server.objects
    with pytest.raises(NotFound):
        api.call("DELETE", f"{EVICTED}x", query={"dryRun": "All"}, body={})

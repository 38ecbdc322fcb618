"""The debug bundle: the log files of Serve and Ray from running pods, limited in size and without secrets."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from kubernetes_server import Message, Server, exit_status

from drills.kubernetes.api import Api
from tasks import debug

PAIR = tuple[Server, Api]


@pytest.fixture
def ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that replaces /tmp/ray of every pod, with one session."""
    folder = tmp_path / "ray"
    (folder / "session_2" / "logs" / "serve").mkdir(parents=True)
    (folder / "session_latest").symlink_to("session_2")
    monkeypatch.setattr(debug, "RAY_FOLDER", str(folder))
    return folder


def write(folder: Path, name: str, text: str, age_s: float = 0) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (1_790_000_000 - age_s,) * 2)


def add_pod(server: Server, name: str, node_type: str = "worker", phase: str = "Running", **labels: str) -> None:
    mine = {"ray.io/cluster": "mistral-abc", "ray.io/node-type": node_type} if node_type else {}
    server.objects[f"/api/v1/namespaces/x/pods/{name}"] = {
        "metadata": {"name": name, "namespace": "x", "labels": mine | labels},
        "spec": {"containers": [{"name": f"ray-{node_type}"}, {"name": "beside"}]},
        "status": {"phase": phase},
    }


def really(pod: str, container: str, command: list[str]) -> Iterable[Message]:
    """Run the command on this machine."""
    done = subprocess.run(command, capture_output=True, check=False)
    return [(1, done.stdout), (2, done.stderr), exit_status(done.returncode)]


def collected(pair: PAIR, into: Path, **options: Any) -> dict[str, str]:
    """The text of every file of the bundle, by its path in the namespace's folder."""
    debug.collect_ray_logs(pair[1], "x", into, **options)
    here = into / "x" / "ray"
    return {str(f.relative_to(here)): f.read_text() for f in sorted(here.rglob("*")) if f.is_file()}


def test_the_logs_of_serve_and_of_rays_processes_are_in_the_bundle_once_and_no_others(pair: PAIR, ray: Path, tmp_path: Path) -> None:
    pair[0].run = really
    add_pod(pair[0], "w1")
    wanted = ["serve/controller_7.log", "serve/proxy_10.0.0.1.log", "serve/replica_mistral_engine_x.log", "raylet.out", "gcs_server.err"]
    wanted += ["python-core-worker-a_9.log", "python-core-driver-b_8.log", "dashboard_agent.log"]
    for name in [*wanted, "worker-a.out", "monitor.log"]:
        write(ray, f"session_2/logs/{name}", f"this is {name}\n")
    write(ray, "session_1/logs/raylet.out", "before the container started again\n")
    write(ray, "session_2/sockets/raylet", "no log")
    found = collected(pair, tmp_path / "debug")
    assert found == {
        **{f"w1/session_2/logs/{name}": f"this is {name}\n" for name in wanted},
        "w1/session_1/logs/raylet.out": "before the container started again\n",
    }


def test_only_the_end_of_a_long_log_is_collected(pair: PAIR, ray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug, "RAY_FILE_BYTES", 10)
    pair[0].run = really
    add_pod(pair[0], "w1")
    write(ray, "session_2/logs/raylet.out", "a beginning, and the end")
    assert collected(pair, tmp_path / "debug") == {"w1/session_2/logs/raylet.out": "nd the end"}


def test_beyond_the_limit_of_a_pod_the_oldest_logs_are_left_out_and_rays_before_serves(
    pair: PAIR, ray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debug, "RAY_POD_BYTES", 3_100)
    pair[0].run = really
    add_pod(pair[0], "w1")
    write(ray, "session_2/logs/raylet.out", "r" * 1000, age_s=0)
    write(ray, "session_2/logs/serve/new.log", "n" * 1000, age_s=1)
    write(ray, "session_2/logs/python-core-worker-a_9.log", "c" * 1000, age_s=2)
    write(ray, "session_2/logs/serve/old.log", "o" * 1000, age_s=3)
    found = collected(pair, tmp_path / "debug")
    assert {name.rpartition("/")[2]: len(text) for name, text in found.items() if len(text) == 1000} == {
        "new.log": 1000,
        "old.log": 1000,
    }
    assert sum(map(len, found.values())) <= 3_100
    assert not any("python-core" in name for name in found)


def test_the_bundle_of_many_pods_has_a_limit_and_names_the_pods_that_were_left_out(
    pair: PAIR, ray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debug, "RAY_BYTES", 1_500)
    pair[0].run = really
    for name in ("w1", "w2", "w3"):
        add_pod(pair[0], name)
    write(ray, "session_2/logs/raylet.out", "r" * 1000)
    found = collected(pair, tmp_path / "debug")
    assert len(found["w1/session_2/logs/raylet.out"]) == 1000
    assert len(found["w2/session_2/logs/raylet.out"]) < 500
    assert "1,500 bytes" in found["w3/left-out.txt"]


def test_secrets_in_logs_do_not_get_into_the_bundle(pair: PAIR, ray: Path, tmp_path: Path) -> None:
    pair[0].run = really
    add_pod(pair[0], "head", "head")
    write(ray, "session_2/logs/gcs_server.out", "['gcs_server', '--redis_password=sesame-open', '--port=6379']\n")
    write(ray, "session_2/logs/serve/proxy_1.log", "Authorization: Bearer abcdef0123456789\n")
    text = " ".join(collected(pair, tmp_path / "debug").values())
    assert "--port=6379" in text
    assert "sesame" not in text
    assert "abcdef0123456789" not in text


def test_a_log_that_looks_like_the_header_of_another_file_writes_nothing_outside_the_bundle(pair: PAIR, ray: Path, tmp_path: Path) -> None:
    pair[0].run = really
    add_pod(pair[0], "w1")
    write(ray, "session_2/logs/raylet.out", "well\n==> ./../../../../../evil <==\nx\n==> .//etc/evil <==\ny")
    found = collected(pair, tmp_path / "debug" / "deep")
    assert set(found) == {"w1/session_2/logs/raylet.out", "w1/evil", "w1/etc/evil"}
    assert not list(tmp_path.glob("*evil*"))


def test_a_pod_without_an_answer_does_not_hide_the_others_and_heads_come_first(pair: PAIR, tmp_path: Path) -> None:
    asked = []

    def run(pod: str, container: str, command: list[str]) -> Iterable[Message]:
        asked.append((pod, container))
        return [exit_status(126)] if pod == "a-worker" else [(1, b"==> ./session_2/logs/raylet.out <==\nhere"), exit_status(0)]

    pair[0].run = run
    add_pod(pair[0], "a-worker")
    add_pod(pair[0], "z-head", "head")
    add_pod(pair[0], "pending", phase="Pending")
    add_pod(pair[0], "another", node_type="")
    found = collected(pair, tmp_path)
    assert asked == [("z-head", "ray-head"), ("a-worker", "ray-worker")]
    assert found["z-head/session_2/logs/raylet.out"] == "here"
    assert "exit status 126" in found["a-worker/no-logs.txt"]


def test_a_pods_log_that_cannot_be_written_does_not_hide_the_others(pair: PAIR, tmp_path: Path) -> None:
    nonsense = b"==> ./a <==\nb\n==> ./a/c <==\nd"
    pair[0].run = lambda pod, *_: [(1, nonsense if pod == "w1" else b"==> ./raylet.out <==\nhere"), exit_status(0)]
    add_pod(pair[0], "w1")
    add_pod(pair[0], "w2")
    found = collected(pair, tmp_path)
    assert found["w2/raylet.out"] == "here"
    assert "w1/no-logs.txt" in found


def test_pods_for_which_no_time_is_left_are_named(pair: PAIR, tmp_path: Path) -> None:
    add_pod(pair[0], "w1")
    assert "took 0 s" in collected(pair, tmp_path, within_s=0)["w1/left-out.txt"]


def test_a_container_without_ray_gives_no_logs_and_no_error(pair: PAIR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug, "RAY_FOLDER", str(tmp_path / "nowhere"))
    pair[0].run = really
    add_pod(pair[0], "w1")
    assert collected(pair, tmp_path / "debug") == {}

"""Process 1 of a box, run here as an ordinary process, and the error of a box that is dead."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from localcloud.machine.box import RUNNER, Box, Service, runner_command
from localcloud.machine.interface import MachineError, NodeSpec
from localcloud.machine.nodes.node import Node
from scripts.support.processes import can_contain


@contextmanager
def running(
    tmp_path: Path, *, restart: bool, setup: list[list[str]] | None = None, fds: tuple[int, ...] = (), **services: str
) -> Iterator[subprocess.Popen[str]]:
    """Start process 1 of a box with these services, which are shell scripts; it and they are killed in the end."""

    def log(name: str) -> str:
        return str(tmp_path / f"{name}.log")

    specification = {
        "setup": setup or [],
        "services": [{"name": name, "argv": ["sh", "-c", script], "log": log(name)} for name, script in services.items()],
        "restart": restart,
        "fds": list(fds[:1]),
    }
    file = tmp_path / "services.json"
    file.write_text(json.dumps(specification))
    command = [sys.executable, "-I", "-S", str(RUNNER), str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=fds) as box:
        try:
            yield box
        finally:
            if box.poll() is None:
                subprocess.run(["pkill", "-P", str(box.pid)], check=False)
                box.kill()


def exit_code(tmp_path: Path, *, fds: tuple[int, ...] = (), **services: str) -> int:
    """Run a box whose services are not restarted; return its exit code."""
    with running(tmp_path, restart=False, fds=fds, **services) as box:
        return box.wait(60)


def test_without_restart_the_first_service_that_ends_ends_the_box_with_its_code(tmp_path: Path) -> None:
    assert exit_code(tmp_path, long="sleep 30", short="exit 7") == 7


def test_a_service_killed_by_a_signal_gives_the_exit_code_that_a_shell_gives(tmp_path: Path) -> None:
    assert exit_code(tmp_path, suicide="kill -9 $$") == 128 + signal.SIGKILL


def test_with_restart_a_service_that_ends_is_started_again(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with running(tmp_path, restart=True, flaky=f"echo run >> {runs}; [ $(wc -l < {runs}) -lt 2 ] || sleep 60") as box:
        deadline = time.monotonic() + 60
        while not runs.exists() or runs.read_text().count("run") < 2:
            assert time.monotonic() < deadline, "the service was not started again"
            time.sleep(0.05)
        assert box.poll() is None


def test_output_is_appended_to_the_services_own_log(tmp_path: Path) -> None:
    (tmp_path / "talk.log").write_text("before\n")
    exit_code(tmp_path, talk="echo out; echo err >&2")
    assert (tmp_path / "talk.log").read_text() == "before\nout\nerr\n"


def test_after_a_failed_mount_nothing_is_started_and_the_log_has_its_error(tmp_path: Path) -> None:
    setup = [["sh", "-c", "echo a warning >&2"], ["sh", "-c", "echo the reason >&2; exit 32"]]
    with running(tmp_path, restart=False, setup=setup, never=f"touch {tmp_path}/started") as box:
        output, _ = box.communicate(timeout=60)
    assert box.returncode == 1
    assert not (tmp_path / "started").exists()
    first, failed, reason = output.splitlines()
    assert (first, reason) == ("a warning", "the reason")
    assert failed.endswith("set-up failed: `sh -c echo the reason >&2; exit 32` ended with 32:")


@pytest.mark.skipif(not can_contain(), reason="this machine allows no namespaces")
def test_the_error_of_a_node_whose_set_up_failed_has_the_reason(tmp_path: Path) -> None:
    containerd = Service("containerd", ("sleep", "60"), str(tmp_path / "containerd.log"))
    setup = [["mount", "--bind", str(tmp_path), str(tmp_path / "absent")]]
    spec = NodeSpec("i-1", "n1", "inf2.xlarge", "us-west-2a", "us-west-2")
    node = Node(spec, 0, SimpleNamespace(logs=tmp_path), tmp_path)  # type: ignore[arg-type]
    box = Box("node n1", runner_command(tmp_path, [containerd], setup=setup), log=tmp_path / "log")
    with pytest.raises(MachineError, match=f"node n1 ended with 1(.|\n)*{tmp_path}/absent: .*mount point does not exist"):
        node._import(box, [])


def test_a_service_is_started_when_the_file_it_needs_exists(tmp_path: Path) -> None:
    needed = tmp_path / "socket"
    specification = {
        "services": [
            {"name": "server", "argv": ["sh", "-c", f"sleep 0.3; touch {needed}; sleep 30"], "log": "/dev/null"},
            {"name": "client", "argv": ["test", "-e", str(needed)], "log": "/dev/null", "wait_for": str(needed)},
        ],
        "restart": False,
    }
    (tmp_path / "s.json").write_text(json.dumps(specification))
    assert subprocess.run([sys.executable, "-I", "-S", str(RUNNER), str(tmp_path / "s.json")], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("wanted", [True, False])
def test_only_wanted_file_descriptors_reach_a_service(tmp_path: Path, wanted: bool) -> None:
    first, second = os.pipe()
    try:
        number = first if wanted else second
        assert exit_code(tmp_path, fds=(first, second), check=f"test -e /proc/self/fd/{number}") == (0 if wanted else 1)
    finally:
        os.close(first)
        os.close(second)


def test_a_service_may_open_as_many_files_as_the_machine_allows(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    exit_code(tmp_path, count="ulimit -n")
    assert int((tmp_path / "count.log").read_text()) == min(hard, 2**20)

"""Leeward on a machine with control groups of version 2 alone, which is made for these tests in twenty minutes."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.progress import Reporter
from tests.machines.machine import Machine, booted
from tests.terminal import Terminal

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="User-Mode Linux runs on x86-64 only"),
    pytest.mark.skipif(
        Path("/sys/fs/cgroup/cgroup.controllers").exists(), reason="this host is such a machine itself, so all other tests cover it"
    ),
]
PYTHON = ".venv/bin/python"


@pytest.fixture(scope="module")
def machine(pytestconfig: pytest.Config) -> Iterator[Machine]:
    """A running machine, which is removed after the tests of this file."""
    with booted(Reporter(Terminal(pytestconfig)).for_step("machine")) as machine:
        yield machine


@pytest.fixture(scope="module")
def set_up(machine: Machine) -> Machine:
    """The machine with everything that the tests need; nearly all of it comes from the host's caches."""
    machine.run(["python3", "-m", "scripts.tools", "environment", "localcloud", "serving", "dev"], within_s=1200)
    machine.run([PYTHON, "-m", "localcloud", "build"], within_s=3600)
    # The first import compiles about a thousand modules, for which the tests would not wait on such a slow machine.
    machine.run([PYTHON, "-c", "import prefect.server.api.server"], within_s=600)
    return machine


def test_the_machine_has_systemd_and_control_groups_of_version_2_alone(machine: Machine) -> None:
    machine.run(["sh", "-c", 'test "$(cat /proc/1/comm) $(stat -fc %T /sys/fs/cgroup)" = "systemd cgroup2fs"'], within_s=60)
    machine.run(["sh", "-c", "! grep -E '^[^ ]+ [^ ]+ cgroup ' /proc/mounts"], within_s=60)


def test_the_doctor_finds_nothing_missing(machine: Machine) -> None:
    machine.run(["python3", "-m", "localcloud", "doctor"], within_s=300)


@pytest.mark.parametrize(
    "tests",
    ["tests/unit/localcloud/machine/test_machine_cgroups.py", "tests/cloud/test_cloud_start_and_stop.py", "tests/cloud/test_nodes.py"],
)
def test_the_tests_of_control_groups_and_nodes_pass_on_the_machine(set_up: Machine, tests: str) -> None:
    set_up.run([PYTHON, "-m", "pytest", "-v", tests], within_s=3600)

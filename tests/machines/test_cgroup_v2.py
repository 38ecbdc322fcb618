"""Leeward where control groups of version 2 are all there is: on a machine that is made for these tests, in twenty minutes."""

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
        Path("/sys/fs/cgroup/cgroup.controllers").exists(), reason="this host is such a machine itself: all other tests say it"
    ),
]
PYTHON = ".venv/bin/python"


@pytest.fixture(scope="module")
def machine(pytestconfig: pytest.Config) -> Iterator[Machine]:
    """Gone with all that is in it after this file."""
    with booted(Reporter(Terminal(pytestconfig)).about("machine")) as machine:
        yield machine


@pytest.fixture(scope="module")
def set_up(machine: Machine) -> Machine:
    """The machine with all that the tests need; nearly everything comes from the host's caches."""
    machine.run(["python3", "-m", "scripts.tools", "environment", "localcloud", "serving", "dev"], within_s=1200)
    machine.run([PYTHON, "-m", "localcloud", "build"], within_s=3600)
    # The first import compiles some thousand modules, for which the tests would not wait on so slow a machine.
    machine.run([PYTHON, "-c", "import prefect.server.api.server"], within_s=600)
    return machine


def test_the_machine_has_systemd_and_version_2_alone(machine: Machine) -> None:
    machine.run(["sh", "-c", 'test "$(cat /proc/1/comm) $(stat -fc %T /sys/fs/cgroup)" = "systemd cgroup2fs"'], within_s=60)
    machine.run(["sh", "-c", "! grep -E '^[^ ]+ [^ ]+ cgroup ' /proc/mounts"], within_s=60)


def test_the_doctor_finds_nothing_missing(machine: Machine) -> None:
    machine.run(["python3", "-m", "localcloud", "doctor"], within_s=300)


@pytest.mark.parametrize(
    "tests",
    ["tests/unit/localcloud/machine/test_machine_cgroups.py", "tests/cloud/test_cloud_start_and_stop.py", "tests/cloud/test_nodes.py"],
)
def test_what_meets_control_groups_passes_there(set_up: Machine, tests: str) -> None:
    set_up.run([PYTHON, "-m", "pytest", "-v", tests], within_s=3600)

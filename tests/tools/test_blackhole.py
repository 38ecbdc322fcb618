"""The cut of a network for real, in a network namespace of its own, where every address is its own loopback device."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drills.runner.acts import blackhole

PROGRAM = Path(blackhole.__file__)
PREPARE = "ip link set lo up && ip address add 10.9.9.9/32 dev lo && ip route add default dev lo && echo ready && exec sleep 300"
NEAR, FAR, OWN = "198.51.100.7", "203.0.113.5", "10.9.9.9"
LOOK = f"import sys; sys.path.insert(0, {str(PROGRAM.parent)!r}); import blackhole; print(*map(blackhole.reachable, sys.argv[1:]))"


class Network:
    """A network namespace, entered by the process that made it."""

    def __init__(self, pid: int) -> None:
        self.enter = ["nsenter", f"--net=/proc/{pid}/ns/net"]

    def reaches(self, *addresses: str) -> list[bool]:
        found = subprocess.run([*self.enter, sys.executable, "-c", LOOK, *addresses], capture_output=True, text=True, check=True)
        return [word == "True" for word in found.stdout.split()]

    @contextmanager
    def cut(self, seconds: float, latest: float) -> Iterator[subprocess.Popen[str]]:
        command = [*self.enter, sys.executable, "-I", "-c", PROGRAM.read_text(encoding="utf-8"), f"{seconds}", f"{latest}", NEAR]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            yield process
            process.kill()


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    with subprocess.Popen(["unshare", "--net", "sh", "-c", PREPARE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield Network(process.pid)
        process.kill()


def said(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout
    return process.stdout.readline().split()


@pytest.mark.parametrize("end", ["time", "signal"])
def test_only_near_and_own_addresses_are_reached_and_afterwards_all(network: Network, end: str) -> None:
    assert network.reaches(NEAR, FAR, OWN) == [True, True, True]
    with network.cut(2.0 if end == "time" else 600.0, time.time() + 60) as process:
        assert said(process)[0] == "cut"
        if end == "signal":
            assert network.reaches(NEAR, FAR, OWN) == [True, False, True]
            process.terminate()
        else:
            assert said(process)[0] == "healed"
        assert process.wait(60) == 0
    assert network.reaches(NEAR, FAR, OWN) == [True, True, True]


def test_one_that_starts_too_late_cuts_nothing(network: Network) -> None:
    with network.cut(600.0, time.time() - 1) as process:
        assert process.wait(60) == 1
        assert process.stderr
        assert "too late" in process.stderr.read()
    assert network.reaches(FAR) == [True]

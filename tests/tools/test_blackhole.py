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
from scripts.support.paths import ROOT

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


REDIS = "10.8.0.2"
LISTEN = f"import socket, time; kept = socket.create_server(('{REDIS}', 6379)); print('ready', flush=True); time.sleep(300)"
WATCH = f"""
import socket, sys
sys.path.insert(0, {str(ROOT)!r})
from serving import ray_start
ray_start.PROBES = dict.fromkeys(ray_start.PROBES, 1)
def connect():
    connection = socket.create_connection(("{REDIS}", 6379), 1)
    print("connected", flush=True)
    return connection
ray_start.wait_until_silent(connect)
print("silent", flush=True)
"""


@pytest.fixture
def redis(network: Network) -> Iterator[None]:
    """What listens on Redis' port in a namespace beside the network's."""
    up = "sh", "-c", f'ip address add {REDIS}/24 dev far && ip link set far up && exec {sys.executable} -c "{LISTEN}"'
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo ready && exec sleep 300"], stdout=subprocess.PIPE, text=True) as other:
        assert said(other) == ["ready"]
        link = f"ip link add near type veth peer name far netns {other.pid} && ip address add 10.8.0.1/24 dev near && ip link set near up"
        subprocess.run([*network.enter, "sh", "-c", link], check=True)
        with subprocess.Popen([*Network(other.pid).enter, *up], stdout=subprocess.PIPE, text=True) as listening:
            assert said(listening) == ["ready"]
            yield
            listening.kill()
        other.kill()


def test_the_watch_of_a_head_notices_that_redis_cannot_be_reached_although_nothing_is_sent(network: Network, redis: None) -> None:
    with subprocess.Popen([*network.enter, sys.executable, "-I", "-c", WATCH], stdout=subprocess.PIPE, text=True) as watch:
        assert said(watch) == ["connected"]
        with network.cut(600.0, time.time() + 60) as process:
            assert said(process)[0] == "cut"
            assert said(watch) == ["silent"]
            process.terminate()
            assert process.wait(60) == 0

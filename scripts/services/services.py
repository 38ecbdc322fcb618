"""The Prefect server, its worker and the forwarders: one pid namespace, started, recorded and ended as a unit.

SIGKILL of its first process, or of `unshare`, ends all of it at once; so does the end of the process that started it,
unless that process called `keep`. Everything listens on loopback only.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from scripts.services import pid1
from scripts.services.prefect_api import Api, wait_until
from scripts.support.console import Console
from scripts.support.paths import LOGS, PREFECT_HOME, PYTHON, ROOT, RUN, TEMPORARY, VENV, private_folder
from scripts.support.processes import Process, in_pid_namespace, kill_with_children, read_record, write_record

POOL = "leeward"
"""Name of the work pool in prefect.yaml; the worker creates the pool."""
WORKER = "prefect worker"
"""Name of the program that is started again when it ends: the state of its runs is in the server's database."""
RECORD = RUN / "services.json"
LOG = LOGS / "services.log"
START_S = 300.0
"""Seconds that server and worker may take to answer. The server first creates its database: 10 s on an idle machine."""


@dataclass(frozen=True)
class Forward:
    """One loopback port and its target in the cluster; written PORT=HOST:PORT."""

    port: int
    host: str
    """DNS name in the cluster."""
    target_port: int

    @classmethod
    def parse(cls, text: str) -> Forward:
        """Parse `8000=name.namespace.svc.cluster.local:8000`; raises ValueError for anything else."""
        port, _, target = text.partition("=")
        host, _, target_port = target.rpartition(":")
        if not host:
            raise ValueError(f"not PORT=HOST:PORT: {text!r}")
        return cls(int(port), host, int(target_port))

    def __str__(self) -> str:
        return f"{self.port}={self.host}:{self.target_port}"


@dataclass
class Services:
    """Services that are running or starting."""

    process: Process
    api_url: str
    lifeline: subprocess.Popen[bytes]
    """The `unshare` process; the services end when its stdin closes before KEEP was written to it."""
    environment: dict[str, str]

    @property
    def api(self) -> Api:
        """Client of the server's REST API."""
        return Api(self.api_url)

    def wait(self, console: Console) -> None:
        """Wait until server and worker answer; raises NotUp with the last observation."""
        for what, holds in (("the server", self.api.healthy), ("the worker", lambda: self.api.pool_ready(POOL))):
            wait_until(what, holds, START_S, self.process, console)
        console.detail("prefect", "server and worker answer")

    def keep(self) -> None:
        """Let the services outlive this process, until `stop`."""
        assert self.lifeline.stdin
        self.lifeline.stdin.write(pid1.KEEP)
        self.lifeline.stdin.flush()


def prefect_environment(api_url: str, path: Iterable[Path]) -> dict[str, str]:
    """Return the environment of every Prefect program: this server, these folders, no telemetry, loopback only."""
    host, port = "127.0.0.1", api_url.split(":")[2].split("/")[0]
    search = [*map(str, path), str(VENV / "bin"), os.environ.get("PATH", os.defpath)]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AWS_")) and not _is_socks(name, value)},
        "PATH": os.pathsep.join(search),
        "PYTHONPATH": str(ROOT),
        "LEEWARD_HOME": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(TEMPORARY),
        "DO_NOT_TRACK": "1",
        "CHECKPOINT_DISABLE": "1",
        "PREFECT_HOME": str(PREFECT_HOME),
        "PREFECT_API_URL": api_url,
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": port,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_WORKER_WEBSERVER_HOST": host,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_LOGGING_COLORS": "false",
    }


def _is_socks(name: str, value: str) -> bool:
    """Tell whether it is a SOCKS proxy: Prefect's HTTP client refuses to start with one, and would use it for nothing."""
    return name.lower().endswith("_proxy") and value.startswith("socks")


def start(*, api_port: int | None = None, path: Sequence[Path] = (), forwards: Sequence[Forward] = ()) -> Services:
    """Start the services; call `wait()` of the returned object until they answer.

    Args:
        api_port: Port of server and UI; None takes 4200, or a free one.
        path: Folders to put in front of the flows' PATH, e.g. Terraform's.
        forwards: Loopback ports to forward into the cluster.
    """
    stop()
    api_url = f"http://127.0.0.1:{api_port or free_port(4200)}/api"
    environment = prefect_environment(api_url, path)
    for folder in (PREFECT_HOME, TEMPORARY, RUN, LOGS):
        private_folder(folder)
    with LOG.open("wb") as log:
        lifeline = subprocess.Popen(
            in_pid_namespace([str(PYTHON), "-m", "scripts.services.pid1"]),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=ROOT,
            start_new_session=True,
        )
    process = Process.find(lifeline.pid)
    assert process, "unshare is still in the process table: nothing has waited for it"
    assert lifeline.stdin
    write_record(RECORD, process, api_url=api_url)
    programs = {"commands": _commands(api_url, forwards), "gate": f"{api_url}/health", "restarted": [WORKER]}
    lifeline.stdin.write(json.dumps(programs).encode() + b"\n")
    lifeline.stdin.flush()
    return Services(process, api_url, lifeline, environment)


def _commands(api_url: str, forwards: Sequence[Forward]) -> dict[str, list[str]]:
    prefect = [str(PYTHON), "-m", "prefect"]
    host_port = ["--host", "127.0.0.1", "--port", Api(api_url).url.split(":")[2].split("/")[0]]
    commands = {
        "prefect server": [str(PYTHON), "-m", "scripts.installed.prefect_server", "server", "start", *host_port, "--analytics-off"],
        WORKER: [*prefect, "worker", "start", "--pool", POOL, "--type", "process", "--name", "leeward"],
    }
    if forwards:
        commands["forwarders"] = [str(PYTHON), "-m", "scripts.installed.forward", *map(str, forwards)]
    return commands


def running() -> tuple[Process, str] | None:
    """Return the recorded services that still run, and their API's URL; None when there are none."""
    found = read_record(RECORD)
    return (found[0], str(found[1].get("api_url"))) if found and found[0].alive else None


def stop() -> bool:
    """Stop the services and remove their files except logs; return whether any were running."""
    found = running()
    if found and not kill_with_children(found[0]):
        raise RuntimeError(f"process {found[0].pid} (services) still runs after SIGKILL; see /proc/{found[0].pid}/stack")
    RECORD.unlink(missing_ok=True)
    for folder in (PREFECT_HOME, TEMPORARY):
        shutil.rmtree(folder, ignore_errors=True)
    return found is not None


def free_port(preferred: int) -> int:
    """Return `preferred` when it is free on loopback, else a port that the kernel picks."""
    for port in (preferred, 0):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on loopback")

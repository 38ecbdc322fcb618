"""The compared servers and the bare engine: how each is started and measured."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients import Job, tokens_per_s
from benchmarks.figures import Cell
from benchmarks.processes import Processes

STARTS_WITHIN_S = 300.0
ANSWERS_WITHIN_S = 3600.0


@dataclass(frozen=True)
class Setting:
    """Settings that are the same for all contestants."""

    model: Path
    """Folder with the weights, and with the tokenizer in transformers' format."""
    threads: int
    slots: int
    positions: int
    logs: Path


@dataclass(frozen=True)
class Work:
    """The requests of one measurement."""

    cell: Cell
    prompts: Sequence[str]
    answer_tokens: int
    stream: bool = False


class Failed(Exception):
    """A contestant did not start, or ended; the message has the end of its log."""


class Contestant(ABC):
    """A running program that answers requests."""

    ANSWERS_A_CLIENT, AT_MOST = 3, 64
    """Answers for each client in one measurement, and the most for all clients together (at least one for each)."""

    def __init__(self, name: str, setting: Setting, argv: Sequence[str], env: Mapping[str, str], *, piped: bool = False) -> None:
        self._log = setting.logs / f"{name}.log"
        here = {"PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        with self._log.open("wb") as log:
            self.processes = Processes([sys.executable, "-m", *argv], {**here, **env}, log, piped=piped)

    @abstractmethod
    def measure(self, work: Work) -> float:
        """Return tokens per second.

        Raises:
            Failed, NotAnAnswer: the contestant did not do the work.
        """

    def number(self, clients: int) -> int:
        """Return the number of prompts for a measurement."""
        return max(clients, min(clients * self.ANSWERS_A_CLIENT, self.AT_MOST))

    def failed(self, why: str) -> Failed:
        """Return an error with the end of the log."""
        return Failed(f"{why}; the end of {self._log.name}:\n{self._log.read_text(errors='replace')[-2000:]}")


class Server(Contestant):
    """A contestant that answers HTTP requests."""

    ready_path = "/openapi.json"

    def __init__(self, name: str, setting: Setting, argv: Callable[[int], Sequence[str]], env: Mapping[str, str], model: str) -> None:
        """Start the server and wait until it answers; `argv` makes the command line for a port."""
        port = free_port()
        self._url, self._model = f"http://127.0.0.1:{port}", model
        super().__init__(name, setting, argv(port), env)
        try:
            self._wait_until_ready()
        except BaseException:
            self.processes.end()
            raise

    def measure(self, work: Work) -> float:
        """Return the tokens per second of all clients together."""
        return asyncio.run(tokens_per_s(self._job(work)))

    def _job(self, work: Work) -> Job:
        return Job(self._url, self._model, work.prompts, work.cell.prompt_tokens, work.answer_tokens, work.cell.clients, work.stream)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not self._ready():
            if self.processes.first.poll() is not None:
                raise self.failed(f"ended with exit code {self.processes.first.returncode} instead of answering")
            if time.monotonic() > deadline:
                raise self.failed(f"did not answer within {STARTS_WITHIN_S:.0f} s")
            time.sleep(0.2)

    def _ready(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(self._url + self.ready_path, timeout=5) as response:
            return bool(response.status == 200)
        return False


class Ours(Server):
    """Our service, started by benchmarks.served."""

    ready_path = "/readyz"

    def __init__(self, setting: Setting) -> None:
        super().__init__("ours", setting, lambda port: ["benchmarks.served", str(port)], service_environment(setting), "mistral")


PASSIVE = {"OMP_WAIT_POLICY": "passive"}
"""Environment of the other servers: their threads do not spin while they wait for each other. By default they spin long, which makes these
servers slowest. Ours has its own setting."""


class OneAtATime(Server):
    """The server benchmarks.one_at_a_time. All clients send at once; after some answers the measurement ends, and the others disconnect."""

    ENOUGH = 4
    """Number of answers in one measurement."""

    def __init__(self, setting: Setting) -> None:
        where = [str(setting.model)], [str(setting.threads)]
        super().__init__("one-at-a-time", setting, lambda port: ["benchmarks.one_at_a_time", *where[0], str(port), *where[1]], PASSIVE, "")

    def number(self, clients: int) -> int:
        """Return enough prompts for all clients to wait at the end; the rate does not depend on how many wait, so few are answered."""
        return clients + self.ENOUGH

    def measure(self, work: Work) -> float:
        """Return the tokens per second of all clients together."""
        job = self._job(work)
        rate = asyncio.run(tokens_per_s(Job(**{**vars(job), "enough": self.ENOUGH})))
        # When the server answers this one, it has finished all others.
        asyncio.run(tokens_per_s(Job(**{**vars(job), "prompts": job.prompts[:1], "clients": 1})))
        return rate


class TransformersServe(Server):
    """The server of transformers, `transformers serve --continuous-batching`."""

    ready_path = "/health"
    BLOCKS = ("--cb-num-blocks", "2048", "--cb-block-size", "32", "--cb-max-batch-tokens", "256")
    """The best of the settings that were tried (docs/benchmarks.md), with room for all requests of 64 clients."""

    def __init__(self, setting: Setting) -> None:
        model = str(setting.model)
        options = ["--continuous-batching", "--device", "cpu", "--dtype", "float32", *self.BLOCKS, "--host", "127.0.0.1", "--port"]
        env = {"OMP_NUM_THREADS": str(setting.threads), **PASSIVE}
        super().__init__("transformers-serve", setting, lambda port: [COMMAND, "serve", model, *options, str(port)], env, model)


COMMAND = "transformers.cli.transformers"


class BareEngine(Contestant):
    """The program benchmarks.bare_engine, which reads its work from standard input."""

    def __init__(self, setting: Setting, encode: Callable[[str], Sequence[int]]) -> None:
        """Start the program; `encode` returns a text's tokens, as the servers encode it."""
        super().__init__("bare-engine", setting, ["benchmarks.bare_engine"], service_environment(setting), piped=True)
        self._encode = encode
        try:
            self._answer()
        except BaseException:
            self.processes.end()
            raise

    def measure(self, work: Work) -> float:
        """Return the tokens per second of the loop."""
        prompts = [list(self._encode(prompt)) for prompt in work.prompts]
        line = json.dumps({"clients": work.cell.clients, "answer_tokens": work.answer_tokens, "prompts": prompts})
        assert self.processes.first.stdin
        self.processes.first.stdin.write(line.encode() + b"\n")
        self.processes.first.stdin.flush()
        return self._answer()["tokens_per_s"]

    def _answer(self) -> dict[str, float]:
        assert self.processes.first.stdout
        line = self.processes.first.stdout.readline()
        if not line:
            raise self.failed("the bare engine ended")
        found: dict[str, float] = json.loads(line)
        return found


def service_environment(setting: Setting) -> dict[str, str]:
    """Return the environment of a replica and of the bare engine."""
    return {
        "LEEWARD_MODEL": str(setting.model),
        "LEEWARD_THREADS": str(setting.threads),
        "LEEWARD_SLOTS": str(setting.slots),
        "LEEWARD_POSITIONS": str(setting.positions),
        # The other servers have no deadline.
        "LEEWARD_DEADLINE_S": str(ANSWERS_WITHIN_S),
    }


def free_port() -> int:
    """Return a TCP port of the loopback that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

"""The servers that are compared, and the bare engine: how each is started, asked, and held still while others are measured."""

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
from benchmarks.family import Family
from benchmarks.figures import Cell

STARTS_WITHIN_S = 300.0
ANSWERS_WITHIN_S = 3600.0


@dataclass(frozen=True)
class Setting:
    """What is the same for all."""

    model: Path
    """Folder with the weights, and with the tokenizer as transformers reads it."""
    threads: int
    slots: int
    positions: int
    logs: Path


@dataclass(frozen=True)
class Work:
    """What is asked in one measurement."""

    cell: Cell
    prompts: Sequence[str]
    answer_tokens: int
    stream: bool = False


class Failed(Exception):
    """A contestant did not start, or ended; the text has the end of its log."""


class Contestant(ABC):
    """A program under way that answers."""

    ANSWERS_A_CLIENT, AT_MOST = 3, 64
    """Answers that each client waits for in one measurement; together no more than so many, but one each."""

    def __init__(self, name: str, setting: Setting, argv: Sequence[str], env: Mapping[str, str], *, spoken_to: bool = False) -> None:
        self._log = setting.logs / f"{name}.log"
        here = {"PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        with self._log.open("wb") as log:
            self.family = Family([sys.executable, "-m", *argv], {**here, **env}, log, spoken_to=spoken_to)

    @abstractmethod
    def measure(self, work: Work) -> float:
        """Tokens a second.

        Raises:
            Failed, NotAnAnswer: it did not do the work.
        """

    def number(self, clients: int) -> int:
        """Prompts that it needs for a measurement."""
        return max(clients, min(clients * self.ANSWERS_A_CLIENT, self.AT_MOST))

    def failed(self, why: str) -> Failed:
        """What to raise."""
        return Failed(f"{why}; the end of {self._log.name}:\n{self._log.read_text(errors='replace')[-2000:]}")


class Server(Contestant):
    """One that is asked by HTTP."""

    ready_path = "/openapi.json"

    def __init__(self, name: str, setting: Setting, argv: Callable[[int], Sequence[str]], env: Mapping[str, str], model: str) -> None:
        """`argv` is told the port. Returns when it answers."""
        port = free_port()
        self._url, self._model = f"http://127.0.0.1:{port}", model
        super().__init__(name, setting, argv(port), env, spoken_to=False)
        try:
            self._wait_until_ready()
        except BaseException:
            self.family.end()
            raise

    def measure(self, work: Work) -> float:
        """Tokens a second that its clients got, together."""
        return asyncio.run(tokens_per_s(self._job(work)))

    def _job(self, work: Work) -> Job:
        return Job(self._url, self._model, work.prompts, work.cell.prompt_tokens, work.answer_tokens, work.cell.clients, work.stream)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not self._ready():
            if self.family.first.poll() is not None:
                raise self.failed(f"ended with exit code {self.family.first.returncode} instead of answering")
            if time.monotonic() > deadline:
                raise self.failed(f"did not answer within {STARTS_WITHIN_S:.0f} s")
            time.sleep(0.2)

    def _ready(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(self._url + self.ready_path, timeout=5) as response:
            return bool(response.status == 200)
        return False


class Ours(Server):
    """The service, as benchmarks.served starts it."""

    ready_path = "/readyz"

    def __init__(self, setting: Setting) -> None:
        super().__init__("ours", setting, lambda port: ["benchmarks.served", str(port)], of_the_service(setting), "mistral")


PASSIVE = {"OMP_WAIT_POLICY": "passive"}
"""The others' threads do not spin for each other: by default they do for long, which costs them most. Ours has a setting of its own."""


class OneAtATime(Server):
    """benchmarks.one_at_a_time. All clients ask at once, and after some answers it is over: those who waited hang up."""

    ENOUGH = 4

    def __init__(self, setting: Setting) -> None:
        where = [str(setting.model)], [str(setting.threads)]
        super().__init__("one-at-a-time", setting, lambda port: ["benchmarks.one_at_a_time", *where[0], str(port), *where[1]], PASSIVE, "")

    def number(self, clients: int) -> int:
        """Its rate does not depend on how many wait, so it need not answer them all; but as many do wait."""
        return clients + self.ENOUGH

    def measure(self, work: Work) -> float:
        """Tokens a second that its clients got, together."""
        job = self._job(work)
        rate = asyncio.run(tokens_per_s(Job(**{**vars(job), "enough": self.ENOUGH})))
        # It is idle again when it answers this.
        asyncio.run(tokens_per_s(Job(**{**vars(job), "prompts": job.prompts[:1], "clients": 1})))
        return rate


class TransformersServe(Server):
    """transformers' own server, `transformers serve --continuous-batching`."""

    ready_path = "/health"
    BLOCKS = ("--cb-num-blocks", "2048", "--cb-block-size", "32", "--cb-max-batch-tokens", "256")
    """The best of those tried: docs/benchmarks.md. Room for all that 64 clients may ask at once."""

    def __init__(self, setting: Setting) -> None:
        model = str(setting.model)
        options = ["--continuous-batching", "--device", "cpu", "--dtype", "float32", *self.BLOCKS, "--host", "127.0.0.1", "--port"]
        env = {"OMP_NUM_THREADS": str(setting.threads), **PASSIVE}
        super().__init__("transformers-serve", setting, lambda port: [COMMAND, "serve", model, *options, str(port)], env, model)


COMMAND = "transformers.cli.transformers"


class BareEngine(Contestant):
    """benchmarks.bare_engine, asked through its standard input."""

    def __init__(self, setting: Setting, encode: Callable[[str], Sequence[int]]) -> None:
        """`encode`: a text's tokens, as the servers see it."""
        super().__init__("bare-engine", setting, ["benchmarks.bare_engine"], of_the_service(setting), spoken_to=True)
        self._encode = encode
        self.in_engine: dict[Cell, list[float]] = {}
        """Share of its time in which the step engine computed, a figure a measurement."""
        try:
            self._answer()
        except BaseException:
            self.family.end()
            raise

    def measure(self, work: Work) -> float:
        """Tokens a second of the loop."""
        prompts = [list(self._encode(prompt)) for prompt in work.prompts]
        line = json.dumps({"clients": work.cell.clients, "answer_tokens": work.answer_tokens, "prompts": prompts})
        assert self.family.first.stdin
        self.family.first.stdin.write(line.encode() + b"\n")
        self.family.first.stdin.flush()
        found = self._answer()
        self.in_engine.setdefault(work.cell, []).append(found["in_engine"])
        return found["tokens_per_s"]

    def _answer(self) -> dict[str, float]:
        assert self.family.first.stdout
        line = self.family.first.stdout.readline()
        if not line:
            raise self.failed("the bare engine ended")
        found: dict[str, float] = json.loads(line)
        return found


def of_the_service(setting: Setting) -> dict[str, str]:
    """The environment of a replica, and of the bare engine."""
    return {
        "LEEWARD_MODEL": str(setting.model),
        "LEEWARD_THREADS": str(setting.threads),
        "LEEWARD_SLOTS": str(setting.slots),
        "LEEWARD_POSITIONS": str(setting.positions),
        # The others wait as long as it takes.
        "LEEWARD_DEADLINE_S": str(ANSWERS_WITHIN_S),
    }


def free_port() -> int:
    """A TCP port of the loopback that nobody had a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

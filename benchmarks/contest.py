"""The contest, inside the image: contestants take turns within rounds, cell by cell.

    python3 -m benchmarks.contest --clients 1,16 --prompts 16,512 --rounds 3

All are started and warmed up once. While one is measured, the others are stopped (SIGSTOP), so that none disturbs another; and if the
machine is slow for a minute, this affects all of them. Progress goes to stderr, one JSON object to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from benchmarks.contestants import BareEngine, Contestant, OneAtATime, Ours, Setting, TransformersServe, Work
from benchmarks.figures import STREAMED, Cell, Row, Spent
from benchmarks.prompts import Prompts
from scripts.support.console import Console
from serving.tokenizer import Tokenizer

ANSWER_TOKENS = 64
WARM_UP_CLIENTS, WARM_UP_TOKENS = 2, 8
SLOTS = 16
POSITIONS = 1024
SEED = 1


class Turn(NamedTuple):
    """One measurement in each round."""

    key: str
    contestant: Contestant
    stream: bool = False


class Contest:
    """Measures all contestants in one cell after the other."""

    def __init__(self, turns: Sequence[Turn], prompts: Prompts, console: Console) -> None:
        self._turns = list(turns)
        self._prompts = prompts
        self._console = console
        self.rows: list[Row] = []
        self.spent: list[Spent] = []

    def warm_up(self, cells: Sequence[Cell]) -> None:
        """Let every contestant answer prompts of every length, two at a time, and stop its processes after that."""
        for turn in self._turns:
            turn.contestant.processes.resume()
            for tokens in sorted({cell.prompt_tokens for cell in cells}):
                self._console.print("warm-up", f"{turn.key}, prompts of {tokens} tokens")
                self._measure(turn, Cell(WARM_UP_CLIENTS, tokens), WARM_UP_TOKENS)
            turn.contestant.processes.pause()

    def run(self, cell: Cell, rounds: int) -> None:
        """Measure all contestants in the cell, and append its row."""
        rates: dict[str, list[float]] = {turn.key: [] for turn in self._turns}
        seconds = 0.0
        spent: dict[str, float] = {}
        for number in range(rounds):
            # Another contestant begins each round.
            for turn in self._turns[number % len(self._turns) :] + self._turns[: number % len(self._turns)]:
                with _alone(turn.contestant):
                    before, since = _cpu_s(turn.contestant), time.monotonic()
                    rate = self._measure(turn, cell)
                    if turn.key == "ours":
                        seconds += time.monotonic() - since
                        spent = _plus(spent, before, _cpu_s(turn.contestant))
                rates[turn.key].append(rate)
                self._console.print(
                    f"{cell.clients} × {cell.prompt_tokens}", f"round {number + 1} of {rounds}: {turn.key} {rate:.1f} tokens/s"
                )
        self.rows.append(Row(cell, rates))
        self.spent.append(Spent(cell, seconds, spent))

    def _measure(self, turn: Turn, cell: Cell, answer_tokens: int = ANSWER_TOKENS) -> float:
        prompts = self._prompts.some(turn.contestant.number(cell.clients), cell.prompt_tokens)
        return turn.contestant.measure(Work(cell, prompts, answer_tokens, turn.stream))


@contextmanager
def _alone(contestant: Contestant) -> Iterator[None]:
    contestant.processes.resume()
    yield
    contestant.processes.pause()


def _cpu_s(contestant: Contestant) -> dict[str, float]:
    times = os.times()
    return {**contestant.processes.cpu_s(), "the clients": times.user + times.system}


def _plus(spent: Mapping[str, float], before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    more = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
    return {name: spent.get(name, 0.0) + more.get(name, 0.0) for name in {**spent, **more}}


def make_model(folder: Path) -> None:
    """Write the bench model into the folder, and its tokenizer in transformers' format."""
    for module, *more in (("serving.make_model", "bench"), ("benchmarks.hf_tokenizer",)):
        subprocess.run([sys.executable, "-m", module, str(folder), *more], check=True, stdout=sys.stderr, timeout=600)


@contextmanager
def contestants(setting: Setting, console: Console, encode: Callable[[str], Sequence[int]]) -> Iterator[list[Turn]]:
    """Start all contestants, and end them when the context is left."""
    up: dict[str, Contestant] = {}
    try:
        for name, start in (
            ("ours", lambda: Ours(setting)),
            ("one_at_a_time", lambda: OneAtATime(setting)),
            ("transformers_serve", lambda: TransformersServe(setting)),
            ("bare_engine", lambda: BareEngine(setting, encode)),
        ):
            console.print("start", name)
            up[name] = start()
            up[name].processes.pause()
        yield [Turn("ours", up["ours"]), Turn(STREAMED, up["ours"], True), *(Turn(k, c) for k, c in up.items() if k != "ours")]
    finally:
        for contestant in up.values():
            contestant.processes.end()


def numbers(text: str) -> list[int]:
    """Parse `1,4,16` to [1, 4, 16]."""
    return [int(word) for word in text.split(",")]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.contest")
    parser.add_argument("--clients", type=numbers, required=True)
    parser.add_argument("--prompts", type=numbers, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Run the contest and print the measured values."""
    options = arguments(given)
    console = Console(sys.stderr)
    # An exception, so that the contestants are ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tokenizer = Tokenizer()
    cells = [Cell(clients, tokens) for tokens in options.prompts for clients in options.clients]
    with tempfile.TemporaryDirectory(prefix="leeward-bench-") as folder:
        model = Path(folder, "model")
        make_model(model)
        setting = Setting(model, len(os.sched_getaffinity(0)), SLOTS, POSITIONS, Path(folder))
        with contestants(setting, console, tokenizer.completion) as turns:
            contest = Contest(turns, Prompts(tokenizer.token_bytes.pieces, tokenizer.completion, SEED), console)
            contest.warm_up(cells)
            for cell in cells:
                contest.run(cell, options.rounds)
    print(json.dumps({"rows": [asdict(row) for row in contest.rows], "spent": [asdict(one) for one in contest.spent]}))


if __name__ == "__main__":
    main()

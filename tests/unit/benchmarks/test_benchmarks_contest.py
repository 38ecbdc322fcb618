"""The contestants' turns, with processes that only sleep; and the loop of the bare engine, over an exact engine."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from exact_engine import ENDS, ExactEngine, alone

from benchmarks.bare_engine import answer_all, requests
from benchmarks.contest import ANSWER_TOKENS, Contest, Turn
from benchmarks.contestants import Contestant, Failed, Server, Setting, Work
from benchmarks.figures import Cell
from benchmarks.prompts import Prompts
from benchmarks.timed import Timed
from scripts.support.console import Console
from serving.engines.contract import EngineError, Limits, Request
from serving.engines.scheduler import Scheduler
from serving.tokenizer import Tokenizer


class Sleeper(Contestant):
    """A contestant that measures nothing; it records its work, and whether it alone was running."""

    def __init__(self, name: str, setting: Setting, log: list[tuple[str, Work]]) -> None:
        super().__init__(name, setting, ["sleeper"], {"PYTHONPATH": str(setting.logs)})
        self._name, self._asked = name, log
        self.others: list[Contestant] = []
        self.ran_alone: list[bool] = []

    def measure(self, work: Work) -> float:
        self._asked.append((self._name, work))
        self.ran_alone.append(awake(self) and not any(awake(other) for other in self.others))
        return float(len(self._asked))


def awake(contestant: Contestant) -> bool:
    """Return whether the contestant is not paused; waits a moment, because a signal takes one to act."""
    deadline = time.monotonic() + 60
    states = []
    while time.monotonic() < deadline:
        states.append(Path(f"/proc/{contestant.processes.first.pid}/stat").read_text().rpartition(")")[2].split()[0])
        if states[-3:] in (["T"] * 3, ["S"] * 3):
            break
        time.sleep(0.01)
    return states[-1] != "T"


Three = tuple[list[Sleeper], list[tuple[str, Work]]]


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Three]:
    (tmp_path / "sleeper.py").write_text("import time\ntime.sleep(1000)\n")
    log: list[tuple[str, Work]] = []
    setting = Setting(tmp_path, threads=1, slots=2, positions=8, logs=tmp_path)
    sleepers = [Sleeper(name, setting, log) for name in ("ours", "b", "c")]
    try:
        for sleeper in sleepers:
            sleeper.others = [other for other in sleepers if other is not sleeper]
            sleeper.processes.pause()
        yield sleepers, log
    finally:
        for sleeper in sleepers:
            sleeper.processes.end()


def contest(sleepers: list[Sleeper], output: io.StringIO) -> Contest:
    tokenizer = Tokenizer()
    turns = [Turn(name, sleeper) for name, sleeper in zip(("ours", "b", "c"), sleepers, strict=True)]
    return Contest(turns, Prompts(tokenizer.token_bytes.pieces, tokenizer.completion, seed=1), Console(output))


def test_contestants_take_turns_within_each_round_and_each_begins_one(three: Three) -> None:
    sleepers, log = three
    one = contest(sleepers, io.StringIO())
    one.run(Cell(2, 16), rounds=3)
    assert [name for name, _ in log] == ["ours", "b", "c", "b", "c", "ours", "c", "ours", "b"]
    assert one.rows[0].rates == {"ours": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_the_measured_contestant_runs_and_all_others_are_paused(three: Three) -> None:
    sleepers, _ = three
    one = contest(sleepers, io.StringIO())
    one.warm_up([Cell(2, 16)])
    one.run(Cell(2, 16), rounds=2)
    assert [sleeper.ran_alone for sleeper in sleepers] == [[True] * 3] * 3


def test_all_contestants_get_the_same_number_of_prompts_for_each_client_and_the_same_answer_length(three: Three) -> None:
    sleepers, log = three
    contest(sleepers, io.StringIO()).run(Cell(2, 16), rounds=1)
    assert {(work.answer_tokens, len(work.prompts)) for _, work in log} == {(ANSWER_TOKENS, 2 * Contestant.ANSWERS_A_CLIENT)}
    prompts = [prompt for _, work in log for prompt in work.prompts]
    assert len(set(prompts)) == len(prompts)


LIMITS = Limits(slots=3, positions=40, max_prompt=30, vocabulary=64)


def test_the_bare_engine_answers_each_request_as_if_it_were_alone_with_that_number_of_clients_at_a_time() -> None:
    prompts = [[2 + n, 3, 4 + n] for n in range(10)]
    engine, most = ExactEngine(LIMITS), 0
    scheduler = Scheduler(Timed(engine), ends=ENDS, max_queue=100, now=time.monotonic)

    def seen(inner: Callable[[], list[object]]) -> Callable[[], list[object]]:
        def step() -> list[object]:
            nonlocal most
            most = max(most, scheduler.stats().queued + scheduler.stats().live)
            return inner()

        return step

    scheduler.step = seen(scheduler.step)  # type: ignore[method-assign, assignment, arg-type]
    given = answer_all(scheduler, requests(prompts, 12), clients=2)
    assert given == sum(len(alone(request, LIMITS)[0]) for request in requests(prompts, 12))
    assert most == 2


def test_the_bare_engine_does_not_count_a_failed_answer() -> None:
    engine = ExactEngine(LIMITS)
    engine.orders.fail = 1
    with pytest.raises(EngineError):
        answer_all(Scheduler(engine, ENDS, 100, time.monotonic), requests([[2, 3]], 4), clients=1)


def test_a_timed_engine_answers_as_the_wrapped_one_and_records_each_step_in_order() -> None:
    timed, plain = Timed(ExactEngine(LIMITS)), ExactEngine(LIMITS)
    (request,) = requests([[5, 6, 7]], 3)
    assert isinstance(request, Request)
    assert (timed.prefill(0, [5, 6, 7]) == plain.prefill(0, [5, 6, 7])).all()
    assert (timed.decode([0], [9], [3]) == plain.decode([0], [9], [3])).all()
    assert [step.kind for step in timed.steps] == ["prefill", "decode"]
    assert timed.steps[0].began <= timed.steps[0].ended <= timed.steps[1].began <= timed.steps[1].ended
    assert timed.limits == plain.limits


def test_a_contestant_that_ends_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text("import sys\nsys.exit('no model here')\n")
    setting = Setting(tmp_path, threads=1, slots=2, positions=8, logs=tmp_path)
    with pytest.raises(Failed, match=r"exit code 1 instead of answering(.|\n)*no model here"):
        Server("dies", setting, lambda port: ["dies"], {"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"}, "")

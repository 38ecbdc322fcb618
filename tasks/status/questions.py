"""Questions that are asked side by side and must be answered in time; no answer is an answer, too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from blocks.errors import Transient

T = TypeVar("T")

ANSWER_WITHIN_S = 45.0
"""For all questions of one round. Each takes a second where the world is well."""


class NoAnswer(Transient):
    """Whoever was asked has not answered in time."""


@dataclass(frozen=True, slots=True)
class StatusRow:
    """One thing that there is."""

    kind: str
    name: str
    says: str
    """How it is, or why that is not known."""
    known: bool = True
    """False: whether there is anything could not be asked."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.says}"


@dataclass(frozen=True, slots=True)
class Question:
    """What there is of some kind."""

    kind: str
    name: str
    """Of what is asked for, or of the place where it is looked for."""
    ask: Callable[[], list[StatusRow]]


class Asked(Generic[T]):
    """A question that is being asked in a thread of its own, which holds nobody up when it never ends."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._answer: Future[T] = Future()
        # Not of a pool: the interpreter waits for the threads of pools, and this one may hang in a connection.
        threading.Thread(target=self._run, args=(ask,), name="question", daemon=True).start()

    def _run(self, ask: Callable[[], T]) -> None:
        try:
            self._answer.set_result(ask())
        except BaseException as error:  # whatever it is, it belongs to whoever asked
            self._answer.set_exception(error)

    def answer(self, within_s: float) -> T:
        """The answer.

        Raises:
            NoAnswer: not within so many seconds.
        """
        try:
            return self._answer.result(max(0.0, within_s))
        except TimeoutError as error:
            if self._answer.done():  # its own words, not our patience
                raise
            raise NoAnswer("no answer in time") from error


def ask(questions: Sequence[Question], within_s: float = ANSWER_WITHIN_S) -> list[StatusRow]:
    """The answers in the order of the questions. Where there is none, a line that says so and why."""
    until = time.monotonic() + within_s
    asked = [(question, Asked(question.ask)) for question in questions]
    lines: list[StatusRow] = []
    for question, one in asked:
        try:
            lines += one.answer(until - time.monotonic())
        except Exception as error:
            lines.append(unknown(question.kind, question.name, error))
    return lines


def unknown(kind: str, name: str, error: Exception) -> StatusRow:
    """The line of what could not be asked."""
    return StatusRow(kind, name, f"could not be asked: {' '.join(str(error).split())[:300] or type(error).__name__}", known=False)

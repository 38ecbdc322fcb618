"""Questions that are asked in parallel and must be answered in time. A question without an answer gives a row that reports this."""

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
"""Seconds for all questions together. Each normally takes one."""


class NoAnswer(Transient):
    """A question was not answered in time."""


@dataclass(frozen=True, slots=True)
class StatusRow:
    """A resource or object that exists, or a question that could not be answered."""

    kind: str
    name: str
    says: str
    """Its state, or why that is unknown."""
    known: bool = True
    """False: whether it exists could not be found out."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.says}"


@dataclass(frozen=True, slots=True)
class Question:
    """One question: what exists of one kind."""

    kind: str
    name: str
    """Name of the resource, or of the place to look in."""
    ask: Callable[[], list[StatusRow]]


class Asked(Generic[T]):
    """A question that is being asked in a daemon thread. A thread that hangs does not keep the process alive."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._answer: Future[T] = Future()
        # No pool: the interpreter waits for a pool's threads at exit, and this one may hang in a connection.
        threading.Thread(target=self._run, args=(ask,), name="question", daemon=True).start()

    def _run(self, ask: Callable[[], T]) -> None:
        try:
            self._answer.set_result(ask())
        except BaseException as error:  # raised again by answer()
            self._answer.set_exception(error)

    def answer(self, within_s: float) -> T:
        """Return the answer, or raise the error of the question.

        Raises:
            NoAnswer: there was no answer within `within_s` seconds.
        """
        try:
            return self._answer.result(max(0.0, within_s))
        except TimeoutError as error:
            if self._answer.done():  # the question itself raised TimeoutError
                raise
            raise NoAnswer("no answer in time") from error


def ask(questions: Sequence[Question], within_s: float = ANSWER_WITHIN_S) -> list[StatusRow]:
    """The answers in the order of the questions. A question without an answer gives one row with the reason."""
    until = time.monotonic() + within_s
    asked = [(question, Asked(question.ask)) for question in questions]
    rows: list[StatusRow] = []
    for question, one in asked:
        try:
            rows += one.answer(until - time.monotonic())
        except Exception as error:
            rows.append(unknown(question.kind, question.name, error))
    return rows


def unknown(kind: str, name: str, error: Exception) -> StatusRow:
    """The row for a question that could not be answered."""
    return StatusRow(kind, name, f"could not be asked: {' '.join(str(error).split())[:300] or type(error).__name__}", known=False)

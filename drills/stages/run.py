"""One run of a drill: what is drilled, how, and where its progress is shown. All stages are given this value."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from pydantic import BaseModel

from blocks.errors import BACKOFF_S, Transient
from drills.definition import Drill, Series
from drills.evidence import Evidence
from drills.judge.verdict import Verdict
from drills.kubernetes.api import Api
from drills.request import LEEWARD, Template
from drills.runner.journal import Journal
from drills.runner.load_job import Placement
from drills.runner.observer import Observer
from drills.runner.waiting import Pending
from drills.series import SeriesEvidence
from drills.subject import Subject

P = ParamSpec("P")
R = TypeVar("R")

ONCE = Series()


class Result(BaseModel, frozen=True):
    """The result of a drill."""

    verdict: Verdict
    headline: str
    folder: Path
    page: str = "report.html"
    """Name of the report in the folder."""

    @property
    def passed(self) -> bool:
        """Whether the service kept its promises."""
        return self.verdict == "passed"


class Progress(Protocol):
    """How far one stage is."""

    def show(self, percent: float | None, text: str) -> None:
        """Show this. `percent` None: unchanged."""

    def show_pending(self, pending: Pending) -> None:
        """Show what a wait observed; to be passed as `Until.on_pending`."""
        self.show(pending.percent, pending.seen)


class Display(Protocol):
    """Where a run shows what it does: the Prefect UI, or a terminal."""

    def progress(self, key: str) -> Progress:
        """Return the progress of a stage; the key is its name in lower case with dashes."""

    def say(self, text: str, *, warning: bool = False) -> None:
        """Show one line of text."""

    def judged(self, found: Evidence | SeriesEvidence, result: Result) -> None:
        """Show the verdict of a drill or of a series."""


class Part(Progress):
    """Progress of one part of one fault in a series, shown as progress of the whole series."""

    def __init__(self, whole: Progress, number: int, of: int, since: float, until: float) -> None:
        self._whole, self._words = whole, f"fault {number} of {of}"
        self._since, self._until = (100 * (number - 1 + share) / of for share in (since, until))

    def show(self, percent: float | None, text: str) -> None:
        """Show this as progress of the whole series."""
        share = None if percent is None else self._since + (self._until - self._since) * percent / 100
        self._whole.show(share, f"{self._words}: {text}")


@dataclass(frozen=True)
class Stage(Generic[P, R]):
    """A function of a run that may be called again after a crash at any line."""

    function: Callable[Concatenate[Run, P], R]
    name: str
    """Its name for people."""
    deadline_s: float
    """Seconds for one try. All waits in it have deadlines of their own; this is for what is not a wait."""
    retries: int
    """Number of further tries after a Transient error."""


def stage(name: str, deadline_s: float, retries: int = 3) -> Callable[[Callable[Concatenate[Run, P], R]], Stage[P, R]]:
    """Return a decorator that makes a stage of a function."""
    return lambda function: Stage(function, name, deadline_s, retries)


class Executor(Protocol):
    """How stages are executed: as tasks of a flow, or by plain calls."""

    def __call__(self, stage: Stage[..., R], name: str, work: Callable[[], R]) -> R:
        """Call `work`, which is this stage of a run, under that name, again after a Transient error; returns its result."""


def call_plainly(stage: Stage[..., R], name: str, work: Callable[[], R]) -> R:
    """Execute a stage by plain calls."""
    for pause_s in [*BACKOFF_S[: stage.retries], None]:
        try:
            return work()
        except Transient:
            if pause_s is None:
                raise
            time.sleep(pause_s)
    raise AssertionError("the last try returns or raises")


@dataclass(frozen=True)
class Run:
    """One run of a drill, which another process may resume."""

    subject: Subject
    drill: Drill
    owner: str
    """Id of the run: the holder of the lock, and the owner of the journal and of the load."""
    name: str
    """Name of the run in the evidence."""
    folder: Path
    """Folder of the evidence."""
    connect: Callable[[], Api]
    """Returns the API of the subject's cluster."""
    prepare: Callable[[], Placement]
    """Makes ready what the load needs in the cluster, and returns where it runs. Called after the lock is taken."""
    display: Display
    execute: Executor
    series: Series = ONCE
    template: Template = field(default_factory=lambda: Template.of(LEEWARD))
    """The requests that the load sends."""
    target: str = ""
    """Name of the cluster in the evidence."""
    config: dict[str, Any] = field(default_factory=dict)
    """Configuration of the service for the evidence; nothing in it is secret."""

    def do(self, stage: Stage[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Execute a stage; returns its result."""
        return self.execute(stage, stage.name, lambda: stage.function(self, *arguments, **named))

    def do_for(self, number: int, stage: Stage[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Execute a stage for the fault of that number; in a series its name contains the number."""
        name = f"{stage.name} {number} of {self.series.repeat}" if self.series.repeat > 1 else stage.name
        return self.execute(stage, name, lambda: stage.function(self, *arguments, **named))

    def attempt(self, stage: Stage[P, R], *arguments: P.args, **named: P.kwargs) -> R | None:
        """Execute a stage whose error must not replace another one: it is only shown. Returns None then."""
        try:
            return self.execute(stage, stage.name, lambda: stage.function(self, *arguments, **named))
        except Exception as error:
            self.warn(f"{stage.name}: {type(error).__name__}: {error}")
            return None

    def warn(self, text: str) -> None:
        """Show one line as a warning."""
        self.display.say(text, warning=True)

    def observer(self, api: Api) -> Observer:
        """Return an observer of all that the drill's steady state is about."""
        return Observer(api, self.subject, nodes=self.drill.steady_state.most_nodes is not None)

    def raw_folder(self, journal: Journal) -> Path:
        """Return the folder with the raw evidence of one attempt."""
        return self.folder / "raw" / f"attempt-{journal.attempt}"

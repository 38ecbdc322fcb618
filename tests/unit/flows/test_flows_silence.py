"""A run without heartbeats is marked as ended; one with heartbeats, or that has ended, is not changed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Self
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas import State
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Completed, Running

from flows.runs import silence

RUN = UUID("11111111-2222-3333-4444-555555555555")


class Server:
    """A Prefect server with one run, which may send heartbeats or end meanwhile."""

    def __init__(self, state: State, *, beats: bool = False, then: State | None = None) -> None:
        self._states, self._beats, self._last = [state, then or state], beats, uuid4()
        self.set: list[State] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read_flow_run(self, run: UUID) -> Any:
        if run != RUN:
            raise ObjectNotFound(Exception())
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        return SimpleNamespace(id=run, name="calm-otter", state=state)

    def read_events(self, wanted: Any, limit: int) -> Any:
        assert wanted.resource.id == [f"prefect.flow-run.{RUN}"]
        self._last = uuid4() if self._beats else self._last
        return SimpleNamespace(events=[SimpleNamespace(id=self._last)][:limit])

    def set_flow_run_state(self, run: UUID, state: State) -> None:
        assert run == RUN
        self.set.append(state)


def ended(monkeypatch: pytest.MonkeyPatch, server: Server, run: str = str(RUN)) -> list[str]:
    logger = SimpleNamespace(info=lambda *_: None, warning=lambda *_: None)
    monkeypatch.setattr(silence, "get_client", lambda **_: server)
    monkeypatch.setattr(silence, "get_run_logger", lambda: logger)
    monkeypatch.setattr(silence, "LOOK_EVERY_S", 0.01)
    silence.end_if_silent(run, listen_s=0.05)
    return [state.type.value for state in server.set]


def test_a_run_without_heartbeats_is_marked_as_crashed_or_if_it_was_being_cancelled_as_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(monkeypatch, Server(Running())) == ["CRASHED"]
    assert ended(monkeypatch, Server(Cancelling())) == ["CANCELLED"]


def test_a_run_with_heartbeats_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(monkeypatch, Server(Running(), beats=True)) == []


def test_a_run_that_has_ended_or_ends_meanwhile_keeps_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(monkeypatch, Server(Completed())) == []
    assert ended(monkeypatch, Server(Running(), then=Completed())) == []


@pytest.mark.parametrize("unknown", ["", "no-uuid", "11111111-2222-3333-4444-000000000000"])
def test_an_unknown_run_is_no_error(monkeypatch: pytest.MonkeyPatch, unknown: str) -> None:
    assert ended(monkeypatch, Server(Running()), unknown) == []

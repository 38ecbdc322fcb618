"""A refresh does its steps in order and holds the drill's lock from the first to the last one, whatever fails."""

from __future__ import annotations

from typing import Any

import pytest
from held_lock import holding_lock

from blocks.parameters import Infrastructure, Service
from flows import refresh, stages
from tasks.service.refresh import OldNode
from tasks.support.site import Site

SITE = Site(target="t", infrastructure=Infrastructure())
RUN = stages.Run("id-1", "calm-otter")
NODES = [OldNode(name="n1", claim="c1"), OldNode(name="n2", claim="c2")]


class Steps:
    """Replaces the tasks and records the calls; one task may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, old: list[OldNode], failing: str = "") -> None:
        self.called: list[str] = []
        self.shown: list[list[tuple[str, str]]] = []
        self._failing = failing
        answers = {
            "take_lock": None,
            "move_to_newest_ami": "",
            "find_old_nodes": old,
            "add_worker": True,
            "retire_worker": None,
            "settle_workers": "new",
        }
        for name, answer in {**answers, "remove_node": None, "release_lock": None}.items():
            monkeypatch.setattr(refresh, name, self._step(name, answer))
        monkeypatch.setattr(refresh, "show_refresh", lambda done: self.shown.append([(one.old, one.new) for one in done]))
        monkeypatch.setattr(refresh, "holding_lock", holding_lock)

    def _step(self, name: str, answer: Any) -> Any:
        def step(*_: Any, **__: Any) -> Any:
            self.called.append(name)
            if name == self._failing:
                raise RuntimeError(name)
            return answer

        return step


EACH = ["add_worker", "retire_worker", "settle_workers", "remove_node"]


def test_the_nodes_are_replaced_in_order_under_the_lock_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, NODES)
    done = refresh.replace_old_nodes(SITE, Service(), "all", RUN)
    assert steps.called == ["take_lock", "move_to_newest_ami", "find_old_nodes", *EACH, *EACH, "release_lock"]
    assert [(one.old, one.new) for one in done] == [("n1", "new"), ("n2", "new")]
    assert steps.shown == [[("n1", "new")], [("n1", "new"), ("n2", "new")]]


def test_without_old_nodes_the_size_that_a_dead_run_left_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, [])
    assert refresh.replace_old_nodes(SITE, Service(), "drifted", RUN) == []
    assert steps.called == ["take_lock", "move_to_newest_ami", "find_old_nodes", "settle_workers", "release_lock"]


@pytest.mark.parametrize("failing", ["find_old_nodes", *EACH])
def test_the_lock_is_released_whatever_fails(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    steps = Steps(monkeypatch, NODES, failing)
    with pytest.raises(RuntimeError, match=failing):
        refresh.replace_old_nodes(SITE, Service(), "all", RUN)
    assert steps.called[-2:] == [failing, "release_lock"]


def test_the_lock_of_another_run_is_not_released(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, NODES, "take_lock")
    with pytest.raises(RuntimeError):
        refresh.replace_old_nodes(SITE, Service(), "all", RUN)
    assert steps.called == ["take_lock"]

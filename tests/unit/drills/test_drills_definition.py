"""Drills as files: what the catalogue offers and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from drill_runs import STRIKE
from pydantic import BaseModel, ValidationError

from drills.definition import Drill, Load, Slos, SteadyState, Timing, UnknownDrill, catalogue
from drills.faults import KINDS, DeletePod, When
from drills.observed import Snapshot
from drills.runner.faults import UnknownFault, check_known

MINIMAL = "name: x\ntitle: A fault\ndescription: What is broken on purpose.\n"


@pytest.mark.parametrize("name", catalogue())
def test_every_drill_of_the_catalogue_loads_under_its_own_name_and_its_faults_can_be_done(name: str) -> None:
    drill = Drill.named(name)
    assert drill.name == name
    check_known(drill.faults)


def test_the_two_head_drills_differ_in_grace_only() -> None:
    default, forced = Drill.named("head-pod"), Drill.named("head-pod-forced")
    assert (default.faults, forced.faults) == ((DeletePod(),), (DeletePod(grace="forced"),))
    named = {"name", "title", "description", "faults"}
    assert default.model_dump(exclude=named) == forced.model_dump(exclude=named)


def test_an_unknown_drill_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(UnknownDrill, match="head-pod, head-pod-forced"):
        Drill.named("../head-pod")


def test_given_parts_replace_those_of_the_catalogue() -> None:
    drill = Drill.named("head-pod", load=Load(short_per_s=20), timing=Timing(after_s=60))
    assert (drill.load.short_per_s, drill.timing.after_s, drill.slos) == (20, 60, Slos())


def test_a_drill_with_an_unknown_kind_of_fault_can_be_read_but_nothing_proves_it() -> None:
    drill = Drill.from_yaml(MINIMAL + "fault: {kind: fail-over-redis, proof: reported}\nslos: {max_lost_streams: 3}\n")
    assert (drill.fault.kind, drill.slos.max_lost_streams) == ("fail-over-redis", 3)
    assert not drill.fault.happened(Snapshot(t=1), Snapshot(t=2), STRIKE)
    assert "fail-over-redis changes is not known" in drill.fault.unproven(STRIKE)
    with pytest.raises(UnknownFault, match="cut-network, delete-pod, drain-node, hold-operator, signal"):
        check_known(drill.faults)


@pytest.mark.parametrize(("grace", "words"), [("default", "own grace period"), ("forced", "grace period 0")])
def test_a_drill_from_before_there_were_other_faults_is_read_as_the_deletion_of_the_head(grace: str, words: str) -> None:
    drill = Drill.from_yaml(MINIMAL + f"fault: {{kind: delete-head-pod, grace: {grace}, proof: head-pod-replaced}}\n")
    assert drill.faults == (DeletePod(of="head", grace="forced" if grace == "forced" else "default"),)
    assert words in drill.describe_faults()
    assert Drill.model_validate_json(drill.model_dump_json()) == drill


@pytest.mark.parametrize(
    "line",
    [
        "slos: {max_failed_request: 1}",
        "load: {short_per_s: 0}",
        "timing: {before_s: 1}",
        "fault: {kind: Delete Head}",
        "fault: {grace: soft}",
        "fault: {kind: drain-node, grace: forced}",
        "fault: {kind: signal, process: raylet, signal: STOP}",
        "fault: {kind: signal, process: raylet, hold_s: 5}",
        "fault: {when: {after_s: 1}}",
        "faults: [{of: head}, {of: worker}]",
        "faults: [{of: head}, {of: worker, when: {}}]",
        "faults: [{of: head}, {kind: surge, when: {after_s: 1}}]",
        "faults: []",
    ],
    ids=[
        "misspelt",
        "no load",
        "too short",
        "not kebab-case",
        "unknown grace",
        "a field of another kind",
        "a stop without an end",
        "an end without a stop",
        "the first fault waits",
        "the second fault does not wait",
        "no moment",
        "a surge that nothing would end",
        "no fault",
    ],
)
def test_a_file_with_a_mistake_is_refused(line: str) -> None:
    with pytest.raises(ValidationError):
        Drill.from_yaml(MINIMAL + line + "\n")


@pytest.mark.parametrize("model", [*KINDS.values(), When, SteadyState, Timing, Load, Slos])
def test_every_field_has_a_description_in_the_form(model: type[BaseModel]) -> None:
    fields: dict[str, Any] = model.model_json_schema()["properties"]
    assert [name for name, field in fields.items() if name != "kind" and len(field.get("description", "")) < 20] == []


@pytest.mark.parametrize("model", [SteadyState, Timing, Load, Slos])
def test_every_number_has_bounds(model: type[BaseModel]) -> None:
    fields: dict[str, Any] = model.model_json_schema()["properties"]
    numbers = {name: f for name, f in fields.items() if f.get("type") in ("number", "integer")}
    assert numbers
    assert [n for n, f in numbers.items() if not (f.keys() & {"minimum", "exclusiveMinimum"} and "maximum" in f)] == []


def test_a_drill_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Drill.named("head-pod").slos.max_lost_streams = 9  # type: ignore[misc]

"""`leeward drill` from its options to its exit code, on a cluster in memory: what it refuses, what it touches, and what it leaves."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from drilled_cluster import JOBS, Bench, Cluster, Deletion, Killed, Runner, bench, fails_after

from blocks.parameters import Service
from drills.cli import drill, terminal, undo
from drills.cli import main as command
from drills.cli.definition import definition, requests
from drills.compare import last_passed
from drills.definition import Series
from drills.kubernetes import leases
from drills.kubernetes.api import Refused
from drills.runner import journal
from drills.runner.journal import FaultNote, Journal, Lock
from drills.runner.raw_evidence import RawEvidence
from drills.strikes import Strike, Target

SUBJECT = Service().subject
SHORT = ("--before", "10", "--after", "15", "--rate", "2", "--streams", "3", "--requests", "leeward")
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    cluster = Cluster()
    cluster.answers["POST", REVIEWS] = (201, b'{"status": {"allowed": true}}')
    for module in (drill, undo):
        monkeypatch.setattr(module, "find_subject", lambda *_: SUBJECT)
    monkeypatch.setattr(command, "connect", lambda _: found.runner)
    with bench(cluster, tmp_path / "out") as found:
        found.runner = Runner(cluster)
        yield found


def leeward(here: Bench, *more: str, page: str = "head-pod") -> int:
    return command.main(["drill", page, *SHORT, "--out", str(here.folder), *more])


def go(here: Bench, *more: str) -> int:
    return leeward(here, "--break", "mistral/mistral", *more)


def left(here: Bench) -> list[str]:
    """Everything of a drill that is in the cluster."""
    return [path for path in here.cluster.objects if f"/namespaces/{SUBJECT.home}/" in path]


def test_a_service_that_keeps_its_promises_passes_and_nothing_of_the_drill_is_left(here: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert go(here) == 0
    assert "PASSED" in capsys.readouterr().out
    assert {path.name for path in here.folder.iterdir()} >= {"report.html", "evidence.json", "junit.xml", "records.jsonl"}
    assert len(here.cluster.deletions) == 1
    assert left(here) == []


def test_a_drill_waits_for_a_head_that_is_away_at_the_moment(here: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    here.cluster.deletions.append(Deletion("head-0", True, here.cluster.clock.now))
    assert go(here) == 0
    assert [deletion.uid for deletion in here.cluster.deletions] == ["head-0", "head-1"]
    assert "no running head pod" in capsys.readouterr().err


def test_a_drill_of_a_service_that_gets_no_head_is_refused(here: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    here.cluster.deletions.append(Deletion("head-0", True, here.cluster.clock.now + 1000))
    assert go(here) == 2
    assert "for a pod of mistral/mistral to break; last seen: mistral/mistral has no running head pod" in capsys.readouterr().err
    assert left(here) == []


def test_a_lost_request_fails_the_command(here: Bench) -> None:
    here.cluster.lost = fails_after(here.cluster, fault=1, seconds=3)
    assert go(here) == 1
    assert left(here) == []


def test_a_load_that_dies_gives_no_verdict(here: Bench) -> None:
    here.cluster.load_dies = lambda: bool(here.cluster.deletions)
    assert go(here) == 3
    assert left(here) == []


def test_a_full_disk_ends_a_drill_without_a_verdict_and_nothing_is_left(here: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write = RawEvidence.add

    def full(raw: RawEvidence, kind: str, value: Any) -> None:
        if here.cluster.deletions:
            raise OSError(28, "No space left on device")
        write(raw, kind, value)

    monkeypatch.setattr(RawEvidence, "add", full)
    assert go(here) == 3
    assert len(here.cluster.deletions) == 1
    assert left(here) == []


def test_the_verdict_is_shown_by_any_terminal(here: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr("sys.stdout", shown)
    assert go(here) == 0
    assert b"? PASSED" in shown.buffer.getvalue()  # type: ignore[attr-defined]  # it is a BytesIO


@pytest.mark.parametrize(("setting", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_are_for_terminals_whose_users_want_them(monkeypatch: pytest.MonkeyPatch, setting: dict[str, str], coloured: bool) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    shown = io.StringIO()
    assert not terminal.coloured(shown)
    monkeypatch.setattr(shown, "isatty", lambda: True)
    assert terminal.coloured(shown) is coloured


def test_a_verdict_whose_reader_is_gone_is_still_the_exit_code(here: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        monkeypatch.setattr("sys.stdout", gone)
        assert go(here) == 0
        monkeypatch.undo()
    assert left(here) == []


@pytest.mark.parametrize("name", ["istio-proxy", "linkerd-proxy"])
def test_a_dry_run_says_that_a_mesh_is_there(
    here: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    pod = here.cluster._pod

    def meshed(*given: Any) -> Any:
        found = pod(*given)
        found["spec"]["initContainers"] = [{"name": name}, {"name": "init"}]
        return found

    assert leeward(here, "--dry-run") == 0
    assert "mesh" not in capsys.readouterr().err
    monkeypatch.setattr(here.cluster, "_pod", meshed)
    assert leeward(here, "--dry-run") == 0
    assert f"sidecars of a mesh: {name};" in capsys.readouterr().err


def test_without_the_services_name_after_break_nothing_is_touched(here: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("--break", "mistral/other")):
        assert leeward(here, *words) == 2
        told = capsys.readouterr().err
        assert "head-0" in told
        assert "--break mistral/mistral" in told
    assert (left(here), here.cluster.deletions) == ([], [])


def test_missing_rights_are_all_named_before_anything_is_touched(here: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    here.cluster.answers["POST", REVIEWS] = (201, b'{"status": {"allowed": false}}')
    assert go(here) == 2
    told = capsys.readouterr().err
    assert "delete pods" in told
    assert "create jobs.batch" in told
    assert "leeward rbac head-pod" in told
    assert (left(here), here.cluster.deletions) == ([], [])


def test_a_token_of_rays_dashboard_that_may_not_be_read_is_named(
    here: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drill, "token_secret", lambda *_: "ray-token")
    here.cluster.answers["POST", REVIEWS] = (201, b'{"status": {"allowed": false}}')
    assert go(here) == 2
    told = capsys.readouterr().err
    assert "get secrets ray-token" in told
    assert "`leeward rbac head-pod --ray-token ray-token`" in told


def test_a_dry_run_shows_the_target_and_the_requests_and_stores_nothing(here: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert leeward(here, "--dry-run") == 0
    told = capsys.readouterr().out
    for shown in ("UID head-0", "node-head-0", "POST http://mistral-serve-svc.mistral.svc:8000/v1/completions", "Nothing was touched"):
        assert shown in told
    assert (left(here), here.cluster.deletions) == ([], [])
    assert any(query.get("dryRun") == ["All"] for method, _, query in here.cluster.requests if method == "POST")


def test_a_folder_with_files_is_not_written_into(here: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    here.folder.mkdir(exist_ok=True)
    (here.folder / "mine").touch()
    assert go(here) == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_service_that_another_run_drills_is_left_alone(here: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    taken = Lock(here.runner, SUBJECT, "another-run").take
    here.cluster.clock.sleep(1)
    assert taken() is True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "remaining_s", lambda *_: 30.0)
        assert go(here) == 2
    assert "is under way" in capsys.readouterr().err
    assert here.cluster.deletions == []


def test_ctrl_c_removes_the_load_the_journal_and_the_lock(here: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(here, monkeypatch, lambda method, path: method == "GET" and bool(here.cluster.deletions))
    assert go(here) == 3
    assert len(here.cluster.deletions) == 1
    assert left(here) == []


def test_ctrl_c_before_anything_is_touched_leaves_nothing_to_undo(
    here: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_at(here, monkeypatch, lambda method, path: path == REVIEWS)
    assert go(here) == 130
    assert "undo" not in capsys.readouterr().err
    assert (left(here), here.cluster.deletions) == ([], [])


@pytest.mark.parametrize("request_number", range(20, 400, 35))
def test_ctrl_c_at_any_request_leaves_nothing(here: Bench, monkeypatch: pytest.MonkeyPatch, request_number: int) -> None:
    numbers = iter(range(10**6))
    interrupt_at(here, monkeypatch, lambda *_: next(numbers) == request_number)
    assert go(here) in (3, 130) or next(numbers) < request_number
    assert left(here) == []
    assert len(here.cluster.deletions) <= 1


def test_ctrl_c_while_everything_is_removed_names_the_command_that_finishes_it(
    here: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def again(*_: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(drill, "leftovers", again)
    assert go(here) == 4
    assert "leeward undo" in capsys.readouterr().err


def interrupt_at(here: Bench, monkeypatch: pytest.MonkeyPatch, when: Callable[[str, str], bool]) -> None:
    """Let Ctrl-C arrive at the first request for which `when` is true."""
    handle, done = here.cluster.handle, []

    def interrupted(method: str, url: str, body: Any) -> tuple[int, Any]:
        if not done and when(method, url):
            done.append(True)
            raise KeyboardInterrupt
        return handle(method, url, body)

    monkeypatch.setattr(here.cluster, "handle", interrupted)


def test_after_a_killed_runner_undo_removes_everything_and_the_next_drill_does_one_fault_more(
    here: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drill, "leftovers", lambda *_: [])  # a killed process removes nothing
    here.runner = Runner(here.cluster, lives=120)
    with pytest.raises(Killed):
        go(here)
    assert [path for path in left(here) if path.startswith(JOBS)]
    here.runner = Runner(here.cluster)
    (lease,) = (thing for path, thing in here.cluster.objects.items() if "/leases/" in path)
    lease["spec"]["renewTime"] = "2020-01-01T00:00:00.000000Z"  # a minute has passed
    assert command.main(["undo", "-n", "mistral"]) == 0
    assert left(here) == []
    assert "nothing of a drill is left" in capsys.readouterr().out
    assert command.main(["undo", "-n", "mistral"]) == 0
    assert "no drill has left anything" in capsys.readouterr().out
    faults = len(here.cluster.deletions)
    assert faults <= 1
    assert command.main(["drill", "head-pod", *SHORT, "--out", str(here.folder / "again"), "--break", "mistral/mistral"]) == 0
    assert len(here.cluster.deletions) == faults + 1


def test_undo_reports_what_it_undid_and_what_it_could_not_by_its_exit_code(
    here: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    strike = Strike(act="drain-node", target=Target(name="n", uid="u"), at=1.0, done=True, undo="uncordon node n")
    journal.write(here.runner, SUBJECT, Journal(owner="dead", drill="node-drained", started=1.0, faults=(FaultNote(strikes=(strike,)),)))

    def resists(*_: object) -> None:
        raise Refused("the node may not be changed", 403)

    acts = {"drain-node": undo.faults.ACTS["drain-node"]._replace(undo=resists)}
    with monkeypatch.context() as patch:
        patch.setattr(undo.faults, "ACTS", acts)
        assert command.main(["undo", "-n", "mistral"]) == 4
    assert "still to be undone: uncordon node n" in capsys.readouterr().out
    assert Lock(here.runner, SUBJECT, "").holder() == ""
    acts = {"drain-node": acts["drain-node"]._replace(undo=lambda *_: None)}
    monkeypatch.setattr(undo.faults, "ACTS", acts)
    assert command.main(["undo", "-n", "mistral"]) == 0
    assert "undone: uncordon node n" in capsys.readouterr().out
    assert left(here) == []


def test_a_result_that_is_worse_than_the_last_one_fails(here: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = here.folder / "first", here.folder / "second"
    run = ("drill", "head-pod", *SHORT, "--break", "mistral/mistral")
    assert command.main([*run, "--out", str(first)]) == 0
    assert command.main([*run, "--out", str(second), "--against", str(first)]) == 0
    assert "the second is not worse" in capsys.readouterr().out
    assert command.main([*run, "--out", str(here.folder / "third"), "--against", str(first), "--patience", "9"]) == 0
    assert "not compared: their loads differ in patience_s" in capsys.readouterr().out
    evidence = json.loads((first / "evidence.json").read_text())
    assert evidence["config"]["service"] == "mistral/mistral"
    assert journal.read(here.runner, SUBJECT) is None


def test_the_last_drill_that_passed_is_found_beside_this_one(here: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    run = ("drill", "head-pod", *SHORT, "--break", "mistral/mistral", "--against", "last-passed", "--out")
    assert command.main([*run, str(here.folder / "1")]) == 0
    assert "nothing to compare with" in capsys.readouterr().err
    here.cluster.lost = fails_after(here.cluster, fault=2, seconds=3)
    assert command.main([*run, str(here.folder / "2")]) == 1
    assert f"compared with {here.folder / '1' / 'evidence.json'}" in (told := capsys.readouterr()).err
    assert "worse: " in told.out
    here.cluster.lost = lambda _: False
    assert command.main([*run, str(here.folder / "3")]) == 0
    assert "compared with" in capsys.readouterr().err
    (here.folder / "4").mkdir()
    (here.folder / "4" / "evidence.json").write_text("{}")
    for words in (("--rate", "3"), ("--repeat", "2"), ("--tokens", "20")):
        options = command.parser().parse_args([*run, str(here.folder / "5"), *words])
        wanted = definition(options, requests(options))
        assert last_passed(here.folder, "mistral/mistral", wanted, Series(repeat=options.repeat)) is None, words
    options = command.parser().parse_args([*run, str(here.folder / "5")])
    found = last_passed(here.folder, "mistral/mistral", definition(options, requests(options)), Series())
    assert found is not None
    assert found[0] == here.folder / "3" / "evidence.json", "the second failed, and the fourth is none"
    assert last_passed(here.folder, "mistral/other", definition(options, requests(options)), Series()) is None

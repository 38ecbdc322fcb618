"""The command lines of `./demo` and `./test`, and what a Ctrl-C does."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from blocks.parameters import SERVICE
from scripts import checks, cloud, demo, local_access, setup, stack
from scripts.cloud import Endpoint
from scripts.local_access import DEPLOYED, LocalAccess
from scripts.services import services
from scripts.steps import StepFailed
from scripts.support.console import Console
from scripts.support.interrupts import Interrupted, Interrupts


def chosen(*given: str) -> list[str]:
    return demo.parameters(demo.arguments(given))[1::2]


def test_without_options_the_run_has_the_embedded_target_as_its_only_parameter() -> None:
    assert chosen() == ["target=embedded"]


def test_options_become_parameters_and_those_of_the_user_come_last() -> None:
    assert chosen("--keep") == ["target=embedded", "keep=true", 'service={"model": "smollm2"}', 'load={"short_per_s": 2, "streams": 3}']
    assert chosen("--no-gcs-fault-tolerance") == ["target=embedded", 'infrastructure={"enable_gcs_ha": false}']
    assert chosen("--keep", "-p", "keep=false", "--param", 'drill="head-pod-forced"')[-2:] == ["keep=false", 'drill="head-pod-forced"']


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--deadline", "-5"], "minutes"),
        (["--deadline", "0"], "minutes"),
        (["--deadline", "nan"], "minutes"),
        (["--deadline", "soon"], "minutes"),
        (["--port", "0"], "no port"),
        (["--port", "-1"], "no port"),
        (["--port", "65536"], "no port"),
        (["--param", "drill"], "KEY=JSON"),
        (["--param", 'load={"streams": 20'], "JSON object"),
        (["--param", "service=chat"], "JSON object"),
        (["--param", "dril=head-pod"], "infrastructure, service, "),
        (["--param", "target=production"], "KEY=JSON"),
        (["--param", "drill=head-pods"], "head-pod, head-pod-forced"),
        (["--param", "repeat=0"], "from 1 to 1,000"),
        (["--param", "repeat=1001"], "from 1 to 1,000"),
        (["--param", "graces=in_turn"], "own or in-turn"),
        (["--no-gcs-fault-tolerance", "--param", "infrastructure={}"], "enable_gcs_ha"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else None,
)
def test_a_wrong_option_or_parameter_is_refused_before_anything_is_set_up(
    capsys: pytest.CaptureFixture[str], wrong: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        demo.arguments(wrong)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_demo_accepts_every_parameter_of_the_flow_but_the_target() -> None:
    from flows.lifecycle import lifecycle

    assert {*demo.PARAMETERS, "target"} == set(lifecycle.parameters.properties)


def forwarded(*given: str) -> dict[str, str]:
    return {
        title: host.removesuffix(".svc.cluster.local")
        for title, host in LocalAccess.choose(demo.service_parameter(demo.arguments(given))).hosts.items()
    }


def test_forwards_lead_to_the_names_under_which_the_services_were_deployed() -> None:
    usual = {"Ray dashboard": "mistral-head-svc.mistral", "Model": "mistral-serve-svc.mistral", "Chat": "chat.chat"}
    assert forwarded("--keep") == usual
    assert forwarded("--keep", "-p", 'service={"name": "x"}', "-p", 'service={"namespace": "b", "chat": false}') == {
        "Ray dashboard": "mistral-head-svc.b",
        "Model": "mistral-serve-svc.b",
    }
    assert (DEPLOYED["name"], DEPLOYED["namespace"], DEPLOYED["chat"]) == (SERVICE.name, SERVICE.namespace, SERVICE.chat)


def test_the_examples_of_parameters_are_accepted_by_the_demo_and_by_the_flow() -> None:
    from flows.lifecycle import lifecycle

    for key, example in demo.OBJECT_PARAMETERS.items():
        assert demo.arguments(["-p", f"{key}={example}"]).param == [f"{key}={example}"]
    for grace in demo.GRACES:
        lifecycle.validate_parameters({"target": "t", "graces": grace, "repeat": demo.MOST_FAULTS})
    lifecycle.validate_parameters({"target": "t", **{key: json.loads(example) for key, example in demo.OBJECT_PARAMETERS.items()}})


def test_evidence_is_found_by_the_name_of_the_run_or_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "EVIDENCE", tmp_path)
    assert demo.find_evidence("name", "id") is None
    for folder in ("id", "name"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "evidence.json").touch()
        assert demo.find_evidence("name", "id") == tmp_path / folder / "evidence.json"


def test_the_first_signal_interrupts_and_later_ones_print_the_activity() -> None:
    out, before = io.StringIO(), signal.getsignal(signal.SIGINT)
    with Interrupts(Console(out), "taking everything down") as interrupts:
        with pytest.raises(Interrupted, match="Ctrl-C"):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.shielded
    assert out.getvalue().count("taking everything down") == 2
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_ctrl_c_and_its_like_and_a_closed_terminal_interrupt(number: signal.Signals) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        with Interrupts(Console(io.StringIO())), pytest.raises(Interrupted):
            os.kill(os.getpid(), number)
    finally:
        signal.signal(signal.SIGHUP, before)


@dataclass
class Machine:
    """A machine with or without a cloud that records what is done to it."""

    marker: Path
    cloud_is_up: bool = False
    interrupted_at: str = ""
    calls: list[str] = field(default_factory=list)

    def do(self, what: str) -> None:
        self.calls.append(what)
        if what == self.interrupted_at:
            raise Interrupted("Ctrl-C")

    def take_down(self, console: Console) -> None:
        self.do("take down")
        self.cloud_is_up = False
        self.marker.unlink(missing_ok=True)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    it = Machine(tmp_path / "cloud-is-ours")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(stack, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(stack, "MARKER", it.marker)
    monkeypatch.setattr(services, "running", lambda: None)
    monkeypatch.setattr(cloud, "running", lambda: it.cloud_is_up)
    monkeypatch.setattr(stack, "take_down", it.take_down)
    monkeypatch.setattr(setup, "check_machine", lambda _, ports=(): it.do(f"doctor {list(ports)}"))
    monkeypatch.setattr(setup, "prepare", lambda *_, **__: it.do("set-up"))
    return it


def test_a_cloud_that_was_not_started_here_is_refused_and_left_alone(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.cloud_is_up = True
    assert demo.main([]) == 1
    assert checks.main([]) == 1
    assert capsys.readouterr().out.count("end it with `python3 -m localcloud down`") == 2
    assert machine.calls == []


def test_a_machine_that_the_doctor_refuses_is_not_changed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise StepFailed("see the list above")

    monkeypatch.setattr(setup, "check_machine", lacking)
    assert demo.main([]) == 1
    assert machine.calls == []


def test_what_an_earlier_run_left_is_taken_down_before_the_doctor_runs(machine: Machine) -> None:
    machine.marker.touch()
    machine.interrupted_at = "set-up"
    assert demo.main(["--port", "4321"]) == 130
    assert machine.calls == ["take down", "doctor [4321]", "set-up"]


def test_a_demo_that_is_interrupted_takes_down_what_it_started(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def bring_up(*_: object, **__: object) -> None:
        machine.marker.touch()
        machine.do("bring up")

    monkeypatch.setattr(stack, "bring_up", bring_up)
    machine.interrupted_at = "bring up"
    assert demo.main([]) == 130
    assert machine.calls[-2:] == ["bring up", "take down"]


def test_unit_tests_that_are_interrupted_take_nothing_down(machine: Machine) -> None:
    machine.marker.touch()
    machine.cloud_is_up = True
    machine.interrupted_at = "set-up"
    assert checks.main(["--unit"]) == 130
    assert machine.calls == ["set-up"]


def test_tests_on_the_cloud_that_are_interrupted_take_down_what_came_up_meanwhile(machine: Machine) -> None:
    machine.interrupted_at = "set-up"
    assert checks.main([]) == 130
    assert machine.calls == ["doctor []", "set-up", "take down"]


@pytest.mark.parametrize("given", [[], ["--down"], ["--keep"]])
def test_without_root_nothing_is_touched_and_one_sentence_says_what_works(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    machine.marker.touch()
    assert demo.main(given) == 1
    assert machine.calls == []
    assert "sudo ./demo" in capsys.readouterr().out


def test_a_failure_to_end_the_services_does_not_keep_the_cloud_from_being_taken_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    ended: list[str] = []
    monkeypatch.setattr(services, "stop", full)
    monkeypatch.setattr(cloud, "down", lambda console: ended.append("cloud"))
    with pytest.raises(stack.StillUp, match="No space left"):
        stack.take_down(Console(io.StringIO()))
    assert ended == ["cloud"]


def test_tests_whose_reader_is_gone_leave_no_cloud(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pytest ends without its own clean-up then; `./test` sees only its exit code."""

    def pytest_ends(*_: object) -> int:
        machine.marker.touch()
        return 1

    monkeypatch.setattr(checks.Checks, "_tested", pytest_ends)
    monkeypatch.setattr(checks.setup, "tool_path", lambda: [])
    monkeypatch.setattr(checks.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))
    assert checks.main([]) == 1
    assert machine.calls == ["doctor []", "set-up", "take down"]


def test_what_is_kept_is_printed_with_lines_that_work_in_any_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The printed lines are run by a shell that has settings for another AWS account, another Prefect and a proxy."""
    for name in ("write_kubeconfig", "link_kubectl"):
        monkeypatch.setattr(local_access, name, lambda *_: tmp_path / "x")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,10.213.0.2")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        LocalAccess.choose({}).print_addresses(SimpleNamespace(api_url="http://127.0.0.1:4299/api"), Endpoint())  # type: ignore[arg-type]
    lines = [line[18:] for line in out.getvalue().splitlines()]
    settings = "; ".join(line for line in lines if line.startswith(("export", "unset")))
    foreign = {"AWS_ACCESS_KEY_ID": "x", "AWS_ENDPOINT_URL": "http://localhost:1", "PREFECT_API_URL": "https://api.example.invalid"}
    shell = subprocess.run(["sh", "-c", f"{settings}; env"], env={**os.environ, **foreign}, capture_output=True, text=True, check=True)
    made = dict(line.partition("=")[::2] for line in shell.stdout.splitlines())
    assert not {"AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL"} & made.keys()
    assert (made["PREFECT_API_URL"], made["AWS_PROFILE"]) == ("http://127.0.0.1:4299/api", "leeward")
    assert made["no_proxy"] == "127.0.0.1,10.213.0.2"
    (command,) = [line for line in lines if line.endswith("deployment run status/main -p target=embedded")]
    assert os.access(command.split()[0], os.X_OK), "the program is there"

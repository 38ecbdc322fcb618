"""What `leeward drill` is asked to do: bad input is refused with a sentence before anything is read, and rights are exactly the drill's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from drills.cli import main as command
from drills.cli.definition import definition, probe, requests
from drills.definition import Drill, catalogue
from drills.kubernetes.rights import EVERY_DRILL
from drills.request import PRESETS, FromSecret, Template

WORKER = "name: mine\ntitle: Worker gone\ndescription: One worker is deleted.\nfaults:\n  - kind: delete-pod\n    of: worker\n"


def asked(*words: str) -> command.argparse.Namespace:
    return command.parser().parse_args(["drill", "head-pod", *words])


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must be refused; return its one line on standard error."""
    assert command.main(list(words)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    return told.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["head-pot"], "no drill is named 'head-pot'; the catalogue has: "),
        (["head-pod", "--set", "path"], "write NAME=VALUE"),
        (["head-pod", "--set", "pat=/x"], "has no value pat; it has: path"),
        (["head-pod", "--header", "Authorization=secret"], "the value itself belongs into a Secret"),
        (["head-pod", "--requests", "openai"], "model has no default: give it a value"),
        (["head-pod", "--requests", "missing.yaml"], "missing.yaml is none of"),
        (["head-pod", "--repeat", "0"], "repeat: Input should be greater than or equal to 1"),
        (["head-pod", "--rate", "0"], "short_per_s: Input should be greater than 0"),
        (["head-pod", "--before", "1"], "before_s: Input should be greater than or equal to 5"),
        (["head-pod", "--against", "nowhere"], "nowhere has no series.json and no evidence.json"),
    ],
)
def test_bad_input_is_refused_before_a_cluster_is_looked_for(capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    assert told in refusal(capsys, "drill", *words, "--kubeconfig", "/nowhere")


def test_a_kubeconfig_or_context_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["lint"], ["undo"], ["drill", "head-pod"]):
        assert "no cluster to look at" in refusal(capsys, *words, "--kubeconfig", "/nowhere")


def test_options_change_the_page_and_nothing_else() -> None:
    options = asked("--rate", "3", "--streams", "5", "--before", "12", "--recovery", "400", "--requests", "openai", "--set", "model=m")
    drill, page = definition(options, requests(options)), definition(asked(), requests(asked()))
    assert (drill.load.short_per_s, drill.load.streams, drill.load.stream_tokens) == (3, 5, page.load.stream_tokens)
    assert (drill.timing.before_s, drill.timing.after_s, drill.slos.max_recovery_s) == (12, page.timing.after_s, 400)
    assert drill.timing.observe_timeout_s == 400, "it is watched as long as it may take"
    assert drill.faults == page.faults


def test_a_service_of_others_has_no_floors_and_no_streams_where_its_requests_have_none() -> None:
    drill = definition(asked(), requests(asked()))
    steady = drill.steady_state
    assert (steady.strict, steady.min_endpoints, steady.min_replicas, steady.min_nodes, steady.answered) == (False, 1, 0, 0, True)
    assert drill.load.streams == 0


def test_the_probe_is_a_short_request_and_there_is_none_where_a_header_is_secret() -> None:
    options = asked("--requests", "openai", "--set", "model=m")
    asked_for = probe(requests(options))
    assert asked_for is not None
    assert (asked_for.method, asked_for.path, asked_for.body["model"], asked_for.body["max_tokens"]) == ("POST", "/v1/completions", "m", 2)
    options = asked("--requests", "openai", "--set", "model=m", "--header", "Authorization=openai-key/token:Bearer ")
    template = requests(options)
    assert template.headers["Authorization"] == FromSecret(secret="openai-key", key="token", prefix="Bearer ")
    assert probe(template) is None
    assert not definition(options, template).steady_state.answered


def test_a_page_may_be_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "mine.yaml"
    page.write_text("{name: mine, title: Worker gone, description: One worker is deleted., fault: {kind: delete-pod, of: worker}}")
    options = command.parser().parse_args(["drill", str(page), "--repeat", "4", "--graces", "in-turn"])
    assert definition(options, requests(options)).faults[0].describe().startswith("delete-pod of the worker")
    assert (options.repeat, options.graces) == (4, "in-turn")
    page.write_text("{name: mine, title: Nothing, description: What nobody knows., fault: {kind: meteor}}")
    assert "meteor" in refusal(capsys, "drill", str(page), "--kubeconfig", "/nowhere")
    page.write_text("{name: [")
    assert "is no YAML" in refusal(capsys, "drill", str(page), "--kubeconfig", "/nowhere")
    page.write_text("name: mine", encoding="utf-16")
    assert "is no YAML" in refusal(capsys, "drill", str(page), "--kubeconfig", "/nowhere")
    page.write_text(WORKER + "fualts: []\n")
    assert "fualts: Extra inputs are not permitted" in refusal(capsys, "drill", str(page), "--kubeconfig", "/nowhere")
    page.write_text("- a\n")
    assert "mine.yaml" in refusal(capsys, "drill", str(page), "--kubeconfig", "/nowhere")


@pytest.mark.parametrize("words", [("rbac",), ("drill", "-n", "models", "--service", "chat")])
def test_a_surge_is_refused_because_nothing_says_how_large_the_service_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\ntitle: More\ndescription: The load doubles.\nfaults:\n  - kind: surge\n")
    assert "only the flow `surge` makes" in refusal(capsys, words[0], str(tmp_path / "mine.yaml"), *words[1:])


def test_a_page_and_requests_may_come_from_windows(tmp_path: Path) -> None:
    page, asked_for = tmp_path / "mine.yaml", tmp_path / "requests.yaml"
    page.write_bytes(b"\xef\xbb\xbf" + WORKER.replace("\n", "\r\n").encode())
    asked_for.write_bytes(b"\xef\xbb\xbf" + (PRESETS / "plain.yaml").read_bytes().replace(b"\n", b"\r\n"))
    options = command.parser().parse_args(["drill", str(page), "--requests", str(asked_for)])
    assert definition(options, requests(options)).faults == Drill.from_yaml(WORKER).faults
    assert requests(options).as_sent() == Template.of("plain").as_sent()


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        command.main(["--version"])
    assert re.fullmatch(r"leeward \d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize(("unbuffered", "code"), [("", 0), ("1", 141)])
def test_output_whose_reader_is_gone_ends_without_a_word(unbuffered: str, code: int) -> None:
    # What fits into the buffer is written after the command has done its work, and lost.
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        command = [sys.executable, "-m", "drills", "rbac", "head-pod"]
        done = subprocess.run(command, env=environment, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.parametrize("page", catalogue())
def test_the_printed_roles_have_the_rights_of_every_drill_and_of_this_fault(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["rbac", page, "-n", "models", "--account", "ci"]) == 0
    account, *objects = yaml.safe_load_all(capsys.readouterr().out)
    assert (account["kind"], account["metadata"]) == ("ServiceAccount", {"name": "ci", "namespace": "models"})
    roles = {thing["kind"]: thing for thing in objects}
    rights = {(rule["apiGroups"][0], rule["resources"][0]): set(rule["verbs"]) for rule in roles["Role"]["rules"]}
    assert len(rights) == len(roles["Role"]["rules"]), "each resource has one rule"
    for rule in EVERY_DRILL:
        assert set(rule.verbs) <= rights[rule.group, rule.resource]
    assert roles["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": "ci", "namespace": "models"}]
    assert roles["RoleBinding"]["roleRef"]["name"] == roles["Role"]["metadata"]["name"]
    of_the_cluster = "node" in page or "operator" in page
    assert ("ClusterRole" in roles) == of_the_cluster, "only nodes and the operator are matters of the whole cluster"
    if page == "head-pod":
        assert "delete" in rights["", "pods"]
        assert ("", "pods/exec") not in rights
        assert ("", "secrets") not in rights


def test_rays_own_token_is_one_secret_of_the_role_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["rbac", "head-pod", "--ray-token", "ray-token"]) == 0
    (role,) = (thing for thing in yaml.safe_load_all(capsys.readouterr().out) if thing["kind"] == "Role")
    (rule,) = (rule for rule in role["rules"] if "secrets" in rule["resources"])
    assert (rule["resourceNames"], rule["verbs"]) == (["ray-token"], ["get"])

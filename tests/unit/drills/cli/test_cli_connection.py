"""The kubeconfig of a command is understood as kubectl does, and what is wrong with it is said before a cluster is asked."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.config import kube_config
from kubernetes_server import Server, serving

from drills.cli import main as command
from drills.cli.connection import connect
from drills.kubernetes.api import Api, Unavailable
from localcloud.machine.pki import Authority

ASK = "/api/v1/namespaces/models/pods"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as (found, _):
        yield found


def kubeconfig(file: Path, url: str, name: str = "prod", user: dict[str, Any] | None = None, **cluster: str) -> Path:
    """Write a kubeconfig with one context, whose cluster and user are called alike."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": url, **cluster}}],
        "users": [{"name": name, "user": {"token": "t"} if user is None else user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "models"}}],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content))
    return file


def plugin(folder: Path, code: str, **more: str) -> dict[str, Any]:
    """Return a user whose credentials come from this Python program."""
    (folder / "get-token.py").write_text(code)
    version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": version, "command": sys.executable, "args": [str(folder / "get-token.py")], **more}}


def credentials(**status: str) -> str:
    """Return the program of a plug-in that answers with that status."""
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"print({json.dumps(json.dumps(answer))})"


def connected(*words: str) -> tuple[Api, command.argparse.Namespace]:
    options = command.parser().parse_args(["undo", *words])
    return connect(options), options


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must be refused; return its one line on standard error."""
    assert command.main(["undo", *words]) == 2
    told = capsys.readouterr()
    assert (told.out, len(told.err.splitlines())) == ("", 1), told.err
    return told.err


def test_context_and_namespace_are_those_of_the_kubeconfig_unless_they_are_given(server: Server, tmp_path: Path) -> None:
    file = str(kubeconfig(tmp_path / "config", server.url))
    api, options = connected("--kubeconfig", file)
    assert (options.context, options.namespace) == ("prod", "models")
    assert api.items(ASK) == []
    assert server.headers[-1]["authorization"] == "Bearer t"
    assert connected("--kubeconfig", file, "-n", "mine")[1].namespace == "mine"


@pytest.mark.parametrize("first", ["prod", "test"])
def test_of_several_files_the_first_ones_context_is_the_current_one(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    files = {name: str(kubeconfig(tmp_path / name / "config", f"{server.url}/{name}", name)) for name in ("prod", "test")}
    both = os.pathsep.join([files[first], str(tmp_path / "missing"), *(file for name, file in files.items() if name != first)])
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", both)
    api, options = connected()
    assert options.context == first
    api.items("/pods")
    assert server.requests[-1][1] == f"/{first}/pods"
    assert connected("--context", "test")[1].context == "test"


def test_paths_in_a_kubeconfig_begin_at_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path / "there" / "pki", "ca")
    served = authority.server("server", "server", ["127.0.0.1"])
    both = tmp_path / "both.pem"
    both.write_bytes(served.certificate.read_bytes() + served.key.read_bytes())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with serving(tls=both) as (found, _):
        kubeconfig(tmp_path / "there" / "config", found.url, **{"certificate-authority": "pki/ca.crt"})
        assert connected("--kubeconfig", "../there/config")[0].items(ASK) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("[", "is no kubeconfig"),
        ("- a", "is no kubeconfig"),
        ("{}", "no current context"),
        ("{current-context: prod}", "no context 'prod' in"),
        ("{current-context: a, contexts: [{name: a, context: {cluster: b}}]}", "b"),
    ],
)
def test_what_is_no_kubeconfig_is_refused_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, told: str
) -> None:
    (tmp_path / "config").write_text(content)
    error = refusal(capsys, "--kubeconfig", str(tmp_path / "config"))
    assert "no cluster to look at: " in error
    assert told in error


def test_a_file_or_context_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"there is no file {tmp_path}/config" in refusal(capsys, "--kubeconfig", str(tmp_path / "config"))
    file = kubeconfig(tmp_path / "config", "http://127.0.0.1:1")
    assert "no context 'prd' in" in (error := refusal(capsys, "--kubeconfig", str(file), "--context", "prd"))
    assert error.endswith("; there are: prod\n")


def test_a_plug_in_gives_the_credentials(server: Server, tmp_path: Path) -> None:
    file = kubeconfig(tmp_path / "config", server.url, user=plugin(tmp_path, credentials(token="from-plug-in")))
    connected("--kubeconfig", str(file))[0].items(ASK)
    assert server.headers[-1]["authorization"] == "Bearer from-plug-in"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.exit('the session has expired, log in again')", "the session has expired, log in again (see the wiki)"),
        ("print('hello')", "failed to decode process output"),
        (credentials(), "missing token or clientCertificateData"),
    ],
)
def test_a_plug_in_that_gives_no_credentials_is_named_with_what_it_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str, told: str
) -> None:
    file = kubeconfig(tmp_path / "config", "https://127.0.0.1:1", user=plugin(tmp_path, code, installHint="see\nthe wiki"))
    error = refusal(capsys, "--kubeconfig", str(file))
    assert f"the plug-in {sys.executable} of user prod gave no credentials: " in error
    assert told in error


def test_a_plug_in_that_is_not_installed_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plug-in"}}
    error = refusal(capsys, "--kubeconfig", str(kubeconfig(tmp_path / "config", "https://127.0.0.1:1", user=user)))
    assert "the plug-in no-such-plug-in of user prod gave no credentials: " in error
    assert "No such file or directory" in error


def test_a_plug_in_that_fails_later_is_tried_again_as_an_api_server_that_does_not_answer(server: Server, tmp_path: Path) -> None:
    user = plugin(tmp_path, credentials(token="old", expirationTimestamp="2020-01-01T00:00:00Z"))
    api, _ = connected("--kubeconfig", str(kubeconfig(tmp_path / "config", server.url, user=user)))
    plugin(tmp_path, "import sys; sys.exit('no network')")
    with pytest.raises(Unavailable, match="no network"):
        api.items(ASK)
    plugin(tmp_path, credentials(token="new"))
    api.items(ASK)
    assert server.headers[-1]["authorization"] == "Bearer new"

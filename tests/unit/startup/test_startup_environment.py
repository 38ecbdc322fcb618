"""The environment of our programs: the user's, without what is meant for programs of the user's own."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud import settings
from startup import environment

ROOT = Path(__file__).resolve().parents[3]
STRANGE = {
    "GO111MODULE": "off", "GOTOOLCHAIN": "go1.22.0", "GOFLAGS": "-mod=vendor", "GOROOT": "/nowhere", "GOARCH": "wasm",
    "HELM_DEBUG": "1", "HELM_PLUGINS": "/nowhere", "PIP_USER": "1", "PIP_TARGET": "/nowhere", "UV_PROJECT_ENVIRONMENT": "/nowhere",
    "AWS_PROFILE": "production", "AWS_ENDPOINT_URL": "http://localhost:1", "PREFECT_PROFILE": "cloud", "PREFECT_API_KEY": "secret",
    "KUBECONFIG": "/nowhere", "PYTHONPATH": "/nowhere", "PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "error", "TF_CLI_ARGS": "-no-color",
    "TF_VAR_name": "other", "BUILDAH_ISOLATION": "oci", "STORAGE_DRIVER": "vfs", "DOCKER_HOST": "tcp://1.2.3.4:5",
    "LD_PRELOAD": "/nowhere.so",
    "TMPDIR": "/nowhere", "CDPATH": "/tmp", "OPENAI_API_KEY": "secret", "VIRTUAL_ENV": "/nowhere",
}  # fmt: skip
NEEDED = {
    "LANG": "de_DE.ISO-8859-1", "LC_CTYPE": "C.UTF-8", "SSL_CERT_FILE": "/ca.pem", "AWS_CA_BUNDLE": "/ca.pem", "NETRC": "/root/.netrc",
    "PIP_INDEX_URL": "https://pypi.example/simple", "PIP_FIND_LINKS": "/wheels", "UV_DEFAULT_INDEX": "https://pypi.example/simple",
    "UV_INDEX_MINE_PASSWORD": "secret", "UV_INSECURE_HOST": "pypi.example", "GOPROXY": "https://go.example", "GOMODCACHE": "/cache/go",
    "XDG_CACHE_HOME": "/cache", "TF_CLI_CONFIG_FILE": "/root/.terraformrc", "LEEWARD_LOCK": "/tmp/lock", "TERM": "xterm",
}  # fmt: skip
ALONE = {"HOME": "/root", "PATH": "/usr/bin"}


def test_settings_of_the_users_own_programs_are_dropped() -> None:
    made = environment.own({**ALONE, **STRANGE})
    assert {name: made[name] for name in STRANGE.keys() & made.keys()} == {"PIP_USER": "0"}


def test_who_where_and_whence_is_kept() -> None:
    made = environment.own({**ALONE, **NEEDED})
    assert {name: made.get(name) for name in NEEDED} == NEEDED


@pytest.mark.parametrize("given", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_without_a_usable_home_it_is_the_one_of_etc_passwd(given: dict[str, str]) -> None:
    assert environment.own(given)["HOME"] == pwd.getpwuid(os.getuid()).pw_dir


def test_a_path_without_the_folders_of_the_system_gets_them_last_and_loses_relative_ones() -> None:
    assert environment.own({"HOME": "/root", "PATH": ".:/opt/bin::/usr/bin"})["PATH"].split(":")[:3] == [
        "/opt/bin",
        "/usr/bin",
        "/usr/local/sbin",
    ]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_with_a_proxy_this_machine_and_the_cloud_are_excepted_from_it(variable: str) -> None:
    made = environment.own({**ALONE, variable: "http://proxy.example:3128", "NO_PROXY": "intranet.example, 127.0.0.1"})
    assert made[variable] == "http://proxy.example:3128"
    assert made["NO_PROXY"] == made["no_proxy"]
    assert {"intranet.example", "127.0.0.1", settings.AWS_HOST, settings.API_SERVER_HOST, "10.213.0.0/16"} <= set(
        made["NO_PROXY"].split(",")
    )


def test_without_a_proxy_no_exception_is_made() -> None:
    assert not {"NO_PROXY", "no_proxy"} & environment.own(ALONE).keys()


@pytest.mark.parametrize(("umask", "expected"), [("000", "022"), ("022", "022"), ("077", "077"), ("777", "077")])
def test_files_can_be_read_by_their_owner_and_written_by_no_other(umask: str, expected: str) -> None:
    code = "import startup, os; startup.begin(); print(f'{os.umask(0):03o}')"
    done = subprocess.run(
        ["bash", "-c", f'umask {umask}; exec "$0" -c "$1"', sys.executable, code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == expected


def test_a_go_gets_the_users_sources_of_modules_also_those_of_its_own_settings_and_nothing_else(tmp_path: Path) -> None:
    """A stand-in for `go` that answers `go env -json` as Go does, from the file that `go env -w` writes."""
    go = tmp_path / "go"
    go.write_text('#!/bin/sh\ncat <<EOF\n{"GOPROXY": "https://go.example", "GOPRIVATE": "", "GOMODCACHE": "$HOME/go/pkg/mod"}\nEOF\n')
    go.chmod(0o755)
    made = environment.for_go(go, {**ALONE, **STRANGE})
    assert {name: value for name, value in made.items() if name.startswith("GO")} == {
        "GOPROXY": "https://go.example", "GOMODCACHE": "/root/go/pkg/mod",
        "GOENV": "off", "GO111MODULE": "on", "GOTOOLCHAIN": "auto", "GOWORK": "off", "GOFLAGS": "",
    }  # fmt: skip
    assert json.dumps(made)

"""terraform/ itself: its form, its own tests, and what the rest of the project takes for granted about it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from blocks.parameters import NAME_MAX, NAME_PATTERN, Infrastructure
from tasks.support.paths import ROOT
from tasks.terraform import commands
from tasks.terraform.mirror import cli_config

_FOLDER = ROOT / "terraform"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """For a terraform that has its provider, and no state."""
    home = tmp_path_factory.mktemp("terraform")
    environment = {**os.environ, "TF_DATA_DIR": str(home / "data"), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
    config = cli_config(home)
    if config is not None:
        environment["TF_CLI_CONFIG_FILE"] = str(config)
    _terraform(environment, "init", "-backend=false", "-input=false", "-lockfile=readonly")
    return environment


def _terraform(environment: dict[str, str], *arguments: str) -> str:
    command = ["terraform", arguments[0], "-no-color", *arguments[1:]]
    ended = subprocess.run(command, cwd=_FOLDER, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def test_the_files_are_formatted(environment: dict[str, str]) -> None:
    _terraform(environment, "fmt", "-check", "-recursive", "-diff")


def test_the_configuration_is_valid(environment: dict[str, str]) -> None:
    _terraform(environment, "validate")


def test_its_own_tests_pass(environment: dict[str, str]) -> None:
    said = _terraform(environment, "test")
    found = re.search(r"Success! (\d+) passed, 0 failed\.", said)
    assert found, said
    assert int(found[1]) == sum(path.read_text().count('\nrun "') for path in (_FOLDER / "tests").glob("*.tftest.hcl"))


def test_the_provider_is_pinned_by_hash_for_every_platform() -> None:
    lock = (_FOLDER / ".terraform.lock.hcl").read_text()
    pinned = re.search(r'version\s+= "([\d.]+)"\n\s+constraints = "([\d.]+)"', lock)
    assert pinned
    assert pinned[1] == pinned[2]
    assert "h1:" in lock, "of the unpacked provider of linux_amd64, which a mirror has"
    # One of the archive of each platform: AWS's provider comes for freebsd, linux, macOS, openbsd and windows.
    assert len(set(re.findall(r'"zh:[0-9a-f]{64}"', lock))) == 15


def test_nothing_points_at_an_endpoint_or_skips_a_check() -> None:
    text = "".join(path.read_text() for path in _FOLDER.glob("*.tf"))
    assert re.findall(r"endpoints\s*{|skip_[a-z_]+\s*=|s3_use_path_style", text) == []


def test_names_are_refused_by_the_same_rule_as_in_the_forms() -> None:
    text = _variables()
    assert f'regex("{NAME_PATTERN}", var.name)' in text
    assert f"length(var.name) <= {NAME_MAX}" in text


def test_what_the_forms_give_are_variables_of_the_configuration() -> None:
    given = set(Infrastructure().terraform_variables())
    known = set(re.findall(r'^variable "(\w+)"', _variables(), flags=re.MULTILINE))
    assert given - known == set()


@pytest.mark.parametrize("nodes", ["core_nodes", "inf2_nodes"])
def test_what_the_forms_ask_of_nodes_has_the_same_defaults_here(nodes: str) -> None:
    block = _variables().partition(f'variable "{nodes}"')[2].partition("\n}\n")[0]
    declared = re.findall(r"(\w+) += optional\([\w()]+, (.+)\)", block)
    assert {name: json.loads(default) for name, default in declared} == Infrastructure().terraform_variables()[nodes]


def _variables() -> str:
    return Path(_FOLDER, "variables.tf").read_text()


def test_a_long_tmpdir_does_not_keep_terraform_from_its_plug_ins(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plug-ins have Unix sockets in it, whose paths the kernel limits to 107 bytes."""
    long = tmp_path / ("long" * 25)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    made = commands._environment(commands.Workspace(tmp_path, {}, {}))
    _terraform({**made, "TF_DATA_DIR": environment["TF_DATA_DIR"]}, "validate")

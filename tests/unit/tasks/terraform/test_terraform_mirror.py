"""The provider comes from a mirror on the machine, or else is downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.terraform.mirror import cli_config, mirror


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user without Terraform settings."""
    (tmp_path / "user").mkdir()
    return {"HOME": str(tmp_path / "user"), "XDG_DATA_DIRS": str(tmp_path / "share")}


def _provider(folder: Path) -> Path:
    (folder / "registry.terraform.io/hashicorp/aws/5.100.0").mkdir(parents=True)
    return folder


def test_a_folder_under_opt_that_holds_the_provider_is_found(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "opt/other").mkdir(parents=True)
    expected = _provider(tmp_path / "opt/plugins")
    assert mirror(environment=environment, opt=tmp_path / "opt") == expected


@pytest.mark.parametrize("folder", ["user/.terraform.d/plugins", "user/.local/share/terraform/plugins", "share/terraform/plugins"])
def test_terraforms_own_folders_come_first(environment: dict[str, str], tmp_path: Path, folder: str) -> None:
    _provider(tmp_path / "opt/plugins")
    expected = _provider(tmp_path / folder)
    assert mirror(environment=environment, opt=tmp_path / "opt") == expected


def test_a_mirror_without_the_provider_is_not_used(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "opt/plugins/registry.terraform.io/hashicorp/random").mkdir(parents=True)
    assert mirror(environment=environment, opt=tmp_path / "opt") is None


def test_the_mirror_is_used_only_for_the_aws_provider(environment: dict[str, str], tmp_path: Path) -> None:
    found = _provider(tmp_path / "user/.terraform.d/plugins")
    text = str(_config(tmp_path, environment).read_text())
    assert f'path    = "{found}"' in text
    assert text.count('"registry.terraform.io/hashicorp/aws"') == 2


def test_without_a_mirror_downloads_are_shared_between_targets(environment: dict[str, str], tmp_path: Path) -> None:
    path = cli_config(tmp_path, "nobody/nothing", environment)
    assert path is not None
    cache = tmp_path / "user/.cache/leeward/terraform-providers"
    assert path.read_text() == f'plugin_cache_dir = "{cache}"\n'
    assert cache.is_dir()


def test_a_configuration_file_of_the_user_is_used(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "user/.terraformrc").write_text("")
    assert cli_config(tmp_path, environment=environment) is None


def test_a_variable_that_names_a_missing_configuration_file_is_ignored(environment: dict[str, str], tmp_path: Path) -> None:
    assert _config(tmp_path, environment | {"TF_CLI_CONFIG_FILE": str(tmp_path / "missing")}).exists()
    (tmp_path / "there").write_text("")
    assert cli_config(tmp_path, environment=environment | {"TF_CLI_CONFIG_FILE": str(tmp_path / "there")}) is None


def _config(home: Path, environment: dict[str, str]) -> Path:
    path = cli_config(home, environment=environment)
    assert path is not None
    return path

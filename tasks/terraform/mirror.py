"""Where Terraform takes its providers from: a mirror on this machine, or else Terraform's registry.

Terraform knows a few folders by itself, and a configuration file may name others; a machine without a way
to the registry often has the providers in a folder of its own under /opt. A configuration file of the user is
left as it is. Without one, a private file is written for our runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

AWS = "hashicorp/aws"
_REGISTRY = "registry.terraform.io"


def cli_config(home: Path, provider: str = AWS, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The configuration file that TF_CLI_CONFIG_FILE should name, or None if the user has one.

    Args:
        home: Private folder to write the file to.
        provider: The provider that is needed.
        environment: Used instead of the process's own.
    """
    if _users_own(environment):
        return None
    path = home / "terraform.rc"
    path.write_text(_contents(mirror(provider, environment), provider, _plugin_cache(environment)))
    return path


def mirror(provider: str = AWS, environment: Mapping[str, str] = os.environ, opt: Path = Path("/opt")) -> Path | None:
    """The first folder that holds `provider` in Terraform's layout, or None."""
    return next((folder for folder in _candidates(environment, opt) if (folder / _REGISTRY / provider).is_dir()), None)


def _users_own(environment: Mapping[str, str]) -> bool:
    """Whether the user has a configuration file. A variable that names a missing file does not count."""
    named = environment.get("TF_CLI_CONFIG_FILE")
    if named:
        return Path(named).is_file()
    return (_home(environment) / ".terraformrc").is_file()


def _candidates(environment: Mapping[str, str], opt: Path) -> Iterable[Path]:
    """Terraform's implied mirrors, then every folder right under `opt`."""
    home = _home(environment)
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local/share")
    yield home / ".terraform.d/plugins"
    yield data / "terraform/plugins"
    for shared in (environment.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":"):
        yield Path(shared) / "terraform/plugins"
    yield from sorted(opt.glob("*")) if opt.is_dir() else ()


def _plugin_cache(environment: Mapping[str, str]) -> Path:
    """The folder for downloaded providers: one copy (700 MB) for all stacks."""
    cache = Path(environment.get("XDG_CACHE_HOME") or _home(environment) / ".cache")
    folder = cache / "leeward" / "terraform-providers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or Path.home())


def _contents(found: Path | None, provider: str, cache: Path) -> str:
    if found is None:
        return f"plugin_cache_dir = {json.dumps(str(cache))}\n"
    name = json.dumps(f"{_REGISTRY}/{provider}")
    return (
        "provider_installation {\n"
        f"  filesystem_mirror {{\n    path    = {json.dumps(str(found))}\n    include = [{name}]\n  }}\n"
        f"  direct {{\n    exclude = [{name}]\n  }}\n"
        "}\n"
    )

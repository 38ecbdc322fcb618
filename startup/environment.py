"""The environment of every program that the project starts: of the user's variables only those that say who, where and whence.

Kept are paths, language, proxies, certificates, and where packages come from. Anything else is a setting of the user's own programs
(Go, Helm, pip, the AWS and Prefect command lines, Python itself) and would change, or break, what ours do.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from localcloud import settings

GO_SOURCES = (
    *("GOPROXY", "GONOPROXY", "GOPRIVATE", "GOSUMDB", "GONOSUMDB", "GOINSECURE", "GOAUTH", "GOVCS"),
    *("GOPATH", "GOMODCACHE", "GOCACHE"),
)
"""Settings of Go that say where modules come from and where they are kept. No other one of the user's reaches a `go` of ours."""

_GO_ALONE = {"GO111MODULE": "on", "GOTOOLCHAIN": "auto", "GOWORK": "off", "GOFLAGS": ""}

KEPT = re.compile(
    r"""
    PATH | HOME | USER | LOGNAME | SHELL | TERM | COLORTERM | NO_COLOR | TZ | LANG | LANGUAGE | LC_\w+ | CI | DEBIAN_FRONTEND
    | XDG_(CACHE|CONFIG|DATA|STATE)_HOME | XDG_DATA_DIRS | XDG_RUNTIME_DIR | TMPDIR | NETRC | APT_CONFIG
    | (HTTPS?|ALL|NO)_PROXY | \w*(SSL|CERT|CA_BUNDLE|CAINFO|CA_CERTS|ROOTS_FILE)\w*
    | PIP_(\w*(INDEX|HOST|TIMEOUT|CACHE)\w* | FIND_LINKS | PROXY | RETRIES | CONFIG_FILE | KEYRING_PROVIDER | DISABLE_PIP_VERSION_CHECK)
    | UV | UV_(\w*(INDEX|HOST|TIMEOUT|CACHE|TLS)\w* | FIND_LINKS | CONFIG_FILE | KEYRING_PROVIDER | OFFLINE | LINK_MODE | CONCURRENT_\w+)
    | TF_CLI_CONFIG_FILE | PYTHONDONTWRITEBYTECODE | PYTEST_\w+ | LEEWARD_\w+
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Names of the variables that are kept, beside GO_SOURCES."""
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Folders of programs that are searched last; `su` and cron leave out those with `ip` and `iptables`."""
NEVER_BY_PROXY = (
    *("127.0.0.1", "localhost", "::1"),
    *(settings.AWS_HOST, settings.API_SERVER_HOST, settings.REGISTRY_HOST),
    *settings.CLAIMED_NETWORKS,
)
"""Addresses for NO_PROXY: this machine and its cloud. Some by themselves, because many libraries do not understand networks there."""


def own(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of our programs, made from the user's."""
    kept = {name: value for name, value in environment.items() if KEPT.fullmatch(name) or name in GO_SOURCES}
    if not _is_usable(kept.get("TMPDIR", "")):
        kept.pop("TMPDIR", None)
    search = [folder for folder in kept.get("PATH", "").split(os.pathsep) if folder.startswith("/")]
    return {
        **without_proxy(kept),
        "HOME": home(environment),
        "PATH": os.pathsep.join(dict.fromkeys([*search, *SYSTEM_FOLDERS])),
        "PYTHONUTF8": "1",  # files are UTF-8 whatever the locale is
        **no_pip_surprises(),
    }


def _is_usable(folder: str) -> bool:
    return folder.startswith("/") and os.path.isdir(folder) and os.access(folder, os.W_OK)


def adopt() -> None:
    """Make `own` the environment of this process, and see to it that files of ours can be read and not changed by others."""
    mine = own(os.environ)
    os.environ.clear()
    os.environ.update(mine)
    os.umask((os.umask(0o022) | 0o022) & 0o077)


def home(environment: Mapping[str, str]) -> str:
    """Return the home folder: HOME, or where there is none (cron, systemd, containers) the user's in /etc/passwd."""
    given = environment.get("HOME", "")
    if given.startswith("/"):
        return given
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        raise SystemExit(f"HOME is not set, and user {os.getuid()} is not in /etc/passwd: set HOME to a folder of yours") from None


def without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with this machine and its cloud excepted from its proxies, if it has any."""
    proxied = any(value and name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name, value in environment.items())
    if not proxied:
        return dict(environment)
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    excepted = ",".join(dict.fromkeys([*filter(None, given.replace(" ", "").split(",")), *NEVER_BY_PROXY]))
    return {**environment, "NO_PROXY": excepted, "no_proxy": excepted}


def no_pip_surprises() -> dict[str, str]:
    """Return variables that win over a pip.conf which asks for other places than those that we name."""
    return {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_NO_INPUT": "1"}


def for_go(go: str | Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for that `go`: the user's, with the sources of modules, and without any other setting of Go.

    Settings of `go env -w` count as the user's, too: Go is asked for the sources, and then told not to read that file. One that is too
    old for a module fetches a newer toolchain, as it does by default; what is compiled sets another GOTOOLCHAIN.
    """
    with_home = {**environment, "HOME": home(environment)}
    asked = subprocess.run(
        [str(go), "env", "-json", *GO_SOURCES],
        capture_output=True, text=True, timeout=60, check=False, env={**with_home, **_GO_ALONE, "GOTOOLCHAIN": "local", "GOROOT": ""},
    )  # fmt: skip
    try:
        sources = {name: value for name, value in json.loads(asked.stdout).items() if value}
    except ValueError:  # an old Go, or none: it says so itself when it is used
        sources = {}
    others = {name: value for name, value in with_home.items() if not name.startswith(("GO", "CGO_"))}
    return {**others, **sources, **_GO_ALONE, "GOENV": "off"}

"""The real `go` in our environment: no setting of the user counts but where modules come from, be it of the shell or by `go env -w`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from shutil import which

import pytest

from startup import environment

pytestmark = pytest.mark.skipif(which("go") is None, reason="there is no go on the PATH")

STRANGE = {"GO111MODULE": "off", "GOTOOLCHAIN": "go1.22.0", "GOFLAGS": "-mod=vendor", "GOROOT": "/nowhere", "GOARCH": "wasm", "GOOS": "js"}
WANTED = {"GO111MODULE": "on", "GOFLAGS": "", "GOWORK": "off", "GOTOOLCHAIN": "auto", "GOOS": "linux"}


def go(variables: dict[str, str], *arguments: str) -> str:
    return subprocess.run(["go", *arguments], env=variables, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.parametrize("persistent", [False, True], ids=["in the shell", "by go env -w"])
def test_the_users_settings_of_go_change_only_where_modules_come_from(tmp_path: Path, persistent: bool) -> None:
    plain = {"PATH": environment.own({})["PATH"] + ":/usr/local/go/bin", "HOME": str(tmp_path)}
    if persistent:
        file = tmp_path / ".config/go/env"
        file.parent.mkdir(parents=True)
        lasting = {name: value for name, value in STRANGE.items() if name not in ("GOROOT",)}
        file.write_text("".join(f"{name}={value}\n" for name, value in {**lasting, "GOPROXY": "https://go.example"}.items()))
    given = plain if persistent else {**plain, **STRANGE, "GOPROXY": "https://go.example"}
    made = environment.for_go("go", given)
    found = json.loads(go(made, "env", "-json", *WANTED, "GOPROXY", "GOROOT"))
    assert {name: found[name] for name in WANTED} == WANTED
    assert found["GOPROXY"] == "https://go.example"
    assert Path(found["GOROOT"]).is_dir()


def test_without_a_home_go_finds_its_caches() -> None:
    made = environment.for_go("go", {"PATH": environment.own({})["PATH"] + ":/usr/local/go/bin"})
    assert json.loads(go(made, "env", "-json", "GOMODCACHE"))["GOMODCACHE"].endswith("/pkg/mod")

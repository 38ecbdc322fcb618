"""The embedded cloud, from outside: its command line is all that the demo and the tests know of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from scripts.steps import Step, run
from scripts.support.console import Console
from scripts.support.paths import LOGS, PYTHON, ROOT


class CloudError(RuntimeError):
    """A `localcloud` command failed; the text holds what it said."""


class Endpoint(dict[str, str]):
    """What `localcloud env --json` says: address, credentials, images. Holds secrets, so it does not print itself."""

    def __repr__(self) -> str:
        return f"Endpoint({self.get('endpoint_url')})"


def command(*arguments: str) -> list[str]:
    """The command line of `localcloud`, by the locked environment when there is one."""
    return [str(PYTHON) if PYTHON.exists() else sys.executable, "-m", "localcloud", *arguments]


def up() -> Step:
    """The step after which the AWS endpoint answers. The cloud outlives it."""
    return Step("cloud", command("up"), contained=False, says_its_name="up ", within_s=300)


def down(console: Console) -> None:
    """Nothing of the cloud is left, whatever state it was in; raises StepFailed with what is."""
    run([Step("down", command("down"), contained=False, says_its_name="down ", within_s=300)], LOGS, console)


def endpoint() -> Endpoint:
    """Address and credentials of the running cloud; raises CloudError when there is none."""
    done = _ask("env", "--json")
    if done.returncode:
        raise CloudError(f"`localcloud env` failed (exit code {done.returncode}): {done.stderr.strip()[-800:]}")
    return Endpoint(json.loads(done.stdout))


def running() -> bool:
    """Whether a cloud is up, coming up, or ailing."""
    done = _ask("status", "--json")
    try:
        told = json.loads(done.stdout)
    except ValueError:
        raise CloudError(f"`localcloud status` said nothing readable: {(done.stderr or done.stdout).strip()[-500:]}") from None
    return bool(told["up"] or told.get("wrong"))


def built(artifact: str) -> Path:
    """Where an artefact of `localcloud build` is; raises CloudError when it is not built."""
    code = f"from localcloud.build.artifacts import artifacts; print(artifacts().{artifact})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise CloudError(f"no {artifact}: {done.stderr.strip().splitlines()[-1]}")
    return Path(done.stdout.strip())


def _ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired as error:
        raise CloudError(f"`localcloud {' '.join(arguments)}` did not answer within 60 s") from error

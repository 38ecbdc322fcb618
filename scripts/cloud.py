"""The embedded cloud as the demo and the tests start, ask and end it: by its command line."""

from __future__ import annotations

import json
import subprocess
import sys

from scripts.steps import Step, run
from scripts.support.console import Console
from scripts.support.paths import LOGS, PYTHON, ROOT
from scripts.support.processes import output_of


class CloudError(RuntimeError):
    """A `localcloud` command failed; the text holds its output."""


class Endpoint(dict[str, str]):
    """The output of `localcloud env --json`: address, credentials, images. It holds secrets, so its repr shows the address only."""

    def __repr__(self) -> str:
        return f"Endpoint({self.get('endpoint_url')})"


def command(*arguments: str) -> list[str]:
    """Return the command line of `localcloud`, with the locked environment's interpreter when there is one."""
    return [str(PYTHON) if PYTHON.exists() else sys.executable, "-m", "localcloud", *arguments]


def up_step() -> Step:
    """Return the step after which the AWS endpoint answers. The cloud goes on running when the step ends."""
    return Step("cloud", command("up"), contained=False, own_prefix="up ", timeout_s=300)


def down(console: Console) -> None:
    """Take the cloud down from any state; raises StepFailed with what could not be removed."""
    run([Step("down", command("down"), contained=False, own_prefix="down ", timeout_s=300)], LOGS, console)


def endpoint() -> Endpoint:
    """Return address and credentials of the running cloud; raises CloudError when there is none."""
    return Endpoint(json.loads(output_of(command("env", "--json"), lambda reason: CloudError(f"`localcloud env` failed: {reason}"))))


def running() -> bool:
    """Whether a cloud is up, starting, or unhealthy."""
    try:
        # The exit code is 1 when no cloud is up; the answer is in the output.
        done = subprocess.run(command("status", "--json"), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        status = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise CloudError("`localcloud status` did not answer within 60 s") from None
    except ValueError:
        raise CloudError(f"`localcloud status` printed no JSON: {(done.stderr or done.stdout).strip()[-500:]}") from None
    return bool(status["up"] or status.get("wrong"))

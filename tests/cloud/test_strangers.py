"""`leeward` on services that Leeward did not deploy: lint, dry run, drill, each as an account with the printed rights alone."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import strangers
from system_under_test import System

from scripts.support.paths import PYTHON, ROOT

WITHIN_S = 900
SHORT = ("--before", "10", "--after", "10", "--rate", "4", "--streams", "4", "--tokens", "20")


@dataclass(frozen=True)
class Stranger:
    """A folder of tests/strangers, and what is known of the service in it."""

    name: str
    service: str
    requests: tuple[str, ...]
    breaks: frozenset[str]
    """Names of the lint rules of severity "breaks" that it breaks."""
    verdict: str
    causes: tuple[str, ...] = ()
    """Parts of the reasons for the verdict."""

    @property
    def namespace(self) -> str:
        """Namespace that it is deployed in."""
        return f"{strangers.PREFIX}{self.name}"


TEXT = Stranger(
    "text",
    "text",
    ("--requests", "plain", "--set", "path=/?text=hello"),
    frozenset(
        {
            "GCS fault tolerance",
            "head out of the serve Service",
            "head takes no work",
            "the head's address stays",
            "two workers or more",
        }
    ),
    "failed",
    ("The only replica of Capitals ran on the head", "The head was the only endpoint", "GCS fault tolerance is off"),
)
SHOP = Stranger("shop", "shop-models", ("--requests", str(strangers.FOLDER / "shop" / "requests.yaml")), frozenset(), "passed")
CHAT = Stranger(
    "chat",
    "chat",
    ("--requests", "openai", "--set", "model=dice-7b", "--header", "Authorization=openai-key/token:Bearer "),
    frozenset(),
    "passed",
)


@dataclass
class Deployed:
    """A service that runs, and an account that may drill it."""

    stranger: Stranger
    kubectl: strangers.Kubectl
    kubeconfig: Path
    folder: Path
    kubectl_command: list[str]
    before: set[str] = field(default_factory=set)
    """Every object of the namespace before the first drill."""

    def leeward(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of leeward on the service to its end."""
        return subprocess.run(self.command(command, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)

    def command(self, command: str, *arguments: str) -> list[str]:
        """Return the command line of leeward for this service."""
        where = ["--kubeconfig", str(self.kubeconfig), "-n", self.stranger.namespace]
        return [str(PYTHON), "-m", "drills", command, *arguments, *where]

    def drill(self, out: str) -> tuple[str, ...]:
        """Return the arguments of a short drill."""
        s = self.stranger
        return ("head-pod", "--break", f"{s.namespace}/{s.service}", "--out", str(self.folder / out), *s.requests, *SHORT)

    def inventory(self) -> set[str]:
        """Return every object of the namespace."""
        return strangers.inventory(self.kubectl, self.stranger.namespace)

    @contextlib.contextmanager
    def heads(self, name: str) -> Iterator[set[str]]:
        """Yield a set that has the UIDs of all head pods once the block has ended: of those there were, and of those that came."""
        found: set[str] = set()
        which = ["-n", self.stranger.namespace, "get", "pods", "-l", "ray.io/node-type=head"]
        command = [*self.kubectl_command, *which, "--watch", "-o", 'jsonpath={.metadata.uid}{"\\n"}']
        with (self.folder / name).open("w+") as seen:
            watch = subprocess.Popen(command, stdout=seen, stderr=subprocess.DEVNULL)
            try:
                yield found
            finally:
                watch.terminate()
                watch.wait()
            seen.seek(0)
            found.update(seen.read().split())

    def head(self) -> str:
        """Return the UID of the head pod."""
        pods = self.kubectl("-n", self.stranger.namespace, "get", "pods", "-l", "ray.io/node-type=head", "-o", "json")
        (pod,) = [p for p in json.loads(pods)["items"] if "deletionTimestamp" not in p["metadata"]]
        return str(pod["metadata"]["uid"])


LONG = [pytest.param(stranger, marks=pytest.mark.long) for stranger in (TEXT, SHOP)]
"""Services for the long run only. `unprotected` shows in every run that a drill of a service like TEXT fails, and why."""


@pytest.fixture(scope="module", params=[CHAT, *LONG], ids=lambda s: s.name)
def deployed(
    request: pytest.FixtureRequest,
    system: System,
    kubectl: strangers.Kubectl,
    images: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployed]:
    """One of the services, running, with an account that has the printed rights alone."""
    stranger, folder = request.param, tmp_path_factory.mktemp(request.param.name)
    with strangers.deployed(kubectl, stranger.name, images) as namespace:
        command = [str(PYTHON), "-m", "drills", "rbac", "head-pod", "-n", namespace]
        rights = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
        found = Deployed(stranger, kubectl, strangers.only(kubectl, namespace, rights, folder), folder, system.kubectl_command())
        found.before = found.inventory()
        yield found


def test_lint_finds_what_is_wrong_and_nothing_else(deployed: Deployed) -> None:
    done = deployed.leeward("lint", "--json")
    found = json.loads(done.stdout)
    assert {f["rule"] for f in found["findings"] if f["severity"] == "breaks"} == deployed.stranger.breaks
    assert done.returncode == int(bool(deployed.stranger.breaks))


def test_a_dry_run_names_the_head_and_touches_nothing(deployed: Deployed) -> None:
    head = deployed.head()
    done = deployed.leeward("drill", "head-pod", "--dry-run", *deployed.stranger.requests)
    assert done.returncode == 0, done.stderr
    assert head in done.stdout
    assert deployed.head() == head
    assert deployed.inventory() == deployed.before


def test_a_drill_without_the_name_of_the_service_is_refused(deployed: Deployed) -> None:
    head = deployed.head()
    done = deployed.leeward("drill", "head-pod", *deployed.stranger.requests)
    assert done.returncode == 2
    assert f"--break {deployed.stranger.namespace}/{deployed.stranger.service}" in done.stderr
    assert deployed.head() == head
    assert deployed.inventory() == deployed.before


def test_a_drill_has_the_right_verdict_and_cause_and_leaves_nothing(deployed: Deployed) -> None:
    stranger, head = deployed.stranger, deployed.head()
    done = deployed.leeward("drill", *deployed.drill("drill"))
    evidence: dict[str, Any] = json.loads((deployed.folder / "drill" / "evidence.json").read_text())
    assert evidence["verdict"] == stranger.verdict, done.stderr + done.stdout
    assert done.returncode == int(stranger.verdict == "failed")
    assert deployed.head() != head
    reasons = " ".join(evidence["why"])
    assert [cause for cause in stranger.causes if cause not in reasons] == [], reasons
    strangers.wait_until_ready(deployed.kubectl, stranger.namespace)
    assert deployed.inventory() == deployed.before


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("deployed", [CHAT], indirect=True, ids=lambda s: s.name)
def test_a_drill_that_is_killed_strikes_once_at_most_and_undo_or_the_next_drill_removes_what_it_left(
    deployed: Deployed, number: int
) -> None:
    undone = number % 2 == 0
    with deployed.heads(f"heads-{number}") as heads:
        _kill(deployed, number, random.Random(number).uniform(2, 60))
        # The next drill takes over as soon as the lock of the killed one has expired.
        done = deployed.leeward("undo") if undone else deployed.leeward("drill", *deployed.drill(f"after-{number}"))
        assert done.returncode == 0, done.stdout + done.stderr
        strangers.wait_until_ready(deployed.kubectl, deployed.stranger.namespace)
    assert len(heads) <= (2 if undone else 3), heads
    assert deployed.inventory() == deployed.before


def _kill(deployed: Deployed, number: int, after_s: float) -> None:
    """Start a drill, and kill it after that time."""
    with (deployed.folder / f"killed-{number}.log").open("w") as log:
        command = deployed.command("drill", *deployed.drill(f"killed-{number}"))
        popen = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        time.sleep(after_s)
        os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()

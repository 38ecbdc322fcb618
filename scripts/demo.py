"""`./demo`: from a bare machine to a verdict, then everything is taken down again."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

import startup
from localcloud.progress import format_seconds
from scripts import setup, stack
from scripts.cloud import CloudError
from scripts.local_access import LocalAccess
from scripts.services.follow import RunLost, RunSnapshot, follow
from scripts.services.prefect_api import ApiError, NotUp
from scripts.services.services import LOG, Services
from scripts.steps import STOP_TIMEOUT_S, StepFailed
from scripts.support.console import Console
from scripts.support.interrupts import Interrupted, Interrupts
from scripts.support.paths import EVIDENCE, PYTHON, ROOT
from scripts.support.processes import Busy, exclusive_lock
from scripts.tools import ToolMissing

DEPLOYMENT = "lifecycle/main"
OBJECT_PARAMETERS = {
    "infrastructure": '{"enable_gcs_ha": false}',
    "service": '{"chat": false}',
    "timing": '{"before_s": 60}',
    "load": '{"streams": 20}',
    "slos": '{"max_recovery_s": 60}',
}
"""The run's parameters that are JSON objects, each with an example."""
PARAMETERS = (
    *OBJECT_PARAMETERS,
    "drill",
    "repeat",
    "graces",
    "stop_at_first_loss",
    "approved",
    "may_replace",
    "approval_within_min",
    "keep",
)
"""The run's parameters that the user may set: all but the target, which is the embedded cloud."""
SPEAKING = {"model": "smollm2"}
"""The service of a demo that stays up: who opens its chat reads sentences."""
LIGHT = {"short_per_s": 2, "streams": 3}
"""The load of its drill, which two cores carry with that model. The tiny one, drilled otherwise, needs almost no processor time."""
MOST_FAULTS = 1000
GRACES = ("own", "in-turn")
CATALOGUE = ROOT / "drills" / "catalogue"
NEXT = {
    "passed": "./demo --no-gcs-fault-tolerance shows the same drill fail; ./demo --keep leaves everything up, to look around and to chat",
    "kept": "ask the model or its chat something, and delete the head meanwhile; the addresses and the command stand below",
    "failed": "open the report: first the reasons, then the picture; debug/ beside it has pods, events and logs (docs/drills.md)",
    "none": "read the end of the log; ./demo --verbose shows every task; docs/running.md has a table of what to look at",
}
"""Advice after each verdict, and after a run without one."""
NO_ROOT = (
    "./demo needs root, for namespaces, mounts and network interfaces of its own: sudo ./demo\n"
    "Without root there are ./test --unit, and the pipeline and the lint on a cluster of yours: docs/targets.md, docs/your-service.md"
)
PROBLEMS = (
    StepFailed, CloudError, NotUp, ApiError, RunLost, ToolMissing, stack.ForeignCloud, stack.StillUp, OSError, subprocess.TimeoutExpired,
)  # fmt: skip
"""Errors that are printed as their text, which says what to do; any other exception is a bug and shows its traceback."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="./demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Runs the whole pipeline on an embedded cloud on this machine: provision, verify, deploy, drill, clean up.\n"
        "Needs Debian, root, Python ≥ 3.11 and package registries; no Docker, no AWS account.",
        epilog='Exit code: 0 only when the drill\'s verdict is "passed"; 130 after Ctrl-C.\n'
        "Evidence of every run is kept in .leeward/evidence, logs in .leeward/logs.",
    )
    parser.add_argument("--keep", action="store_true", help="leave everything up afterwards and print its addresses")
    parser.add_argument("--down", action="store_true", help="take down whatever is up, from any state, and stop a running demo")
    parser.add_argument(
        "--no-gcs-fault-tolerance", action="store_true", help="keep the state of Ray's head in its memory, to see the drill fail"
    )
    parser.add_argument(
        "--param",
        "-p",
        action="append",
        default=[],
        type=_parameter,
        metavar="KEY=JSON",
        help=f"a parameter of {DEPLOYMENT}, passed on as it is",
    )
    parser.add_argument("--verbose", "-v", action="store_true", help="show every task, its progress and all output of the set-up")
    parser.add_argument("--port", type=_port, help="loopback port of the Prefect UI (default: 4200, or a free one)")
    parser.add_argument(
        "--deadline", type=_minutes, default=60, metavar="MINUTES", help="give up on the run after this time (default: %(default)s)"
    )
    options = parser.parse_args(given)
    if options.no_gcs_fault_tolerance and any(one.startswith("infrastructure=") for one in options.param):
        parser.error(
            '--no-gcs-fault-tolerance sets the parameter infrastructure itself: give that one alone, with "enable_gcs_ha": false in it'
        )
    return options


def _parameter(word: str) -> str:
    """Check a KEY=JSON argument now: set-up takes minutes, and the run would refuse it only afterwards."""
    key, equals, value = word.partition("=")
    if not equals or key not in PARAMETERS:
        raise argparse.ArgumentTypeError(f"{word!r} is not KEY=JSON with one of {', '.join(PARAMETERS)} as its KEY")
    if key == "drill" and value.strip('"') not in (known := sorted(path.stem for path in CATALOGUE.glob("*.yaml"))):
        raise argparse.ArgumentTypeError(f"there is no drill {value}; the catalogue has: {', '.join(known)}")
    if key == "repeat" and not (value.isascii() and value.isdigit() and 0 < int(value) <= MOST_FAULTS):
        raise argparse.ArgumentTypeError(f"repeat is a whole number from 1 to {MOST_FAULTS:,}, not {value}")
    if key == "graces" and value.strip('"') not in GRACES:
        raise argparse.ArgumentTypeError(f"graces is {' or '.join(GRACES)}, not {value}")
    if key in OBJECT_PARAMETERS and not _is_json_object(value):
        raise argparse.ArgumentTypeError(f"{key} is a JSON object such as {OBJECT_PARAMETERS[key]}, not {value}")
    return word


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _port(word: str) -> int:
    if not (word.isascii() and word.isdigit() and 0 < int(word) < 65536):
        raise argparse.ArgumentTypeError(f"{word} is no port")
    return int(word)


def _minutes(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{word} is no number of minutes above 0")
    return number


def parameters(options: argparse.Namespace) -> list[str]:
    """Return the `-p` arguments of the run. The user's own come last and so take precedence."""
    chosen = [f"target={stack.TARGET}"]
    chosen += ["keep=true", f"service={json.dumps(SPEAKING)}", f"load={json.dumps(LIGHT)}"] if options.keep else []
    chosen += ['infrastructure={"enable_gcs_ha": false}'] if options.no_gcs_fault_tolerance else []
    return [part for one in (*chosen, *options.param) for part in ("-p", one)]


def service_parameter(options: argparse.Namespace) -> dict[str, Any]:
    """Return the user's `service` parameter; of several the last one counts, as for the run."""
    given = [one.partition("=")[2] for one in options.param if one.startswith("service=")]
    return dict(json.loads(given[-1])) if given else {}


@dataclass
class Demo:
    """One run of the demo."""

    options: argparse.Namespace
    console: Console
    interrupts: Interrupts
    leave_up: bool = False
    verdict: str = ""
    """Text with the verdict, which is printed last."""

    def run(self) -> int:
        """Check the machine, run to the verdict, and take everything down unless `--keep` was given; return the exit code."""
        try:
            code = self._run_to_verdict()
        except PROBLEMS as problem:
            self.console.print("error", str(problem))
            code = 1
        if self.leave_up:
            return code
        code = self.take_down(code)
        self.console.done()
        print(self.verdict, end="", flush=True)
        return code

    def _run_to_verdict(self) -> int:
        stack.prepare_machine(self.console, [self.options.port] if self.options.port else [])
        setup.prepare(self.console, setup.CLOUD_GROUPS)
        access = LocalAccess.choose(service_parameter(self.options)) if self.options.keep else None
        services, endpoint = stack.bring_up(self.console, api_port=self.options.port, forwards=access.forwards if access else ())
        name = time.strftime("demo-%Y%m%d-%H%M%S")
        snapshot = self._start_and_follow(services, name)
        if access:
            services.keep()
            self.leave_up = True
        passed = self._find_verdict(name, services.api.flow_run_named(name), snapshot)
        if access:
            self.console.done()
            print(self.verdict, flush=True)
            access.print_addresses(services, endpoint)
        return 0 if passed else 1

    def _start_and_follow(self, services: Services, name: str) -> RunSnapshot:
        command = ["deployment", "run", DEPLOYMENT, "--flow-run-name", name, *parameters(self.options)]
        self.console.print("run", f"prefect {' '.join(command)}")
        stack.prefect(services, *command)
        identity = services.api.flow_run_named(name)
        self.console.print("run", f"{services.api_url.removesuffix('/api')}/runs/flow-run/{identity} (log: {LOG.relative_to(ROOT)})")
        return follow(services.api, identity, services.process, self.console, self.options.deadline * 60)

    def _find_verdict(self, name: str, identity: str, snapshot: RunSnapshot) -> bool:
        """Keep the text with the verdict, the paths of the evidence and what to do next; return whether the verdict is "passed"."""
        found = find_evidence(name, identity)
        if found is None:
            self.console.print("error", f"the run ended as {snapshot.label} before there was a verdict. {snapshot.message}".strip())
            self.console.print("error", f"its log: {LOG}; what was collected, if anything: {EVIDENCE / name}")
            self.verdict = "\nnext      " + NEXT["none"] + "\n"
            return False
        # Not to its own stdout: only that of this process survives a reader that is gone.
        command = [str(PYTHON), "-m", "scripts.installed.summary", str(found), *(["--colour"] if sys.stdout.isatty() else [])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=60, check=False)
        verdict = json.loads(found.read_text(encoding="utf-8"))["verdict"]
        paths = f"report    {report_path(found)}\nevidence  {found}"
        advice = NEXT["failed" if verdict != "passed" else "kept" if self.options.keep else "passed"]
        self.verdict = f"\n{done.stdout or done.stderr}\n{paths}\nnext      {advice}\n"
        if verdict == "passed" and snapshot.state != "COMPLETED":
            self.console.print("error", f"the drill passed, but the run ended as {snapshot.label}. {snapshot.message}".strip())
        return bool(verdict == "passed" and snapshot.state == "COMPLETED")

    def take_down(self, code: int) -> int:
        """Take down what this folder started; return `code`, or 1 instead of 0 when something could not be removed."""
        if not stack.may_be_up():
            return code
        self.interrupts.shielded = True
        self.interrupts.activity = "already taking everything down; cutting that short would leave things behind"
        try:
            stack.take_down(self.console)
        except PROBLEMS as problem:
            self.console.print("error", f"{problem}\nTry again with: ./demo --down")
            return code or 1
        self.console.print("end", f"nothing is left up; {format_seconds(self.console.elapsed)} in all")
        return code


def find_evidence(name: str, identity: str) -> Path | None:
    """Return the evidence.json of a flow run (series.json for a series), found by the run's name or id; None when there is none."""
    paths = (EVIDENCE / folder / file for folder in (name, identity) for file in ("evidence.json", "series.json"))
    return next((path for path in paths if path.exists()), None)


def report_path(evidence: Path) -> Path:
    """Return the path of the HTML report beside the evidence."""
    return evidence.with_name("series.html" if evidence.name == "series.json" else "report.html")


def stop_and_take_down(console: Console) -> int:
    """Stop a running demo and take everything down; return the exit code."""
    deadline = time.monotonic() + STOP_TIMEOUT_S + 270  # it may have to let apt finish first
    while time.monotonic() < deadline:
        try:
            with exclusive_lock(stack.LOCK), Interrupts(console, "taking everything down") as interrupts:
                interrupts.shielded = True
                stack.take_down(console)
                console.print("end", "nothing is left up")
                return 0
        except Busy as busy:
            holder = busy.holder
            console.print("stop", f"a run is under way (process {holder.pid if holder else 'unknown'}): stopping it")
            if holder:
                holder.signal(SIGTERM)
                holder.ended_within(120)
            time.sleep(1)
        except PROBLEMS as problem:
            console.print("error", str(problem))
            return 1
    console.print("error", "the running demo does not stop; see the message above")
    return 1


def main(given: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = arguments(given)
    console = Console(verbose=options.verbose)
    if os.geteuid() != 0:
        console.print("error", NO_ROOT)
        return 1
    if options.down:
        return stop_and_take_down(console)
    try:
        with exclusive_lock(stack.LOCK), Interrupts(console) as interrupts:
            return _run_and_take_down(Demo(options, console, interrupts))
    except Busy as busy:
        console.print("error", f"{busy}. Wait for it, or stop it with: ./demo --down")
        return 1


def _run_and_take_down(demo: Demo) -> int:
    """Run the demo; when it ends early for any reason, take down everything that it started."""
    try:
        return demo.run()
    except Interrupted as interrupted:
        demo.console.print("stop", f"{interrupted}: taking everything down that was started, which takes seconds")
        return demo.take_down(130)
    except BaseException:
        demo.take_down(1)
        raise


if __name__ == "__main__":
    startup.begin()
    raise SystemExit(main())

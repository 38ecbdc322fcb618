"""Measures the service's tokens per second, as ratios in one run: `python benchmarks/serving.py --help`.

Sets up what it needs as ./test does, then runs benchmarks.contest inside the `bench` image. Standard library only, because it runs before
anything is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parent.parent
sys.path[:1] = [str(ROOT)]

from benchmarks.figures import Cell, Row, Spent, spent_table, table  # noqa: E402  # found by the line above
from benchmarks.picture import draw  # noqa: E402
from scripts import setup, stack  # noqa: E402
from scripts.steps import StepFailed  # noqa: E402
from scripts.support.console import Console  # noqa: E402
from scripts.support.interrupts import Interrupted, Interrupts  # noqa: E402
from scripts.support.paths import PYTHON  # noqa: E402
from scripts.support.processes import Busy, exclusive_lock  # noqa: E402
from scripts.tools import ToolMissing  # noqa: E402

PROMPTS = {"short": 16, "long": 512}
"""Tokens of the prompts by name, the beginning token included."""
WITHIN_S = 6 * 3600.0
STOPS_WITHIN_S = 40.0


class ContestFailed(RuntimeError):
    """Nothing was measured; the reason is on the terminal above."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/serving.py",
        description="Measures the service against a server that answers one request at a time, against `transformers serve\n"
        "--continuous-batching`, and against its own engine with nothing around it: same model, machine, prompts and answers.\n"
        "Needs what ./test needs. About an hour and a quarter on two cores, with --quick half an hour.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Progress goes to stderr, the tables to stdout.",
    )
    parser.add_argument("--clients", type=_clients, default=[1, 4, 16, 64], metavar="N,…", help="clients at a time (default: 1,4,16,64)")
    parser.add_argument("--prompts", type=_prompts, default=list(PROMPTS), metavar="short,long", help="16 and 512 tokens (default: both)")
    parser.add_argument("--quick", action="store_true", help="one round instead of three")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the medians: a list of rows, in tokens a second")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw them")
    parser.add_argument("--gaps", action="store_true", help="measure the gaps between tokens while prompts are admitted instead")
    return parser.parse_args(given)


def _clients(text: str) -> list[int]:
    numbers = [int(word) for word in text.split(",")]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError("at least one client")
    return numbers


def _prompts(text: str) -> list[str]:
    words = text.split(",")
    if unknown := set(words) - set(PROMPTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(PROMPTS)}")
    return words


def run_in_image(module: Sequence[str]) -> dict[str, Any]:
    """Run a module of benchmarks/ inside the image; return the JSON object on its last line.

    Raises:
        ContestFailed: the module failed.
    """
    command = [str(PYTHON), "-m", "scripts.installed.run_in_image", "--", "python3", "-m", *module]
    # A session of its own: Ctrl-C reaches only this process, which then ends the other one.
    popen = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        out, _ = popen.communicate(timeout=WITHIN_S)
    except BaseException:
        _stop(popen)
        raise
    if popen.returncode:
        raise ContestFailed(f"{' '.join(module)} failed (exit code {popen.returncode}); see above")
    found: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
    return found


def _stop(popen: subprocess.Popen[bytes]) -> None:
    """End the process and everything that it started."""
    os.killpg(popen.pid, signal.SIGINT)
    try:
        popen.wait(STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


def measure(options: argparse.Namespace, out: TextIO) -> None:
    """Measure, and print the tables; write the files that the options name."""
    if options.gaps:
        print(run_in_image(["benchmarks.gaps"])["text"], file=out, flush=True)
        return
    numbers = ["--clients", ",".join(map(str, options.clients)), "--prompts", ",".join(str(PROMPTS[name]) for name in options.prompts)]
    found = run_in_image(["benchmarks.contest", *numbers, "--rounds", "1" if options.quick else "3"])
    rows = [Row(**{**row, "cell": Cell(**row["cell"])}) for row in found["rows"]]
    spent = [Spent(**{**one, "cell": Cell(**one["cell"])}) for one in found["spent"]]
    print(table(rows), spent_table(spent), sep="\n\n", file=out, flush=True)
    if options.json:
        options.json.write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
    if options.plot:
        options.plot.write_text(draw(rows))


def main(given: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options, console = arguments(given), Console(sys.stderr)
    out = os.fdopen(os.dup(1), "w")
    # The output of the set-up's programs is progress, too.
    os.dup2(2, 1)
    try:
        with exclusive_lock(stack.LOCK), Interrupts(console, "stopping what was started") as interrupts:
            try:
                setup.check_machine(console)
                stack.take_down_leftovers(console)
                setup.prepare(console, setup.TEST_GROUPS, tests=True)
                measure(options, out)
            except Interrupted as interrupted:
                console.print("stop", f"{interrupted}: {interrupts.activity}")
                return 130
    except (Busy, StepFailed, ToolMissing, stack.ForeignCloud, stack.StillUp, ContestFailed) as problem:
        console.print("error", str(problem))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

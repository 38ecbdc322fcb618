"""`leeward`: its commands, their options and exit codes."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TypeAlias

from pydantic import ValidationError

from blocks.errors import PipelineError
from drills.cli import compare, drill, rights, undo
from drills.cli.connection import connect
from drills.cli.definition import problems
from drills.cli.exits import INTERRUPTED, LEFT, PIPE, REFUSED, Refusal
from drills.definition import UnknownDrill, catalogue
from drills.evidence import BadEvidence
from drills.lint import show
from drills.lint.gather import gather, read_manifests
from drills.lint.rules import check
from drills.report import render
from drills.request import presets
from drills.stages.judging import own_version

EXITS = """exit code:
  0  passed
  1  failed: a promise was broken
  2  refused: nothing was touched
  3  aborted or void: there is no verdict on the service
  4  something of the drill could not be removed or undone
  130  Ctrl-C before anything was touched"""


def main(given: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    words = list(sys.argv[1:] if given is None else given)
    if words[:1] == ["report"]:
        return render.main(words[1:])
    options = parser().parse_args(words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character shows another one
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    try:
        code = int(options.run(options))
        _flush()
        return code
    except BrokenPipeError:  # the reader of the output has what it wanted
        _flush()
        return PIPE
    except ValidationError as error:
        print(f"leeward: {problems(error)}", file=sys.stderr)
        return REFUSED
    except (Refusal, PipelineError, OSError, UnknownDrill, BadEvidence) as error:
        print(f"leeward: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:  # a drill that has begun ends by itself
        undoing = options.command == "undo"
        print(f"leeward: interrupted{'; run it again for what is left' if undoing else ''}", file=sys.stderr)
        return LEFT if undoing else INTERRUPTED


def _end(number: int, _: FrameType | None) -> None:
    """Let a signal end the command as Ctrl-C does, so that everything is taken away."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def _flush() -> None:
    """Write what is left of the output, unless its reader is gone; Python would report that at the end, and exit with another code."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(prog="leeward", description="Would your Ray service survive the loss of a part? Look, and try it.")
    top.add_argument("--version", action="version", version=f"leeward {own_version()}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_lint(commands)
    _add_drill(commands)
    _add_undo(commands)
    _add_rbac(commands)
    _add_compare(commands)
    commands.add_parser("report", help="draw the report of a drill or of a series again: leeward report --help")
    return top


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_lint(commands: Commands) -> None:
    found = _on_a_service(
        commands,
        "lint",
        "check a RayService: would it survive? Nothing is touched",
        "Checks a RayService that runs, its pods and Services, or one in a file, with reasons and remedies. Nothing is touched.",
        "Exit code: 0 no rule that breaks the service is broken; 1 one is (with --strict: any rule); 2 nothing could be checked.",
    )
    found.add_argument("-f", "--file", metavar="FILE", help="YAML that has the RayService, - for standard input; no cluster is asked")
    found.add_argument("--strict", action="store_true", help="let any broken rule fail, whatever its severity")
    found.add_argument("--json", action="store_true", help="print JSON")
    found.add_argument("--junit", type=Path, metavar="FILE", help="write the rules as JUnit test cases, too")
    found.set_defaults(run=_lint)


def _add_drill(commands: Commands) -> None:
    found = _on_a_service(
        commands,
        "drill",
        "break one part of a RayService under load, and judge what its users noticed",
        "Breaks one part of a RayService under load, watches the recovery, judges, and writes a report. Nothing stays in the cluster.",
        EXITS,
    )
    found.add_argument("page", metavar="PAGE", help=f"what is broken: one of {', '.join(catalogue())}; or a YAML file of that form")
    found.add_argument("--break", dest="broken", metavar="NS/SERVICE", help="the service once more: it will lose a part. Not for --dry-run")
    found.add_argument("--dry-run", action="store_true", help="show targets, load and missing rights, and touch nothing")
    load = found.add_argument_group("load", "what is sent to the service while it loses a part")
    load.add_argument("--requests", default="plain", metavar="PRESET|FILE", help=f"what is asked: {', '.join(presets())}; or a YAML file")
    load.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a value of the requests: path=/v1, model=m")
    load.add_argument("--header", action="append", default=[], metavar="NAME=SECRET/KEY[:PREFIX]", help="a header from a Secret")
    load.add_argument("--rate", type=float, metavar="N", help="short requests per second (default: the page's)")
    load.add_argument("--streams", type=int, metavar="N", help="streams alive at any moment (default: the page's)")
    load.add_argument("--tokens", type=int, metavar="N", help="tokens of a streamed answer (default: the page's)")
    load.add_argument("--patience", type=float, metavar="S", help="seconds without a byte after which a request is lost")
    load.add_argument("--load-image", metavar="IMAGE", help="any image with Python from 3.10 on (default: the head's own)")
    load.add_argument("--share-node", action="store_true", help="let the load run on a node that is struck, where there is no other")
    how = found.add_argument_group("drill")
    how.add_argument("--repeat", type=int, default=1, metavar="N", help="number of faults, one after the other (default: 1)")
    how.add_argument("--graces", choices=("own", "in-turn"), default="own", help="in-turn: every second fault with the other grace period")
    how.add_argument("--before", type=float, metavar="S", help="seconds of load before the fault (default: the page's)")
    how.add_argument("--after", type=float, metavar="S", help="seconds of load after the recovery (default: the page's)")
    how.add_argument("--recovery", type=float, metavar="S", help="promised seconds until the service is as before (default: the page's)")
    how.add_argument("--out", type=Path, metavar="DIR", help="folder for report and evidence (default: leeward-NS-SERVICE-TIME)")
    against = "evidence of an earlier drill, or last-passed for the newest one that passed in a folder beside --out: a worse result fails"
    how.add_argument("--against", metavar="FILE|last-passed", help=against)
    found.set_defaults(run=lambda options: drill.run(options, lambda: connect(options)))


def _add_undo(commands: Commands) -> None:
    found = _on_a_service(
        commands,
        "undo",
        "undo and remove what a drill that died has left",
        "Undoes what lasts of a drill's faults, and removes its load, its journal and its lock. It may be called at any time, and again.",
        "Exit code: 0 nothing is left; 2 a drill is under way, or nothing could be read; 4 something could not be undone.",
    )
    found.set_defaults(run=lambda options: undo.run(options, connect(options)))


def _add_rbac(commands: Commands) -> None:
    found = commands.add_parser(
        "rbac",
        help="print the Role and RoleBinding that a drill needs, and no more",
        description="Prints the Role and RoleBinding that lint and this drill need in the namespace of the service, as YAML.",
    )
    found.add_argument("page", metavar="PAGE", help=f"one of {', '.join(catalogue())}; or a YAML file of that form")
    found.add_argument("-n", "--namespace", default="default", help="namespace of the RayService (default: default)")
    found.add_argument("--account", default="leeward", help="ServiceAccount that gets the rights (default: leeward)")
    found.add_argument("--ray-token", metavar="SECRET", help="the Secret with Ray's own token, for a service with authOptions")
    found.set_defaults(run=rights.run)


def _add_compare(commands: Commands) -> None:
    found = commands.add_parser(
        "compare",
        help="compare two drills of the same page and load",
        description="Compares two drills, or two series, of the same page and load: promises, losses and recovery.",
        epilog="Exit code: 0 the second is not worse; 1 it is; 2 they cannot be compared.",
    )
    found.add_argument("first", type=Path, metavar="A", help="evidence.json or series.json, or the folder that has it")
    found.add_argument("second", type=Path, metavar="B")
    found.set_defaults(run=compare.run)


def _on_a_service(commands: Commands, name: str, summary: str, description: str, exits: str) -> argparse.ArgumentParser:
    """Add a command that works on a RayService."""
    found = commands.add_parser(
        name, help=summary, description=description, epilog=exits, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--context", help="context of the kubeconfig (default: the current one)")
    found.add_argument("--kubeconfig", type=Path, help="default: $KUBECONFIG, else ~/.kube/config")
    found.add_argument("-n", "--namespace", help="namespace of the RayService (default: the context's)")
    found.add_argument("--service", help="name of the RayService (default: the only one of the namespace)")
    return found


def _lint(options: argparse.Namespace) -> int:
    """Check the service and print the findings; return the exit code."""
    if options.file:
        piped = options.file == "-"
        text = sys.stdin.buffer.read() if piped else Path(options.file).read_bytes()
        gathered = read_manifests(text, "standard input" if piped else options.file, options.service)
    else:
        gathered = gather(connect(options), options.namespace, options.service)
    checked = check(gathered.living)
    about = gathered.living.ray_service["metadata"]
    service = "/".join(filter(None, [options.namespace or about.get("namespace"), about["name"]]))
    print((show.as_json if options.json else show.text)(service, checked, gathered.unread), end="")
    if options.junit:
        options.junit.write_text(show.junit(service, checked, options.strict), encoding="utf-8")
    return int(any(show.fails(finding, options.strict) for finding in checked.findings))

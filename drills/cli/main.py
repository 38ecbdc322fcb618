"""`leeward`: its commands, their options and exit codes."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TypeAlias

from kubernetes import config
from pydantic import ValidationError

from blocks.errors import PipelineError
from drills.cli import compare, drill, rights, undo
from drills.cli.exits import INTERRUPTED, LEFT, REFUSED, Refusal
from drills.definition import UnknownDrill, catalogue
from drills.evidence import BadEvidence
from drills.kubernetes.api import Api
from drills.lint import check, show
from drills.lint.gather import gather
from drills.report import render
from drills.request import presets

EXITS = """exit code:
  0  passed
  1  failed: a promise was broken
  2  refused: nothing was touched
  3  aborted or void: there is no verdict on the service
  4  something of the drill could not be removed or undone"""


class NoCluster(Refusal):
    """No cluster can be reached with this kubeconfig."""


def main(given: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    words = list(sys.argv[1:] if given is None else given)
    if words[:1] == ["report"]:
        return render.main(words[1:])
    options = parser().parse_args(words)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    try:
        return int(options.run(options))
    except (Refusal, PipelineError, OSError, ValidationError, UnknownDrill, BadEvidence) as error:
        print(f"leeward: {_words(error)}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:  # a drill ends by the first one; this is another, or another command
        what = "; `leeward undo` removes what is left" if options.command in ("drill", "undo") else ""
        print(f"leeward: interrupted{what}", file=sys.stderr)
        return LEFT if what else INTERRUPTED


def _end(number: int, _: FrameType | None) -> None:
    """Let a signal end the command as Ctrl-C does, so that everything is taken away."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def _words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
    return str(error)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(prog="leeward", description="Would your Ray service survive the loss of a part? Look, and try it.")
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
        "check a RayService that runs: would it survive? Nothing is touched",
        "Checks a RayService that runs, its pods and Services, with reasons and remedies. Nothing is touched.",
        "Exit code: 0 no rule that breaks the service is broken; 1 one is (with --strict: any rule); 2 nothing could be checked.",
    )
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
    how.add_argument("--against", metavar="FILE", help="evidence.json or series.json of an earlier drill: a worse result fails, too")
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
    found.add_argument("-n", "--namespace", default="default", help="namespace of the RayService (default: default)")
    found.add_argument("--service", help="name of the RayService (default: the only one of the namespace)")
    return found


def connect(options: argparse.Namespace) -> Api:
    """Return the API of a kubeconfig's cluster.

    Raises:
        NoCluster: there is no such file or context.
    """
    try:
        client = config.new_client_from_config(  # type: ignore[no-untyped-call]  # the package is half typed
            config_file=options.kubeconfig and str(options.kubeconfig), context=options.context
        )
        return Api(client)
    except config.ConfigException as error:
        raise NoCluster(f"no cluster to look at: {error}; name one with --kubeconfig and --context") from error


def _lint(options: argparse.Namespace) -> int:
    """Check the service and print the findings; return the exit code."""
    gathered = gather(connect(options), options.namespace, options.service)
    checked = check(gathered.living)
    service = f"{options.namespace}/{gathered.living.ray_service['metadata']['name']}"
    print((show.as_json if options.json else show.text)(service, checked, gathered.unread), end="")
    if options.junit:
        options.junit.write_text(show.junit(service, checked, options.strict), encoding="utf-8")
    return int(any(show.fails(finding, options.strict) for finding in checked.findings))

"""`leeward`: lint of any RayService, and reports of drills, with nothing but a kubeconfig. No Prefect, Terraform or AWS in it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kubernetes import config

from blocks.errors import PipelineError
from drills import lint
from drills.kubernetes.api import Api
from drills.lint import show
from drills.lint.gather import gather
from drills.report import render

REFUSED = 2
"""Exit code when nothing could be checked."""


class NoCluster(Exception):
    """No cluster can be reached with this kubeconfig."""


def main(given: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    words = list(sys.argv[1:] if given is None else given)
    if words[:1] == ["report"]:
        return render.main(words[1:])
    parser = argparse.ArgumentParser(prog="leeward", description="Would your Ray service survive the loss of a part?")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    checked = commands.add_parser(
        "lint",
        help="check a RayService that runs: would it survive? Nothing is touched",
        description="Checks a RayService that runs, its pods and Services, with reasons and remedies. Nothing is touched.",
        epilog="Exit code: 0 no rule that breaks the service is broken; 1 one is (with --strict: any rule); 2 nothing could be checked.",
    )
    checked.add_argument("--context", help="context of the kubeconfig (default: the current one)")
    checked.add_argument("--kubeconfig", type=Path, help="default: $KUBECONFIG, else ~/.kube/config")
    checked.add_argument("-n", "--namespace", default="default", help="namespace of the RayService (default: default)")
    checked.add_argument("--service", help="name of the RayService (default: the only one of the namespace)")
    checked.add_argument("--strict", action="store_true", help="let any broken rule fail, whatever its severity")
    checked.add_argument("--json", action="store_true", help="print JSON")
    checked.add_argument("--junit", type=Path, metavar="FILE", help="write the rules as JUnit test cases, too")
    commands.add_parser("report", help="draw the report of a drill or of a series again: leeward report --help")
    options = parser.parse_args(words)
    try:
        return run_lint(options, connect(options.kubeconfig, options.context))
    except (PipelineError, NoCluster, OSError) as error:
        print(f"leeward: {error}", file=sys.stderr)
        return REFUSED


def connect(kubeconfig: Path | None, context: str | None) -> Api:
    """Return the API of a kubeconfig's cluster.

    Raises:
        NoCluster: there is no such file or context.
    """
    try:
        client = config.new_client_from_config(  # type: ignore[no-untyped-call]  # the package is half typed
            config_file=kubeconfig and str(kubeconfig), context=context
        )
        return Api(client)
    except config.ConfigException as error:
        raise NoCluster(f"no cluster to look at: {error}; name one with --kubeconfig and --context") from error


def run_lint(options: argparse.Namespace, api: Api) -> int:
    """Check the service and print the findings; return the exit code."""
    gathered = gather(api, options.namespace, options.service)
    checked = lint.check(gathered.living)
    service = f"{options.namespace}/{gathered.living.ray_service['metadata']['name']}"
    print((show.as_json if options.json else show.text)(service, checked, gathered.unread), end="")
    if options.junit:
        options.junit.write_text(show.junit(service, checked, options.strict), encoding="utf-8")
    return int(any(show.fails(finding, options.strict) for finding in checked.findings))


if __name__ == "__main__":
    sys.exit(main())

"""`python -m localcloud`: check, build, start, stop and inspect the embedded cloud.

Each command imports what it needs itself, because `doctor` must run before anything is installed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import startup

_EPILOG = "One cloud runs per machine. Everything it starts is in namespaces of its own and ends with it."

_COMMANDS = {
    "doctor": "check the machine: what is missing and how to fix it; exit code 1 when set-up cannot install it",
    "build": "fetch and compile everything the cloud needs, once",
    "up": "start the cloud; returns when its AWS endpoint answers",
    "down": "end the cloud and remove all of it",
    "status": "print what is up; exit code 1 when no cloud is",
    "env": "print what clients need, for `eval`",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m localcloud", description=__doc__.splitlines()[0] if __doc__ else None, epilog=_EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name in ("status", "env"):
            command.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _run_module(command: str, rest: list[str]) -> int | None:
    """Run a command that needs less than a cloud, or is internal; return its exit code, or None for any other command."""
    if command == "doctor":
        from localcloud.doctor import doctor

        _parser().parse_args([command, *rest])
        return doctor.main()
    if command == "build":
        from localcloud.build import artifacts

        return artifacts.main(rest)
    if command == "supervise":  # internal: `up` starts it inside the cloud's namespaces
        from localcloud.host import supervisor

        return supervisor.main(rest)
    return None


def _run_lifecycle(given: argparse.Namespace) -> int:
    from localcloud.host import lifecycle
    from localcloud.machine.interface import MachineError

    actions: dict[str, Callable[[], int]] = {
        "up": lifecycle.up,
        "down": lifecycle.down,
        "status": lambda: lifecycle.status(as_json=given.json),
        "env": lambda: lifecycle.env(as_json=given.json),
    }
    try:
        return actions[given.command]()
    except (MachineError, OSError) as error:
        print(f"{given.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{given.command}: interrupted", file=sys.stderr)
        return 130


def main(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    code = _run_module(arguments[0], list(arguments[1:])) if arguments else None
    return _run_lifecycle(_parser().parse_args(arguments)) if code is None else code


if __name__ == "__main__":
    startup.begin()
    sys.exit(main(sys.argv[1:]))

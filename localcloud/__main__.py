"""`python -m localcloud`: check, build, start, stop and look at the embedded cloud.

Each command imports what it needs itself: `doctor` must run before anything is installed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

_EPILOG = "One cloud runs per machine. Everything it starts is in namespaces of its own and dies with it."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m localcloud", description=__doc__.splitlines()[0] if __doc__ else None, epilog=_EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("doctor", "check the machine: what is missing and how to mend it"),
        ("build", "fetch and compile everything the cloud needs, once"),
        ("up", "start the cloud; returns when its AWS endpoint answers"),
        ("down", "end the cloud and remove all of it"),
        ("status", "tell what is up; exit code 1 when no cloud is"),
        ("env", "print what clients need, for `eval`"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        if name in ("doctor", "status", "env"):
            command.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _doctor(given: argparse.Namespace) -> int:
    from localcloud import doctor

    return doctor.main(["--json"] if given.json else [])


def _build(given: argparse.Namespace) -> int:
    from localcloud import build

    return build.main([])


def _cloud(given: argparse.Namespace) -> int:
    from localcloud import lifecycle
    from localcloud.machine import MachineError

    actions: dict[str, Callable[[], int]] = {
        "up": lifecycle.up,
        "down": lifecycle.down,
        "status": lambda: lifecycle.status(as_json=given.json),
        "env": lambda: lifecycle.env(as_json=given.json),
    }
    try:
        return actions[given.command]()
    except MachineError as error:
        print(f"{given.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{given.command}: interrupted", file=sys.stderr)
        return 130


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns its exit code."""
    if arguments[:1] == ["supervise"]:  # not for people: `up` starts it inside the cloud's namespaces
        from localcloud import supervisor

        return supervisor.main(list(arguments[1:]))
    given = _parser().parse_args(arguments)
    return {"doctor": _doctor, "build": _build}.get(given.command, _cloud)(given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

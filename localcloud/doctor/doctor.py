"""`python -m localcloud doctor`: one list of what this machine has, what setup will install, and what only the user can fix.

It imports the standard library only, because it runs before anything is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from localcloud.doctor import addresses, cgroups, kernel, ports, system, tools
from localcloud.doctor.check import MISSING, OK, SETUP, WARNING, Check

_CHECKS: tuple[tuple[str, Callable[[], Check | list[Check]]], ...] = (
    ("root", system.user),
    ("system", system.operating_system),
    ("python", system.python),
    ("cores", system.cores),
    ("memory", system.memory),
    ("disk", system.disk),
    ("capabilities", kernel.capabilities),
    ("namespaces", kernel.namespaces),
    ("overlayfs", kernel.overlay),
    ("veth and bridge", kernel.links),
    ("iptables", kernel.iptables),
    ("cgroups", cgroups.control_groups),
    ("inotify", kernel.inotify),
    ("addresses", addresses.addresses),
    ("packages", tools.apt_packages),
    ("uv", tools.installer),
    ("go", tools.go),
    ("terraform", tools.terraform),
    ("aws provider", tools.provider),
    ("proxy", tools.proxy),
    ("certificates", tools.certificates),
)
_MARKS = {OK: "ok", SETUP: "setup", WARNING: "warning", MISSING: "MISSING"}


def run_checks(loopback_ports: Iterable[int] = ()) -> list[Check]:
    """Run every check. None raises: a check that fails itself gives a warning."""
    found: list[Check] = []
    for name, check in _CHECKS:
        found += _run_check(name, check)
    for number in loopback_ports:
        found += _run_check(f"port {number}", partial(ports.port, number))
    return found


def _run_check(name: str, check: Callable[[], Check | list[Check]]) -> list[Check]:
    try:
        answer = check()
    except Exception as error:  # the list must be complete on every machine
        return [Check(name, WARNING, f"could not be checked: {type(error).__name__}: {error}")]
    return answer if isinstance(answer, list) else [answer]


def format_checks(checks: Sequence[Check]) -> str:
    """Format the list as text, with a summary in the last line."""
    lines = []
    for check in checks:
        lines.append(f"{_MARKS[check.status]:<8} {check.name:<16} {check.detail}")
        if check.remedy:
            lines.append(f"{'':<25} → {check.remedy}")
    return "\n".join([*lines, "", _summary(checks)])


def _summary(checks: Sequence[Check]) -> str:
    if missing := [check.name for check in checks if check.status == MISSING]:
        return f"This machine cannot run it yet: fix {', '.join(missing)} as described above, and run the doctor again."
    if coming := sum(check.status == SETUP for check in checks):
        return f"This machine can run it; setup will install {coming} thing{'s' if coming > 1 else ''}."
    return "This machine can run it."


def main() -> int:
    """Print the list; return 1 when something is missing that setup cannot install, else 0."""
    checks = run_checks()
    print(format_checks(checks))
    return int(any(check.status == MISSING for check in checks))

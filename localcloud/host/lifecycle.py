"""The commands `up`, `down`, `status` and `env`, which run on the host, outside the cloud."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from types import FrameType
from typing import Any

from localcloud import paths, settings
from localcloud.build import artifacts, command
from localcloud.host import leftovers, state
from localcloud.host.guardian import Guardian
from localcloud.machine import cgroups
from localcloud.machine.interface import MachineError
from localcloud.machine.processes import wait_until
from localcloud.progress import Report, Reporter

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_UP_WITHIN = 180.0
_DOWN_WITHIN = 60.0
_PATH = f"a VPN or firewall of this machine may be in the way: `ip route get {settings.AWS_HOST}` must name {settings.UPLINK}"
_STATUS_WITHIN = 2.0
"""Seconds that `up` waits for the lock, because a `status` or `env` may hold it for a moment."""


def up() -> int:
    """Start the cloud; return 0 when its AWS endpoint answers. MachineError when a cloud is up already.

    When it fails or is interrupted, it leaves nothing behind.
    """
    _require_root()
    report = Reporter().for_step("up")
    _require_artifacts()
    lock = _lock_for_up()
    started = time.monotonic()
    try:
        _sweep_dead(report)
        guardian = None
        try:
            _make_folders()
            guardian = Guardian(lock)
            environment = guardian.wait_until_ready(report, _UP_WITHIN)
            wait_until(f"{settings.AWS_ENDPOINT_URL} answers the host ({_PATH})", state.endpoint_problem, within=60.0)
            state.write(state.ENVIRONMENT, environment)
            guardian.keep()
        except BaseException:
            if guardian:
                guardian.kill()
            leftovers.sweep(keep_logs=True)  # also kills what was started before Guardian() failed
            raise
    finally:
        os.close(lock)
    report(f"{settings.AWS_ENDPOINT_URL} answers after {time.monotonic() - started:.1f} s; for its clients: python -m localcloud env")
    return 0


def _require_artifacts() -> None:
    try:
        artifacts.artifacts()
    except command.BuildError as error:
        raise MachineError(str(error)) from error


def _lock_for_up() -> int:
    # All must clean up, even where the shell made this process ignore Ctrl-C (a background job). Only `nohup` ignores SIGHUP.
    for number in _SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    refusal = "a cloud is up on this machine, or coming up, and there is room for one; `python -m localcloud down` ends it"
    return _take_lock(_STATUS_WITHIN, refusal)


def _take_lock(within: float, refusal: str) -> int:
    """Take the lock; MachineError with this text when it is still held after `within` seconds."""
    deadline = time.monotonic() + within
    while (lock := state.take_lock()) is None:
        if time.monotonic() > deadline:
            raise MachineError(refusal)
        time.sleep(0.1)
    return lock


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in _SIGNALS:  # what follows is the clean-up
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _sweep_dead(report: Report) -> None:
    """Remove what a cloud that died left. The caller holds the lock, so no cloud is up."""
    if found := leftovers.find():
        report(f"removing what a cloud that died left: {len(found)} things")
        if left := leftovers.sweep(keep_logs=True):
            raise MachineError("cannot remove what a dead cloud left:\n  " + "\n  ".join(left))


def _make_folders() -> None:
    paths.DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)  # a disk may be mounted there
    paths.DATA_DIR.chmod(0o700)
    state.LOGS.mkdir(mode=0o700)


def down() -> int:
    """End the cloud and remove all of it; return 0, or 1 when something could not be removed."""
    _require_root()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that is closed meanwhile
    report = Reporter().for_step("down")
    before = leftovers.find()
    died = state.LOGS.is_dir() and not cgroups.processes()
    if survivors := cgroups.kill(within=_DOWN_WITHIN):
        raise MachineError(f"killed, but still there: processes {sorted(survivors)}")
    lock = _take_lock(_DOWN_WITHIN, f"{state.LOCK} is still held after {_DOWN_WITHIN:.0f} s: another `up` or `down` runs")
    try:
        left = leftovers.sweep(keep_logs=died)
    finally:
        os.close(lock)
    if died:
        report(f"the cloud had died before: its logs are in {leftovers.CRASH_LOGS}")
    for thing in left:
        report(f"could not remove {thing}")
    if not left:
        report(f"nothing is left ({len(before)} things removed)" if before else "there was nothing")
    return 1 if left else 0


def status(*, as_json: bool) -> int:
    """Print whether a cloud is up and what it contains; return 0, or 1 when none is up. What a dead cloud left is removed."""
    _require_root()
    lock = state.take_lock()
    if lock is None:
        found = _running_status()
    else:
        try:
            found = {"up": False, "removed": leftovers.find()}
            if found["removed"]:
                found["left"] = leftovers.sweep(keep_logs=True)
        finally:
            os.close(lock)
    print(json.dumps(found, indent=1) if as_json else _format_status(found))
    return 0 if found["up"] else 1


def _running_status() -> dict[str, Any]:
    wrong = state.endpoint_problem()
    return {
        "up": wrong is None,
        "wrong": wrong,
        "endpoint_url": settings.AWS_ENDPOINT_URL,
        "memory_bytes": cgroups.memory(),
        **(state.read(state.STATE) or {"cluster": None, "nodes": [], "redis": []}),
    }


def _format_status(found: dict[str, Any]) -> str:
    if "removed" in found:
        swept = f"; removed {len(found['removed'])} things that a dead cloud had left; its logs are in {leftovers.CRASH_LOGS}"
        return f"no cloud is up{swept if found['removed'] else ''}"
    lines = [f"up: {found['endpoint_url']}" if found["up"] else f"starting or unhealthy: {found['wrong']}"]
    lines.append(f"memory: {found['memory_bytes'] / 1e9:.1f} GB")
    lines.append(f"cluster: {found['cluster']['name']} at {found['cluster']['endpoint']}" if found["cluster"] else "cluster: none")
    lines += [f"node: {node['name']} ({node['type']}, {node['address']})" for node in found["nodes"]]
    lines += [f"redis: {group['name']} at {group['primary']} ({group['members']} members)" for group in found["redis"]]
    return "\n".join(lines)


def env(*, as_json: bool) -> int:
    """Print what clients need, as JSON or as lines for `eval`; return 0. MachineError when no cloud is up."""
    _require_root()
    lock = state.take_lock()
    if lock is not None:
        os.close(lock)
    environment = state.read(state.ENVIRONMENT)
    if lock is not None or environment is None:
        raise MachineError("no cloud is up; start one: python -m localcloud up")
    if as_json:
        print(json.dumps(environment, indent=1))
        return 0
    names = {
        "AWS_ENDPOINT_URL": "endpoint_url",
        "AWS_REGION": "region",
        "AWS_DEFAULT_REGION": "region",
        "AWS_ACCESS_KEY_ID": "access_key_id",
        "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    }
    for name, key in names.items():
        print(f"export {name}={shlex.quote(environment[key])}")
    if excepted := os.environ.get("NO_PROXY"):
        print(f"export NO_PROXY={shlex.quote(excepted)} no_proxy={shlex.quote(excepted)}")
    return 0


def _require_root() -> None:
    if os.geteuid() != 0:
        raise MachineError("the embedded cloud makes namespaces, mounts and interfaces: run it as root")

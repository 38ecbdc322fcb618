"""`up`, `down`, `status` and `env`, as the host runs them."""

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
from localcloud.progress import Reporter

_UP_WITHIN = 180.0
_DOWN_WITHIN = 60.0
_STATUS_WITHIN = 2.0
"""Seconds for which `status` or `env` may hold the lock while an `up` waits."""


def up() -> int:
    """The AWS endpoint answers; returns 0. A cloud that is up already is refused. Interrupted, it leaves nothing."""
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
            environment = guardian.environment(report, _UP_WITHIN)
            wait_until(f"{settings.AWS_ENDPOINT_URL} answers the host", state.unhealthy, within=60.0)
            state.write(state.ENVIRONMENT, environment)
            guardian.keep()
        except BaseException:
            if guardian:
                guardian.kill()
            leftovers.sweep(keep_logs=True)  # and kills what of the cloud was there before the guardian was whole
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
    # Both must clean up, also where Ctrl-C is ignored by inheritance (a shell's background job).
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    deadline = time.monotonic() + _STATUS_WITHIN
    while (lock := state.take_lock()) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if lock is None:
        raise MachineError("a cloud is up on this machine, or coming up, and there is room for one; `python -m localcloud down` ends it")
    return lock


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _sweep_dead(report: Any) -> None:
    """Whoever had the lock before is gone; so is what it left."""
    if found := leftovers.find():
        report(f"removing what a cloud that died left: {len(found)} things")
        if left := leftovers.sweep(keep_logs=True):
            raise MachineError("cannot remove what a dead cloud left:\n  " + "\n  ".join(left))


def _make_folders() -> None:
    paths.DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)  # a disk may be mounted there
    paths.DATA_DIR.chmod(0o700)
    state.LOGS.mkdir(mode=0o700)


def down() -> int:
    """Nothing of a cloud is on the machine: 0. What could not be removed is told: 1."""
    _require_root()
    report = Reporter().for_step("down")
    before = leftovers.find()
    died = state.LOGS.is_dir() and not cgroups.processes()
    if survivors := cgroups.kill(within=_DOWN_WITHIN):
        raise MachineError(f"killed, but still there: processes {sorted(survivors)}")
    lock = _lock_of_dead()
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


def _lock_of_dead() -> int:
    taken: list[int] = []

    def missing() -> str | None:
        lock = state.take_lock()
        taken.extend([lock] if lock is not None else [])
        return None if taken else f"{state.LOCK} is held: another `up` or `down` runs"

    wait_until("the lock is free", missing, within=_DOWN_WITHIN)
    return taken[0]


def status(*, as_json: bool) -> int:
    """Tells whether a cloud is up and what it holds: 0; 1 when none is. What a dead one left is removed."""
    _require_root()
    lock = state.take_lock()
    if lock is None:
        told = _told()
    else:
        try:
            told = {"up": False, "removed": leftovers.find()}
            if told["removed"]:
                told["left"] = leftovers.sweep(keep_logs=True)
        finally:
            os.close(lock)
    print(json.dumps(told, indent=1) if as_json else _format_status(told))
    return 0 if told["up"] else 1


def _told() -> dict[str, Any]:
    wrong = state.unhealthy()
    return {
        "up": wrong is None,
        "wrong": wrong,
        "endpoint_url": settings.AWS_ENDPOINT_URL,
        "memory_bytes": cgroups.memory(),
        **(state.read(state.STATE) or {"cluster": None, "nodes": [], "redis": []}),
    }


def _format_status(told: dict[str, Any]) -> str:
    if "removed" in told:
        swept = f"; removed {len(told['removed'])} things that one that died had left; its logs are in {leftovers.CRASH_LOGS}"
        return f"no cloud is up{swept if told['removed'] else ''}"
    lines = [f"up: {told['endpoint_url']}" if told["up"] else f"starting or ailing: {told['wrong']}"]
    lines.append(f"memory: {told['memory_bytes'] / 1e9:.1f} GB")
    lines.append(f"cluster: {told['cluster']['name']} at {told['cluster']['endpoint']}" if told["cluster"] else "cluster: none")
    lines += [f"node: {node['name']} ({node['type']}, {node['address']})" for node in told["nodes"]]
    lines += [f"redis: {group['name']} at {group['primary']} ({group['members']} members)" for group in told["redis"]]
    return "\n".join(lines)


def env(*, as_json: bool) -> int:
    """Prints what clients need: as JSON, or as lines for `eval`. MachineError when no cloud is up."""
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
    return 0


def _require_root() -> None:
    if os.geteuid() != 0:
        raise MachineError("the embedded cloud makes namespaces, mounts and interfaces: run it as root")

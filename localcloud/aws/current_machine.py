"""The machine behind the AWS side. One per process, as moto's books are one per process."""

from __future__ import annotations

import functools
import logging
from typing import Any, cast

from localcloud.machine.interface import Machine, MachineError

log = logging.getLogger(__name__)


class _Guarded:
    """Makes every failure of the machine a MachineError: anything else would leave a resource in CREATING for ever."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._machine, name)

        @functools.wraps(call)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            except MachineError:
                raise
            except Exception as error:
                log.exception("the machine failed in %s in a way it should not", name)
                raise MachineError(f"{name} failed: {type(error).__name__}: {error}") from error

        return guarded


_machine: Machine | None = None


def use(machine: Machine) -> None:
    """From now on real things are asked of this machine."""
    global _machine
    _machine = cast(Machine, _Guarded(machine))


def machine() -> Machine:
    """The machine in use, which fails with MachineError alone; RuntimeError before `use`."""
    if _machine is None:
        raise RuntimeError("no machine behind the embedded AWS: call localcloud.aws.server.serve(machine, host, port)")
    return _machine

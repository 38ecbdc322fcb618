"""The machine behind the AWS side. There is one per process, because moto's state is one per process."""

from __future__ import annotations

import functools
import logging
from typing import Any, cast

from localcloud.machine.interface import Machine, MachineError

log = logging.getLogger(__name__)


class _Guarded:
    """Turns every failure of the machine into a MachineError: with any other, a resource would stay in CREATING forever."""

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
                log.exception("%s of the machine raised something other than MachineError", name)
                raise MachineError(f"{name} failed: {type(error).__name__}: {error}") from error

        return guarded


_machine: Machine | None = None


def use(machine: Machine) -> None:
    """Make this the machine that does what AWS calls cause."""
    global _machine
    _machine = cast(Machine, _Guarded(machine))


def machine() -> Machine:
    """The machine in use, whose calls raise nothing but MachineError. RuntimeError before the first `use`."""
    if _machine is None:
        raise RuntimeError("no machine behind the embedded AWS: call localcloud.aws.server.serve(machine, host, port)")
    return _machine

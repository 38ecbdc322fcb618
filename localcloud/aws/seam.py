"""The machine behind the AWS side. One per process, as moto's books are one per process."""

from __future__ import annotations

from localcloud.machine import Machine

_machine: Machine | None = None


def use(machine: Machine) -> None:
    """From now on real things are asked of this machine."""
    global _machine
    _machine = machine


def machine() -> Machine:
    """The machine in use; RuntimeError before `use`."""
    if _machine is None:
        raise RuntimeError("no machine behind the embedded AWS: call localcloud.aws.server.serve(machine, host, port)")
    return _machine

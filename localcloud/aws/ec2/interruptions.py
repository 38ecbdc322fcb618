"""Spot instances that EC2 takes back: a warning, and two minutes later the end.

On AWS it happens whenever the capacity is wanted elsewhere. Here it does when told to, by PUT on /localcloud/interruptions/INSTANCE_ID,
and to any instance.
"""

from __future__ import annotations

import time

from moto.ec2.models.instances import Instance

from localcloud.aws import background, events, moto_lock
from localcloud.aws.ec2 import ec2

NOTICE_S = 120.0
"""From the warning to the end."""


class NotRunning(LookupError):
    """There is no such instance, or it does not run."""


def begin(instance_id: str) -> None:
    """The instance's end is announced, and comes.

    Raises:
        NotRunning: it does not run.
    """
    with moto_lock.MOTO_LOCK:
        instance = _running(instance_id)
        if instance is None:
            raise NotRunning(f"no instance {instance_id} is running")
        events.interruption_warned(instance)
    background.start(f"interrupt {instance_id}", lambda: _end_later(instance_id))


def _end_later(instance_id: str) -> None:
    time.sleep(NOTICE_S)
    with moto_lock.MOTO_LOCK:
        if _running(instance_id):  # it has mostly been replaced and terminated by whoever heeded the warning
            ec2.backend().terminate_instances([instance_id])


def _running(instance_id: str) -> Instance | None:
    found = ec2.backend().all_instances()
    return next((instance for instance in found if instance.id == instance_id and instance.is_running()), None)

"""Spot interruptions: a warning, and two minutes later the instance is terminated.

On AWS they happen when the capacity is needed elsewhere. Here a PUT on /localcloud/interruptions/INSTANCE_ID causes one,
for any instance.
"""

from __future__ import annotations

import time

from moto.ec2.models.instances import Instance

from localcloud.aws import background, events, moto_lock
from localcloud.aws.ec2 import ec2

NOTICE_S = 120.0
"""Seconds from the warning to the termination."""


class NotRunning(LookupError):
    """There is no such instance, or it is not running."""


def interrupt(instance_id: str) -> None:
    """Send the warning now, and terminate the instance after `NOTICE_S`.

    Raises:
        NotRunning: there is no such running instance.
    """
    with moto_lock.MOTO_LOCK:
        instance = _running(instance_id)
        if instance is None:
            raise NotRunning(f"no instance {instance_id} is running")
        events.send_interruption_warning(instance)
    background.start(f"interrupt {instance_id}", lambda: _terminate_later(instance_id))


def _terminate_later(instance_id: str) -> None:
    time.sleep(NOTICE_S)
    with moto_lock.MOTO_LOCK:
        if _running(instance_id):  # a client that reacts to the warning (Karpenter) has replaced and terminated it by now
            ec2.backend().terminate_instances([instance_id])


def _running(instance_id: str) -> Instance | None:
    found = ec2.backend().all_instances()
    return next((instance for instance in found if instance.id == instance_id and instance.is_running()), None)

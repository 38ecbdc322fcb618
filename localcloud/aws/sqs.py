"""SQS: a request that waits for a message does not block other requests."""

from __future__ import annotations

from moto.sqs.models import Queue

from localcloud.aws import moto_lock

_wait = Queue.wait_for_messages


def extend_moto() -> None:
    """Release the lock on moto's state while a long poll waits."""
    setattr(Queue, "wait_for_messages", _wait_without_lock)  # noqa: B010  # moto's backend names the class, it cannot be subclassed


def _wait_without_lock(queue: Queue, timeout: int) -> None:
    """Wait for up to a second; moto then looks into the queue again. Only ReceiveMessage calls it, which holds the lock."""
    with moto_lock.released():
        _wait(queue, timeout)

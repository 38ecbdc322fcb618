"""SQS: whoever waits for a message does not keep everybody else waiting."""

from __future__ import annotations

from moto.sqs.models import Queue

from localcloud.aws import moto_lock

_wait = Queue.wait_for_messages


def install() -> None:
    """A long poll gives the books out of its hand while it waits."""
    setattr(Queue, "wait_for_messages", _wait_without_the_books)  # noqa: B010  # moto's backend makes the class itself


def _wait_without_the_books(queue: Queue, timeout: int) -> None:
    """Only ever called while ReceiveMessage is answered, and so with the books in hand. Up to a second at a time; moto then looks again."""
    with moto_lock.released():
        _wait(queue, timeout)

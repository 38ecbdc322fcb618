"""The text engine as the API sees it: on other processes, behind a Serve handle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace

from grpc.aio import AioRpcError
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from serving.engines.contract import DeadlineExceeded, EngineError, GenerationFailed, Limits, NotReady, Piece, QueueFull, Request
from serving.waiting import in_time

LOST = (ActorDiedError, ActorUnavailableError, RayActorError, AioRpcError)
"""The engine's process is gone, or cannot be reached. Serve makes an error of its own only of gRPC's UNAVAILABLE, but a server that
goes also ends calls that it had accepted as CANCELLED; what an engine says never comes as an error of gRPC."""
NOBODY = "no engine answers; it may be starting"
TRIES = 3
"""Engines that are asked before the first token. As long as none was given, the answer of another is as good."""
LATE_S = 1.0
"""Seconds past a request's time in which the engine itself may say that it is over: it knows more of why."""


class RemoteEngine:
    """An EngineClient over the handle of the engine deployment."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle
        self._streams = handle.options(stream=True)

    async def ready(self) -> Limits:
        """What the engines can take; waits for one.

        Raises:
            NotReady: the one that was asked cannot answer.
        """
        try:
            limits: Limits = await self._handle.ready.remote()
        except Exception as error:
            told = _told(error, 0)
            raise told if isinstance(told, NotReady) else NotReady(NOBODY) from error
        return limits

    async def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        """The answer as it grows; closing the iterator cancels it over there.

        Raises:
            EngineError: as the engine says; GenerationFailed when it was lost on the way, DeadlineExceeded also when it is stuck,
                or when there is none.
        """
        end = time.monotonic() + request.within_s
        for left in reversed(range(TRIES)):
            # To an engine its time begins when it gets the request.
            asked = replace(request, within_s=end - time.monotonic())
            given, response = 0, self._streams.generate.remote(asked)
            try:
                while piece := await _next(response, end + LATE_S):
                    given += len(piece.tokens)
                    yield piece
                return
            except asyncio.TimeoutError:
                raise DeadlineExceeded(f"not whole within {request.within_s:g} s; {given} tokens of the answer were given") from None
            except LOST as error:
                if given or not left:
                    raise _told(error, given) from error
            except Exception as error:
                raise _told(error, given) from error
            finally:
                # Does nothing to one that has ended. Serve does not notice by itself that nobody reads any more.
                response.cancel()


async def _next(response: DeploymentResponseGenerator[Piece], end: float) -> Piece | None:
    """The next piece; None when there is none. An engine that is stuck, or is not there, does not look at the clock.

    Raises:
        asyncio.TimeoutError: it did not come by then.
    """
    try:
        return await in_time(response.__anext__(), end - time.monotonic())
    except StopAsyncIteration:
        return None


def _told(error: Exception, given: int) -> EngineError:
    """The error in the words of the contract."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, EngineError):
        return type(cause)(*cause.args)
    if isinstance(cause, BackPressureError):
        return QueueFull("every engine is busy and as many requests wait as may wait")
    if isinstance(cause, LOST):
        return GenerationFailed(f"the engine was lost after {given} tokens")
    if isinstance(cause, (DeploymentUnavailableError, RequestCancelledError)):
        return NotReady(NOBODY)
    return GenerationFailed(f"{type(cause).__name__} after {given} tokens")

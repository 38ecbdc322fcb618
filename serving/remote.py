"""The engine as the API sees it: in another process, behind a Serve handle."""

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
from serving.waiting import with_timeout

LOST = (ActorDiedError, ActorUnavailableError, RayActorError, AioRpcError)
"""Errors which mean that the engine's process has ended or cannot be reached. Serve translates only gRPC's UNAVAILABLE, but a server that
shuts down also ends accepted calls with CANCELLED. Errors of the engine itself never arrive as gRPC errors."""
NO_ENGINE = "no engine answers; it may be starting"
TRIES = 3
"""Engines that are tried at most. Before the first token, another engine can answer just as well."""
LATE_S = 1.0
"""Seconds after a request's deadline in which the engine itself may report it: its message says more about the cause."""


class RemoteEngine:
    """An EngineClient over the handle of the engine deployment."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle
        self._streams = handle.options(stream=True)

    async def ready(self) -> Limits:
        """Wait for an engine, and return its limits.

        Raises:
            NotReady: the engine that was asked cannot answer.
        """
        try:
            limits: Limits = await self._handle.ready.remote()
        except Exception as error:
            translated = _engine_error(error, 0)
            raise translated if isinstance(translated, NotReady) else NotReady(NO_ENGINE) from error
        return limits

    async def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Yield the answer as it grows; closing the iterator cancels the request in the engine.

        Raises:
            EngineError: the engine's own; GenerationFailed also if the engine was lost, DeadlineExceeded also if it is stuck or if there
                is none.
        """
        end = time.monotonic() + request.within_s
        for left in reversed(range(TRIES)):
            # The engine counts the time from when it gets the request.
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
                    raise _engine_error(error, given) from error
            except Exception as error:
                raise _engine_error(error, given) from error
            finally:
                # No effect on a response that has ended. Serve does not notice by itself that the response is not read any more.
                response.cancel()


async def _next(response: DeploymentResponseGenerator[Piece], end: float) -> Piece | None:
    """Return the next piece; None at the end. The time is checked here because an engine that is stuck or missing cannot do it.

    Raises:
        asyncio.TimeoutError: no piece came before `end`.
    """
    try:
        return await with_timeout(response.__anext__(), end - time.monotonic())
    except StopAsyncIteration:
        return None


def _engine_error(error: Exception, given: int) -> EngineError:
    """Translate an error of Ray, Serve or gRPC into one of the contract; `given`: tokens delivered so far."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, EngineError):
        return type(cause)(*cause.args)
    if isinstance(cause, BackPressureError):
        return QueueFull("every engine is busy and its queue is full")
    if isinstance(cause, LOST):
        return GenerationFailed(f"the engine was lost after {given} tokens")
    if isinstance(cause, (DeploymentUnavailableError, RequestCancelledError)):
        return NotReady(NO_ENGINE)
    return GenerationFailed(f"{type(cause).__name__} after {given} tokens")

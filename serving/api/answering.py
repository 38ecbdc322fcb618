"""From an engine's pieces to an HTTP response: the answer as it grows, and what happens when the client or the engine goes away.

The response object itself calls the engine. So an error before the first token becomes a response with its own status; an error after it
is an event with an `error` in the stream, without a [DONE] after it. A client that disconnects closes the engine's iterator at once,
whether it waits for a stream, for a complete answer or in the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from serving import sse
from serving.api.problems import problem_of
from serving.api.wire import Encoder, StreamEncoder
from serving.engines.contract import EngineClient, EngineError, GenerationFailed, Piece, Request
from serving.text import GrowingText, TokenBytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Tokens of an answer, and the text that they complete. Only the last part has a finish reason."""

    text: str
    tokens: tuple[int, ...]
    finish: str | None


@dataclass(frozen=True)
class PreparedRequest:
    """A request to the engine, and how its tokens become text."""

    request: Request
    token_bytes: TokenBytes
    stops: tuple[str, ...] = ()
    continues: bool = False
    """Whether the answer continues the text of the prompt, so that its first word keeps the space before it."""

    async def parts(self, engine: EngineClient) -> AsyncGenerator[Part, None]:
        """Yield the answer as it grows, up to its end or a stop string.

        Raises:
            EngineError: there is no answer, or it broke off.
        """
        text = GrowingText(self.token_bytes, self.stops, self.continues)
        async with aclosing(engine.generate(self.request)) as pieces:
            async for piece in pieces:
                part = _part(piece, text)
                yield part
                if part.finish:
                    return
        raise GenerationFailed("the engine ended the answer without saying why")


def _part(piece: Piece, text: GrowingText) -> Part:
    """Decode a piece token by token, so that the answer does not depend on how its tokens were grouped into pieces."""
    texts = []
    for count, token in enumerate(piece.tokens, 1):
        texts.append(text.add(token))
        if text.stopped:
            return Part("".join(texts), piece.tokens[:count], "stop")
    if piece.finish:
        texts.append(text.rest())
    return Part("".join(texts), piece.tokens, "stop" if text.stopped else piece.finish)


class _Answer(Response):
    """A response that is computed while its client is connected."""

    def __init__(self, engine: EngineClient, prepared: PreparedRequest) -> None:
        super().__init__(headers={"Cache-Control": "no-store"}, media_type=self.media_type)
        # The parent class sets the content length of an empty body.
        self.raw_headers = [header for header in self.raw_headers if header[0] != b"content-length"]
        self._prepared = prepared
        self._parts = prepared.parts(engine)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; stop when the client disconnects."""
        gone = asyncio.ensure_future(_gone(receive))
        work = asyncio.ensure_future(self._answer(_sender(send)))
        try:
            await asyncio.wait((gone, work), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                self._check(work)
        finally:
            gone.cancel()
            work.cancel()
            await asyncio.gather(gone, work, return_exceptions=True)

    def _check(self, work: asyncio.Future[None]) -> None:
        """Raise the error that ended the answer. An unexpected one is logged and becomes a Problem: the server would only close the
        connection."""
        try:
            with contextlib.suppress(ClientDisconnect):
                work.result()
        except EngineError:
            raise
        except Exception as error:
            log.exception("%s failed", self._prepared.request.id)
            raise problem_of(error) from error

    async def _answer(self, send: Send) -> None:
        raise NotImplementedError

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})


class WholeAnswer(_Answer):
    """The complete answer as one body."""

    media_type = "application/json"

    def __init__(self, engine: EngineClient, prepared: PreparedRequest, encoder: Encoder) -> None:
        super().__init__(engine, prepared)
        self._encoder = encoder

    async def _answer(self, send: Send) -> None:
        text, tokens, finish = [], [], ""
        async with aclosing(self._parts) as parts:
            async for part in parts:
                text.append(part.text)
                tokens.extend(part.tokens)
                finish = part.finish or ""
        body = self._encoder.whole("".join(text), tokens, finish, len(self._prepared.request.prompt))
        self.raw_headers.append((b"content-length", str(len(body)).encode()))
        await self._start(send)
        await send({"type": "http.response.body", "body": body})


class StreamedAnswer(_Answer):
    """The answer as server-sent events."""

    media_type = sse.MEDIA_TYPE

    def __init__(self, engine: EngineClient, prepared: PreparedRequest, encoder: StreamEncoder) -> None:
        super().__init__(engine, prepared)
        self._encoder = encoder

    async def _answer(self, send: Send) -> None:
        async with aclosing(self._events()) as events:
            first = await anext(events)
            await self._start(send)
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _events(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the stream, in units that are sent together. An error is raised only before the first unit."""
        count, begun, prompt = 0, False, len(self._prepared.request.prompt)
        try:
            async with aclosing(self._parts) as parts:
                async for part in parts:
                    count += len(part.tokens)
                    body = b"" if begun else self._encoder.opening(prompt)
                    if part.tokens or part.text:
                        body += self._encoder.chunk(part.text, part.tokens, prompt, count)
                    if part.finish:
                        body += self._encoder.closing(part.finish, prompt, count)
                    begun = True
                    yield body
        except Exception as error:
            if not begun:
                raise
            self._log(error, count)
            yield sse.encode(problem_of(error).body()).encode()

    def _log(self, error: Exception, count: int) -> None:
        expected = isinstance(error, EngineError)
        log.warning("%s broke off after %d tokens: %s", self._prepared.request.id, count, error, exc_info=None if expected else error)


def _sender(send: Send) -> Send:
    """Wrap `send` so that a lost client raises ClientDisconnect, which cannot be taken for an error of the engine."""

    async def sending(message: Message) -> None:
        try:
            await send(message)
        except OSError:
            raise ClientDisconnect from None

    return sending


async def _gone(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass

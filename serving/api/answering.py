"""From an engine's pieces to a response: the answer as it grows, and what becomes of it when a side goes away.

The response itself asks the engine. So an error before the first token is an answer with its own status; one after it is
told in the stream, as an event with an `error` and without a [DONE] after it. And a client that leaves closes the engine's
iterator at once, whether it waits for a stream, for a whole answer or in the queue.
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
from serving.api.wire import Form, StreamForm
from serving.engines.contract import EngineClient, EngineError, GenerationFailed, Piece, Request
from serving.text import Alphabet, GrowingText

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Tokens of an answer and the text that they complete. The last part, and only it, has a finish reason."""

    text: str
    tokens: tuple[int, ...]
    finish: str | None


@dataclass(frozen=True)
class Wanted:
    """An answer that is wanted."""

    request: Request
    alphabet: Alphabet
    stops: tuple[str, ...] = ()
    continues: bool = False
    """It goes on from the prompt's text."""

    async def parts(self, engine: EngineClient) -> AsyncGenerator[Part, None]:
        """The answer as it grows, up to its end or a stop string.

        Raises:
            EngineError: there is no answer, or it broke off.
        """
        text = GrowingText(self.alphabet, self.stops, self.continues)
        async with aclosing(engine.generate(self.request)) as pieces:
            async for piece in pieces:
                part = _part(piece, text)
                yield part
                if part.finish:
                    return
        raise GenerationFailed("the engine ended the answer without saying why")


def _part(piece: Piece, text: GrowingText) -> Part:
    """Token by token, so that an answer does not depend on how its tokens came together."""
    said = []
    for count, token in enumerate(piece.tokens, 1):
        said.append(text.add(token))
        if text.stopped:
            return Part("".join(said), piece.tokens[:count], "stop")
    if piece.finish:
        said.append(text.rest())
    return Part("".join(said), piece.tokens, "stop" if text.stopped else piece.finish)


class _Answer(Response):
    """A response that is computed while its client is there."""

    def __init__(self, engine: EngineClient, wanted: Wanted) -> None:
        super().__init__(headers={"Cache-Control": "no-store"}, media_type=self.media_type)
        # The parent counts an empty body.
        self.raw_headers = [header for header in self.raw_headers if header[0] != b"content-length"]
        self._wanted = wanted
        self._parts = wanted.parts(engine)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; or stop when the client is gone."""
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
        """Raise why there is no answer. What nobody foresaw is logged here: the server would close the connection on it."""
        try:
            with contextlib.suppress(ClientDisconnect):
                work.result()
        except EngineError:
            raise
        except Exception as error:
            log.exception("%s failed", self._wanted.request.id)
            raise problem_of(error) from error

    async def _answer(self, send: Send) -> None:
        raise NotImplementedError

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})


class WholeAnswer(_Answer):
    """The answer in one piece."""

    media_type = "application/json"

    def __init__(self, engine: EngineClient, wanted: Wanted, form: Form) -> None:
        super().__init__(engine, wanted)
        self._form = form

    async def _answer(self, send: Send) -> None:
        text, tokens, finish = [], [], ""
        async with aclosing(self._parts) as parts:
            async for part in parts:
                text.append(part.text)
                tokens.extend(part.tokens)
                finish = part.finish or ""
        body = self._form.whole("".join(text), tokens, finish, len(self._wanted.request.prompt))
        self.raw_headers.append((b"content-length", str(len(body)).encode()))
        await self._start(send)
        await send({"type": "http.response.body", "body": body})


class StreamedAnswer(_Answer):
    """The answer as server-sent events."""

    media_type = sse.MEDIA_TYPE

    def __init__(self, engine: EngineClient, wanted: Wanted, form: StreamForm) -> None:
        super().__init__(engine, wanted)
        self._form = form

    async def _answer(self, send: Send) -> None:
        async with aclosing(self._events()) as events:
            first = await anext(events)
            await self._start(send)
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _events(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the stream, as they are to be sent together. An error is raised only before the first of them."""
        count, begun = 0, False
        try:
            async with aclosing(self._parts) as parts:
                async for part in parts:
                    count += len(part.tokens)
                    body = b"" if begun else self._form.opening()
                    if part.tokens or part.text:
                        body += self._form.chunk(part.text, part.tokens)
                    if part.finish:
                        body += self._form.closing(part.finish, len(self._wanted.request.prompt), count)
                    begun = True
                    yield body
        except Exception as error:
            if not begun:
                raise
            self._log(error, count)
            yield sse.encode(problem_of(error).body()).encode()

    def _log(self, error: Exception, count: int) -> None:
        expected = isinstance(error, EngineError)
        log.warning("%s broke off after %d tokens: %s", self._wanted.request.id, count, error, exc_info=None if expected else error)


def _sender(send: Send) -> Send:
    """A send that tells by its own error that the client is gone, and not one of the engine's."""

    async def sending(message: Message) -> None:
        try:
            await send(message)
        except OSError:
            raise ClientDisconnect from None

    return sending


async def _gone(receive: Receive) -> None:
    """Return when the client is."""
    while (await receive())["type"] != "http.disconnect":
        pass

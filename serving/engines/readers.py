"""What waits for one reader of an answer."""

from __future__ import annotations

import asyncio

from serving.engines.contract import EngineError, FinishReason, Piece


class Reader:
    """Gathers what came since the reader last looked; `whole`: all of it until the end. For one event loop, and one reader."""

    def __init__(self, whole: bool = False) -> None:
        self._whole = whole
        self._tokens: list[int] = []
        self._finish: FinishReason | None = None
        self._error: EngineError | None = None
        self._came = asyncio.Event()

    def put(self, what: Piece | EngineError) -> None:
        """This came; nothing does after an end."""
        if self._finish or self._error:
            return
        if isinstance(what, Piece):
            self._tokens += what.tokens
            self._finish = what.finish
            if self._whole and not what.finish:
                return
        else:
            self._error = what
        self._came.set()

    async def next(self) -> Piece:
        """All that has come, once something has. Not to be asked again after a finish reason.

        Raises:
            EngineError: what came last, when all tokens before it were given.
        """
        await self._came.wait()
        if self._error is None:
            self._came.clear()
        elif not self._tokens:
            raise self._error
        piece = Piece(tuple(self._tokens), self._finish)
        self._tokens.clear()
        return piece

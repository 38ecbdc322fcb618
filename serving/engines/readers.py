"""The buffer between the engine and the reader of one answer."""

from __future__ import annotations

import asyncio

from serving.engines.contract import EngineError, FinishReason, Piece


class Reader:
    """Collects what has come since the last call of `next`; with `whole`, until the answer ends. For one event loop and one reader."""

    def __init__(self, whole: bool = False) -> None:
        self._whole = whole
        self._tokens: list[int] = []
        self._finish: FinishReason | None = None
        self._error: EngineError | None = None
        self._came = asyncio.Event()

    def put(self, what: Piece | EngineError) -> None:
        """Add a piece or an error. What comes after the end of the answer is ignored."""
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
        """Wait until something has come, and return all of it. Do not call this again after a finish reason.

        Raises:
            EngineError: the error that was put, when all tokens before it were returned.
        """
        await self._came.wait()
        if self._error is None:
            self._came.clear()
        elif not self._tokens:
            raise self._error
        piece = Piece(tuple(self._tokens), self._finish)
        self._tokens.clear()
        return piece

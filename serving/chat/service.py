"""The service as the chat sees it: OpenAI's API, asked until it answers or patience ends."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace

from openai import APIError, AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

from serving.chat import error_messages
from serving.chat.conversation import Answer, Exchange, messages

SILENCE_S = 180.0
"""Seconds without a byte before a connection counts as lost; longer than the service lets an answer take."""


@dataclass(frozen=True)
class Address:
    """Where the service is."""

    url: str
    """Without a path: http://HOST:PORT."""
    model: str = "mistral"
    api_key: str = field(default="", repr=False)
    """Empty: the service asks for none."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Address:
        """From LEEWARD_URL, LEEWARD_MODEL_NAME and LEEWARD_API_KEY.

        Raises:
            KeyError: there is no LEEWARD_URL.
        """
        return cls(env["LEEWARD_URL"].rstrip("/"), env.get("LEEWARD_MODEL_NAME", cls.model), env.get("LEEWARD_API_KEY", ""))


@dataclass(frozen=True)
class Options:
    """How a person wants to be answered."""

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 256
    """Of one answer."""
    system: str = ""
    """What the model is told before the conversation; empty: nothing."""


class NoAnswer(APIError):
    """What came is none of OpenAI's API: it ended before its first word, or another server is at the address."""

    def __init__(self) -> None:
        super().__init__("what came is no answer", None, body=None)  # type: ignore[arg-type]  # which request it was is all the same


class Service:
    """The service, for any number of conversations at once.

    A head that dies is no matter: requests do not go through it. A worker that dies breaks a connection, and the next
    attempt finds another one.
    """

    def __init__(self, address: Address, patience_s: float = 60.0) -> None:
        self._model, self._patience_s = address.model, patience_s
        self._client = AsyncOpenAI(
            base_url=f"{address.url}/v1",
            api_key=address.api_key or "none",  # the client insists on one
            max_retries=0,  # its own retries would be silent
            timeout=Timeout(SILENCE_S, connect=5.0),
            http_client=DefaultAsyncHttpxClient(trust_env=False),  # next door: never through a proxy
        )

    async def note(self) -> str:
        """What the service says about its model, for a person to know before talking to it; empty: nothing.

        Raises:
            APIError: it cannot be asked.
        """
        with _understood():
            known = {model.id: model for model in (await self._client.models.list()).data}
        return str(getattr(known.get(self._model), "description", None) or "")

    async def answer(self, said: Sequence[Exchange], options: Options) -> AsyncGenerator[Answer, None]:
        """The answer to the last exchange as it grows; the last one stands. What goes wrong is told in it. Closing it closes
        the connection, and so the service computes no more."""
        until, left_out, attempt = time.monotonic() + self._patience_s, 0, 0
        yield Answer(waiting="Waiting for the answer…")
        while True:
            try:
                async with aclosing(self._attempt(said[left_out:], options)) as answers:
                    async for answer in answers:
                        yield replace(answer, remarks=_left_out(left_out) + answer.remarks)
                return
            except APIError as error:
                if error_messages.too_long(error) and left_out < len(said) - 1:
                    left_out += 1
                    continue
                pause = error_messages.pause(error, attempt)
                if pause is None or time.monotonic() + pause > until:
                    yield Answer(remarks=(error_messages.no_answer(error),))
                    return
                yield Answer(waiting=error_messages.waiting(error))
                await asyncio.sleep(pause)
                attempt += 1

    async def _attempt(self, said: Sequence[Exchange], options: Options) -> AsyncGenerator[Answer, None]:
        """The answer from its first word on.

        Raises:
            APIError: there is none. After the first word nothing is raised: what has come stands, with a remark.
        """
        text, finish = "", ""
        try:
            async with aclosing(self._pieces(said, options)) as pieces:
                async for piece, why in pieces:
                    text, finish = text + piece, why or finish
                    if text:
                        yield Answer(text)
            if not (text or finish):
                raise NoAnswer
        except APIError as error:
            if not text:
                raise
            yield Answer(text, remarks=(error_messages.broke_off(error),))
        else:
            yield Answer(text, remarks=error_messages.ending(text, finish, options.max_tokens))

    async def _pieces(self, said: Sequence[Exchange], options: Options) -> AsyncGenerator[tuple[str, str], None]:
        """Text as it comes, and with the last of it why it ends: "stop" or "length"."""
        stream = await self._client.chat.completions.create(
            model=self._model,
            messages=messages(said, options.system),  # type: ignore[arg-type]  # plain dictionaries are what it sends
            temperature=options.temperature,
            top_p=options.top_p,
            max_tokens=options.max_tokens,
            stream=True,
        )
        with _understood():
            async with stream:
                async for chunk in stream:
                    for choice in chunk.choices:
                        yield choice.delta.content or "", choice.finish_reason or ""


@contextmanager
def _understood() -> Iterator[None]:
    """The client takes what comes for what it should be, and stumbles later.

    Raises:
        NoAnswer: it did.
    """
    try:
        yield
    except (AttributeError, TypeError, ValueError) as error:
        raise NoAnswer from error


def _left_out(count: int) -> tuple[str, ...]:
    return (error_messages.left_out(count),) if count else ()

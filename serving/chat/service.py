"""The chat's client of the service: OpenAI's API, tried until it answers or a time limit."""

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
"""Seconds without a byte after which a connection counts as lost; longer than the service's deadline for an answer."""


@dataclass(frozen=True)
class Address:
    """Address of the service, and what a request needs."""

    url: str
    """URL without a path: http://HOST:PORT."""
    model: str = "mistral"
    api_key: str = field(default="", repr=False)
    """Key of the service; empty: it needs none."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Address:
        """Read LEEWARD_URL, LEEWARD_MODEL_NAME and LEEWARD_API_KEY.

        Raises:
            KeyError: there is no LEEWARD_URL.
        """
        return cls(env["LEEWARD_URL"].rstrip("/"), env.get("LEEWARD_MODEL_NAME", cls.model), env.get("LEEWARD_API_KEY", ""))


@dataclass(frozen=True)
class Options:
    """Settings of the user for an answer."""

    temperature: float = 0.2
    top_p: float = 0.9
    """What the makers of SmolLM2 recommend, with that temperature. At 0.7 so small a model names Lionelines as the capital of France."""
    max_tokens: int = 256
    """Tokens of one answer at most."""
    system: str = ""
    """System prompt; empty: none."""


@dataclass(frozen=True)
class About:
    """What the service says about its model."""

    note: str = ""
    """Description, which the page shows above the conversation; empty: there is none."""
    max_tokens: int = 0
    """Tokens of the longest answer that it gives; 0: it does not say."""


class NoAnswer(APIError):
    """The response is not one of OpenAI's API: it ended before its first token, or another server has the address."""

    def __init__(self) -> None:
        super().__init__("what came is no answer", None, body=None)  # type: ignore[arg-type]  # the request is not used


class Service:
    """A client of the service, for any number of conversations at the same time.

    The death of a head has no effect: requests do not go through it. The death of a worker breaks a connection, and the next attempt
    reaches another worker.
    """

    def __init__(self, address: Address, patience_s: float = 60.0) -> None:
        self._model, self._patience_s = address.model, patience_s
        self._client = AsyncOpenAI(
            base_url=f"{address.url}/v1",
            api_key=address.api_key or "none",  # the client requires one
            max_retries=0,  # the client's own retries would not be visible on the page
            timeout=Timeout(SILENCE_S, connect=5.0),
            http_client=DefaultAsyncHttpxClient(trust_env=False),  # the service is in the same cluster: never use a proxy
        )

    async def aclose(self) -> None:
        """Close the connections to the service."""
        await self._client.close()

    async def about(self) -> About:
        """Return what the service says about its model.

        Raises:
            APIError: the service cannot be reached.
        """
        with _malformed_is_no_answer():
            known = {model.id: model for model in (await self._client.models.list()).data}
        model = known.get(self._model)
        return About(str(getattr(model, "description", None) or ""), int(getattr(model, "max_completion_tokens", None) or 0))

    async def answer(self, conversation: Sequence[Exchange], options: Options) -> AsyncGenerator[Answer, None]:
        """Yield the answer to the last exchange as it grows; each one replaces the one before. Errors become remarks in it. Closing the
        generator closes the connection, so that the service stops computing."""
        until, left_out, attempt = time.monotonic() + self._patience_s, 0, 0
        yield Answer(waiting="Waiting for the answer…")
        while True:
            try:
                async with aclosing(self._attempt(conversation[left_out:], options)) as answers:
                    async for answer in answers:
                        yield replace(answer, remarks=_left_out(left_out) + answer.remarks)
                return
            except APIError as error:
                if error_messages.too_long(error) and left_out < len(conversation) - 1:
                    left_out += 1
                    continue
                pause = error_messages.pause(error, attempt)
                if pause is None or time.monotonic() + pause > until:
                    yield Answer(remarks=(error_messages.no_answer(error),))
                    return
                yield Answer(waiting=error_messages.waiting(error))
                await asyncio.sleep(pause)
                attempt += 1

    async def _attempt(self, conversation: Sequence[Exchange], options: Options) -> AsyncGenerator[Answer, None]:
        """Yield the answer from its first text on.

        Raises:
            APIError: there is none. After the first text nothing is raised: the text stays, with a remark.
        """
        text, finish = "", ""
        try:
            async with aclosing(self._pieces(conversation, options)) as pieces:
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

    async def _pieces(self, conversation: Sequence[Exchange], options: Options) -> AsyncGenerator[tuple[str, str], None]:
        """Yield text as it comes, and with the last text the finish reason: "stop" or "length"."""
        stream = await self._client.chat.completions.create(
            model=self._model,
            messages=messages(conversation, options.system),  # type: ignore[arg-type]  # the client sends plain dictionaries as they are
            temperature=options.temperature,
            top_p=options.top_p,
            max_tokens=options.max_tokens,
            stream=True,
        )
        with _malformed_is_no_answer():
            async with stream:
                async for chunk in stream:
                    for choice in chunk.choices:
                        yield choice.delta.content or "", choice.finish_reason or ""


@contextmanager
def _malformed_is_no_answer() -> Iterator[None]:
    """Turn the errors that a malformed response causes into NoAnswer: the client does not validate a response, and fails later.

    Raises:
        NoAnswer: the response is malformed.
    """
    try:
        yield
    except (AttributeError, TypeError, ValueError) as error:
        raise NoAnswer from error


def _left_out(count: int) -> tuple[str, ...]:
    return (error_messages.left_out(count),) if count else ()

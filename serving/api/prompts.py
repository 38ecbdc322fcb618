"""From what a request says to what an engine is asked: the prompt's tokens, how long the answer may be, how it is drawn."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence

from serving.api.answering import Wanted
from serving.api.bodies import Body, ChatBody, CompletionBody
from serving.api.problems import TOO_LONG, Problem
from serving.engines.contract import EngineClient, Limits, NotReady, Request, Sampling
from serving.settings import Settings
from serving.tokenizer import BadConversation, Message, Tokenizer
from serving.waiting import in_time

READY_WITHIN_S = 5.0
"""Seconds in which an engine that can answer says so."""
LONG = 4096
"""Characters from which a text is encoded in a thread: some 2 ms, in which no stream would go on."""
EACH = 64
"""Characters that take as long as a text does besides its own: a turn of a conversation, or a part of one."""


class Prompts:
    """Makes requests for one engine."""

    def __init__(self, engine: EngineClient, tokenizer: Tokenizer, settings: Settings) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._alphabet = tokenizer.alphabet
        self._settings = settings
        self._limits: Limits | None = None

    async def ready(self) -> Limits:
        """The engine's limits, asked of it now.

        Raises:
            NotReady: it cannot answer, or did not say in time.
        """
        try:
            self._limits = await in_time(self._engine.ready(), READY_WITHIN_S)
        except asyncio.TimeoutError:
            raise NotReady("the engine does not answer; it may be starting") from None
        return self._limits

    async def of_chat(self, body: ChatBody) -> Wanted:
        """The answer to a conversation.

        Raises:
            Problem: a parameter is wrong, or the conversation is too long.
            NotReady: the engine was never asked before, and does not answer.
        """
        self._check(body)
        if body.max_tokens and body.max_completion_tokens:
            raise Problem(400, "'max_completion_tokens' and 'max_tokens' are the same; give one", "invalid_value", "max_completion_tokens")
        turns = [_message(turn.role, turn.content) for turn in body.messages]
        prompt = await self.of_conversation(turns, "messages")
        name = "max_completion_tokens" if body.max_completion_tokens else "max_tokens"
        return self._wanted("chatcmpl", prompt, body, "messages", name)

    async def of_completion(self, body: CompletionBody) -> Wanted:
        """What goes on from a text; raises as `of_chat`."""
        self._check(body)
        given = body.prompt[0] if isinstance(body.prompt, list) and isinstance(body.prompt[0], str) else body.prompt
        if isinstance(given, str):
            prompt = await self._encoded([given], lambda: self._tokenizer.completion(given), "prompt")
        else:
            prompt = [int(id) for id in given]
            self._check_ids(prompt, await self._known())
        # After nothing the first word begins a text.
        return self._wanted("cmpl", prompt, body, "prompt", "max_tokens", continues=bool(given))

    async def of_sentence(self, sentence: str, max_tokens: int | None) -> Wanted:
        """The likeliest answer to one sentence; raises as `of_chat`."""
        prompt = await self.of_conversation([Message("user", sentence)], "sentence")
        return self._wanted("infer", prompt, Body(max_tokens=max_tokens, temperature=0.0), "sentence", "max_tokens")

    async def of_conversation(self, turns: Sequence[Message], param: str) -> list[int]:
        """A conversation's tokens."""
        try:
            return await self._encoded([part for turn in turns for part in turn.parts], lambda: self._tokenizer.chat(turns), param)
        except BadConversation as error:
            raise Problem(400, f"{param!r}: {error}", "invalid_value", param) from None

    async def _known(self) -> Limits:
        return self._limits or await self.ready()

    async def _encoded(self, texts: Sequence[str], encode: Callable[[], list[int]], param: str) -> list[int]:
        """Tokens; a text that can only be too long is refused without encoding it."""
        most = _longest(await self._known())
        # Empty ones have no tokens of their own, and a body has room for so many that the template takes minutes.
        if len(texts) > most:
            raise Problem(400, f"{param!r} has {len(texts)} texts; at most {most} are taken", TOO_LONG, param)
        if (least := sum(map(self._tokenizer.at_least, texts))) > most:
            raise Problem(400, f"the prompt has at least {least} tokens; at most {most} are taken", TOO_LONG, param)
        return await asyncio.to_thread(encode) if sum(len(text) + EACH for text in texts) > LONG else encode()

    def _check(self, body: Body) -> None:
        if body.model not in (None, self._settings.model_name):
            raise Problem(404, f"no such model; {self._settings.model_name!r} is served", "model_not_found", "model")
        if body.stream_options and not body.stream:
            raise Problem(400, "'stream_options' is for streams: it needs 'stream': true", "invalid_value", "stream_options")

    def _check_ids(self, ids: Sequence[int], limits: Limits) -> None:
        if (most := max(ids)) >= limits.vocabulary:
            raise Problem(400, f"'prompt' has token id {most}; the largest is {limits.vocabulary - 1}", "invalid_value", "prompt")

    def _wanted(self, kind: str, prompt: list[int], body: Body, param: str, length_param: str, continues: bool = False) -> Wanted:
        asked: int | None = getattr(body, length_param)
        limits = self._limits
        assert limits  # known since the prompt was made
        stops = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
        request = Request(
            id=f"{kind}-{uuid.uuid4().hex}",
            prompt=tuple(prompt),
            max_tokens=_room(len(prompt), asked, limits, self._settings.max_tokens, param, length_param),
            sampling=_sampling(body),
            within_s=self._settings.deadline_s,
            # A stop string is looked for as the answer grows, and ends it.
            whole=not body.stream and not stops,
        )
        return Wanted(request, self._alphabet, stops, continues)


def _message(role: str, content: object) -> Message:
    text = content if isinstance(content, str) else tuple(part.text for part in content)  # type: ignore[attr-defined]
    return Message("system" if role == "developer" else role, text)  # type: ignore[arg-type]


def _sampling(body: Body) -> Sampling:
    return Sampling(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=max(body.top_k or 0, 0),
        # OpenAI's seeds may be negative; a generator's may not.
        seed=None if body.seed is None else body.seed % 2**64,
    )


def _longest(limits: Limits) -> int:
    """Tokens of the longest prompt that leaves room for an answer."""
    return min(limits.max_prompt, limits.positions - 1)


def _room(prompt: int, asked: int | None, limits: Limits, most: int, param: str, length_param: str) -> int:
    """Tokens that the answer may have: as many as asked for, else as many as fit.

    Raises:
        Problem: so many never are, or there is no place for them.
    """
    if asked and asked > most:
        raise Problem(400, f"{length_param!r} is {asked}; at most {most} are given", "invalid_value", length_param)
    if prompt > (longest := _longest(limits)):
        raise Problem(400, f"the prompt has {prompt} tokens; at most {longest} are taken", TOO_LONG, param)
    if prompt < limits.min_prompt:
        raise Problem(400, f"the prompt has {prompt} tokens; at least {limits.min_prompt} are needed", "invalid_value", param)
    if asked and prompt + asked > limits.positions:
        told = f"the prompt has {prompt} tokens and {asked} are asked for; together at most {limits.positions} are possible"
        raise Problem(400, told, TOO_LONG, param)
    return min(asked or most, limits.positions - prompt)

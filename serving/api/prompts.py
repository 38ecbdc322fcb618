"""From an HTTP request to a request for the engine: the prompt's tokens, the length of the answer, the sampling."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence

from serving.api.answering import PreparedRequest
from serving.api.bodies import Body, ChatBody, CompletionBody
from serving.api.problems import TOO_LONG, Problem
from serving.engines.contract import EngineClient, Limits, NotReady, Request, Sampling
from serving.settings import Settings
from serving.tokenizer import BadConversation, Message, Tokenizer
from serving.waiting import with_timeout

READY_WITHIN_S = 5.0
"""Seconds in which an engine must report that it is ready."""
LONG = 4096
"""Characters from which a text is encoded in a thread: this takes about 2 ms, in which all streams would stand still."""
EACH = 64
"""Characters that cost as much as each separate text does (a turn of a conversation, or a part of one), besides its length."""


class Prompts:
    """Prepares requests for one engine."""

    def __init__(self, engine: EngineClient, tokenizer: Tokenizer, settings: Settings) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._token_bytes = tokenizer.token_bytes
        self._settings = settings
        self._limits: Limits | None = None

    async def ready(self) -> Limits:
        """Ask the engine for its limits now.

        Raises:
            NotReady: the engine cannot answer, or did not reply in time.
        """
        try:
            self._limits = await with_timeout(self._engine.ready(), READY_WITHIN_S)
        except asyncio.TimeoutError:
            raise NotReady("the engine does not answer; it may be starting") from None
        return self._limits

    async def prepare_chat(self, body: ChatBody) -> PreparedRequest:
        """Prepare the answer to a conversation.

        Raises:
            Problem: a parameter is wrong, or the conversation is too long.
            NotReady: the engine's limits are not known yet, and it does not answer.
        """
        self._check(body)
        if body.max_completion_tokens and body.max_tokens not in (None, body.max_completion_tokens):
            message = "'max_completion_tokens' and 'max_tokens' are the same: give one, or both with one value"
            raise Problem(400, message, "invalid_value", "max_completion_tokens")
        turns = [_message(turn.role, turn.content) for turn in body.messages]
        prompt = await self.encode_conversation(turns, "messages")
        name = "max_completion_tokens" if body.max_completion_tokens else "max_tokens"
        return self._prepare("chatcmpl", prompt, body, "messages", name)

    async def prepare_completion(self, body: CompletionBody) -> PreparedRequest:
        """Prepare the continuation of a text. Raises what `prepare_chat` does."""
        self._check(body)
        given = body.prompt[0] if isinstance(body.prompt, list) and isinstance(body.prompt[0], (str, list)) else body.prompt
        if isinstance(given, str):
            prompt = await self._encoded([given], lambda: self._tokenizer.completion(given), "prompt")
        else:
            prompt = [int(id) for id in given]
            self._check_ids(prompt, await self._known())
        # After an empty prompt the first word begins a text.
        return self._prepare("cmpl", prompt, body, "prompt", "max_tokens", continues=bool(given))

    async def prepare_sentence(self, sentence: str, max_tokens: int | None) -> PreparedRequest:
        """Prepare the likeliest answer to one sentence. Raises what `prepare_chat` does."""
        prompt = await self.encode_conversation([Message("user", sentence)], "sentence")
        return self._prepare("infer", prompt, Body(max_tokens=max_tokens, temperature=0.0), "sentence", "max_tokens")

    async def encode_conversation(self, turns: Sequence[Message], param: str) -> list[int]:
        """Return the tokens of a conversation."""
        try:
            return await self._encoded([part for turn in turns for part in turn.parts], lambda: self._tokenizer.chat(turns), param)
        except BadConversation as error:
            raise Problem(400, f"{param!r}: {error}", "invalid_value", param) from None

    async def _known(self) -> Limits:
        return self._limits or await self.ready()

    async def _encoded(self, texts: Sequence[str], encode: Callable[[], list[int]], param: str) -> list[int]:
        """Encode the texts; refuse without encoding what is certainly too long."""
        most = (await self._known()).longest_prompt
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

    def _prepare(self, kind: str, prompt: list[int], body: Body, param: str, length_param: str, continues: bool = False) -> PreparedRequest:
        asked: int | None = getattr(body, length_param)
        limits = self._limits
        assert limits  # known since the prompt was encoded
        stops = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
        request = Request(
            id=f"{kind}-{uuid.uuid4().hex}",
            prompt=tuple(prompt),
            max_tokens=_room(len(prompt), asked, limits, self._settings.max_tokens, param, length_param),
            sampling=_sampling(body),
            within_s=self._settings.deadline_s,
            # Stop strings are searched for while the answer grows, because one ends it.
            whole=not body.stream and not stops,
        )
        return PreparedRequest(request, self._token_bytes, stops, continues)


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


def _room(prompt: int, asked: int | None, limits: Limits, most: int, param: str, length_param: str) -> int:
    """Return the tokens that the answer may have: as many as requested, or as many as fit.

    Raises:
        Problem: the requested number is over the server's limit, or does not fit after the prompt.
    """
    if asked and asked > most:
        raise Problem(400, f"{length_param!r} is {asked}; at most {most} are given", "invalid_value", length_param)
    if prompt > limits.longest_prompt:
        raise Problem(400, f"the prompt has {prompt} tokens; at most {limits.longest_prompt} are taken", TOO_LONG, param)
    if prompt < limits.min_prompt:
        raise Problem(400, f"the prompt has {prompt} tokens; at least {limits.min_prompt} are needed", "invalid_value", param)
    if asked and prompt + asked > limits.positions:
        message = f"the prompt has {prompt} tokens and {asked} are asked for; together at most {limits.positions} are possible"
        raise Problem(400, message, TOO_LONG, param)
    return min(asked or most, limits.positions - prompt)

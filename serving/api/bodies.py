"""What the two POST endpoints take: OpenAI's parameters, each with what this service makes of it.

Three kinds: those that shape the answer; those that change nothing (`user`, `metadata`), taken and left; and those that
are not supported, taken only with the value that means "not given", so that a client which sends all of them works.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


def _whole_characters(text: str) -> str:
    """JSON can write half of a surrogate pair, which is no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("not_unicode", "holds half of a character (a lone surrogate)") from None
    return text


class Only:
    """Marks a parameter that is not supported: null, or one of the values that mean "not given"."""

    def __init__(self, *neutral: Any) -> None:
        self._neutral = (None, *neutral)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """How pydantic checks it."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """How the OpenAPI document tells it."""
        return {"enum": [*self._neutral], "description": "Not supported: no other values than these."}

    def _check(self, value: Any) -> None:
        # To Python True is 1; to JSON it is not.
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self._neutral):
            raise PydanticCustomError("not_supported", "is not supported")


Text = Annotated[str, AfterValidator(_whole_characters)]
Stop = Annotated[Text, Field(min_length=1)]
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
TokenId = Annotated[Whole, Field(ge=0)]

ONE_OR_MORE = Field(min_length=1, fail_fast=True)
"""Items of a list, of which the first error is told: an error of each may be a thousand times as large as the list."""

Null = Annotated[Any, Only()]
Off = Annotated[Any, Only(False)]
One = Annotated[Any, Only(1)]
Zero = Annotated[Any, Only(0)]
Nothing = Annotated[Any, Only([])]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        """One error for the first name that is not known: pydantic makes one of each, half a million of 4 MB."""
        unknown = next((name for name in given if name not in cls.model_fields), None) if isinstance(given, dict) else None
        if unknown is not None:
            # Half of a character in it is told as JSON writes it: neither pydantic nor an answer can hold one.
            raise PydanticCustomError("not_known", "is not a known parameter", {"name": unknown.encode(errors="backslashreplace").decode()})
        return given


class StreamOptions(_Strict):
    """How a stream is told."""

    include_usage: Flag | None = None
    """A chunk more before the end, with the count of tokens."""
    include_obfuscation: Off = None


class Body(_Strict):
    """What both endpoints take."""

    model: Text | None = None
    """The one that is served; may be left out."""
    max_tokens: Annotated[Whole, Field(ge=1)] | None = None
    """Of the answer. Left out: as many as fit, up to the server's limit."""
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[Whole, Field(ge=-1)] | None = None
    """Only so many of the likeliest tokens; 0 or -1: all. Not OpenAI's."""
    seed: Annotated[Whole, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Field(min_length=1, max_length=4)] | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: Flag | None = None
    """Each choice also has `token_ids`. Not OpenAI's; vLLM's."""

    user: Text | None = None
    metadata: dict[str, Any] | None = None
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Text | None = None

    n: One = None
    presence_penalty: Zero = None
    frequency_penalty: Zero = None
    logit_bias: Annotated[Any, Only({})] = None


class TextPart(_Strict):
    """A part of a message."""

    type: Literal["text"]
    text: Text
    prompt_cache_breakpoint: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, given: Any) -> Any:
        """That an image is one says more than that its `image_url` is not known."""
        if isinstance(given, dict) and given.get("type", "text") != "text":
            raise PydanticCustomError("not_text", "must be of type text")
        return given


class ChatMessage(_Strict):
    """A turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], ONE_OR_MORE]

    # An answer of ours, given back as part of the next question, has these.
    name: Null = None
    refusal: Null = None
    annotations: Nothing = None
    audio: Null = None
    function_call: Null = None
    tool_calls: Nothing = None


class ChatBody(Body):
    """What POST /v1/chat/completions takes."""

    messages: Annotated[list[ChatMessage], ONE_OR_MORE]
    max_completion_tokens: Annotated[Whole, Field(ge=1)] | None = None
    """OpenAI's newer name of `max_tokens`."""
    service_tier: Annotated[Any, Only("auto", "default")] = None

    logprobs: Off = None
    top_logprobs: Zero = None
    tools: Nothing = None
    tool_choice: Annotated[Any, Only("none")] = None
    parallel_tool_calls: Annotated[Any, Only(True, False)] = None
    functions: Nothing = None
    function_call: Annotated[Any, Only("none")] = None
    response_format: Annotated[Any, Only({"type": "text"})] = None
    modalities: Annotated[Any, Only(["text"])] = None
    audio: Null = None
    prediction: Null = None
    reasoning_effort: Null = None
    verbosity: Null = None
    web_search_options: Null = None
    store: Off = None
    moderation: Null = None


class CompletionBody(Body):
    """What POST /v1/completions takes."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=1)] | Annotated[list[TokenId], ONE_OR_MORE]

    best_of: One = None
    echo: Off = None
    logprobs: Null = None
    suffix: Null = None

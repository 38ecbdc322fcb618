"""The request bodies of the two POST endpoints: OpenAI's parameters, and what this service does with each.

There are three kinds: parameters that shape the answer; parameters that are accepted and change nothing (`user`, `metadata`, `name`); and
parameters that are not supported, accepted only with the value that means "not given", so that a client which sends all of them works.
Null means "not given" for every name, also for one that is not known: clients write out the fields of their own objects.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


def _whole_characters(text: str) -> str:
    """Refuse text with half of a surrogate pair: JSON can write it, but it is not a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("not_unicode", "holds half of a character (a lone surrogate)") from None
    return text


class Only:
    """Marks a parameter that is not supported. It accepts null and the values that mean "not given"."""

    def __init__(self, *neutral: Any) -> None:
        self._neutral = (None, *neutral)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return how pydantic checks the value."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return how the OpenAPI document describes the value."""
        return {"enum": [*self._neutral], "description": "Not supported: no other values than these."}

    def _check(self, value: Any) -> None:
        # In Python True == 1; in JSON they differ.
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self._neutral):
            raise PydanticCustomError("not_supported", "is not supported")


Text = Annotated[str, AfterValidator(_whole_characters)]
Stop = Annotated[Text, Field(min_length=1)]
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
TokenId = Annotated[Whole, Field(ge=0)]

ONE_OR_MORE = Field(min_length=1, fail_fast=True)
"""A non-empty list. Only the first error of its items is reported: one error for each could be a thousand times as large as the list."""

Null = Annotated[Any, Only()]
Off = Annotated[Any, Only(False)]
One = Annotated[Any, Only(1)]
Zero = Annotated[Any, Only(0)]
Nothing = Annotated[Any, Only([])]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"additionalProperties": {"type": "null"}})

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        """Drop unknown names whose value is null; report the first other one only: pydantic reports each, half a million for 4 MB."""
        if not isinstance(given, dict) or given.keys() <= cls.model_fields.keys():
            return given
        unknown = next((name for name, value in given.items() if name not in cls.model_fields and value is not None), None)
        if unknown is not None:
            # Half of a surrogate pair in it is escaped, as JSON does: neither pydantic nor a response can hold one.
            raise PydanticCustomError("not_known", "is not a known parameter", {"name": unknown.encode(errors="backslashreplace").decode()})
        return {name: value for name, value in given.items() if name in cls.model_fields}


class StreamOptions(_Strict):
    """Options of a stream."""

    include_usage: Flag | None = None
    """Whether one more chunk before the end has the number of tokens."""
    continuous_usage_stats: Flag | None = None
    """Whether, with `include_usage`, every chunk has the number of tokens so far. Part of vLLM's API, not of OpenAI's."""
    include_obfuscation: Off = None


class Body(_Strict):
    """The parameters of both endpoints."""

    model: Text | None = None
    """Name of the served model; may be left out."""
    max_tokens: Annotated[Whole, Field(ge=1)] | None = None
    """Tokens of the answer at most. Left out: as many as fit, up to the server's limit."""
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[Whole, Field(ge=-1)] | None = None
    """Draw only from this many of the likeliest tokens; 0 or -1: from all. Not part of OpenAI's API."""
    seed: Annotated[Whole, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: Flag | None = None
    """Whether each choice also has `token_ids`. Part of vLLM's API, not of OpenAI's."""

    user: Text | None = None
    metadata: dict[str, Any] | None = None
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Text | None = None

    ignore_eos: Off = None
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
        """Refuse an image as an image: this says more than that its `image_url` is not known."""
        if isinstance(given, dict) and given.get("type", "text") != "text":
            raise PydanticCustomError("not_text", "must be of type text")
        return given


class ChatMessage(_Strict):
    """A turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], ONE_OR_MORE]

    name: Text | None = None
    """Name of who speaks. It changes nothing: the chat templates of these models have no place for it."""

    # A client that sends an earlier answer back as part of the conversation sends these fields, too.
    refusal: Null = None
    annotations: Nothing = None
    audio: Null = None
    function_call: Null = None
    tool_calls: Nothing = None


class ChatBody(Body):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], ONE_OR_MORE]
    max_completion_tokens: Annotated[Whole, Field(ge=1)] | None = None
    """Newer name of `max_tokens` in OpenAI's API."""
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
    """The body of POST /v1/completions."""

    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=1)]
        | Annotated[list[TokenId], ONE_OR_MORE]
        | Annotated[list[Annotated[list[TokenId], ONE_OR_MORE]], Field(min_length=1, max_length=1)]
    )

    best_of: One = None
    echo: Off = None
    logprobs: Null = None
    suffix: Null = None

"""A chat template as transformers knows it: Jinja, in `chat_template.jinja` or in `tokenizer_config.json`.

A template comes with the checkpoint, so it runs in a sandbox that lets it change nothing. It sees what transformers would give it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from serving.tokenizer.conversation import BadConversation


class BadTemplate(ValueError):
    """The chat template cannot be read; the message says why."""


class _Generation(Extension):
    """Renders what stands between `generation` and `endgeneration`, which mark the assistant's words for a training."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """Return the statements inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """The chat template of one checkpoint."""

    def __init__(self, source: str, variables: Mapping[str, str] | None = None) -> None:
        """Compile the template. `variables` are further names that it may use, such as bos_token.

        Raises:
            BadTemplate: it is no template.
        """
        extensions = [_Generation, "jinja2.ext.loopcontrols"]
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
        environment.filters["tojson"] = _to_json
        environment.globals.update(raise_exception=_refuse, strftime_now=lambda form: datetime.now().strftime(form))
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise BadTemplate(f"the chat template: {error}, line {error.lineno}") from error
        self._variables = {"tools": None, "documents": None, **(variables or {})}

    @classmethod
    def read(cls, folder: Path) -> ChatTemplate | None:
        """Return the template of a checkpoint; None if it has none, as models that were not trained to chat.

        Raises:
            BadTemplate: it is no template.
        """
        file, given = folder / "tokenizer_config.json", folder / "chat_template.jinja"
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        source = given.read_text(encoding="utf-8") if given.exists() else config.get("chat_template")
        if isinstance(source, list):  # several with names
            source = {one["name"]: one["template"] for one in source}.get("default")
        contents = {name: one.get("content") if isinstance(one, dict) else one for name, one in config.items() if name.endswith("_token")}
        return cls(source, {name: one for name, one in contents.items() if isinstance(one, str)}) if source else None

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the text of a conversation, up to where the assistant's next words begin.

        Raises:
            BadConversation: the template refuses it.
        """
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._variables)
        except TemplateError as error:
            raise BadConversation(f"the chat template does not accept this: {error.message}") from None


def _refuse(why: str) -> NoReturn:
    raise TemplateError(why)


def _to_json(value: Any, **options: Any) -> str:
    """Write JSON without Jinja's escapes for HTML."""
    return json.dumps(value, **{"ensure_ascii": False, **options})

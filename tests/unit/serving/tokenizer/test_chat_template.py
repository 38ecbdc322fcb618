"""Chat templates are found where transformers looks for them, see what it gives them, and can do no harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serving.tokenizer.chat_template import BadTemplate, ChatTemplate
from serving.tokenizer.conversation import BadConversation

HELLO = [{"role": "user", "content": "Hello"}]
ECHO = "{{ bos_token }}{{ messages[0].content }}"


def read(folder: Path, config: dict[str, Any]) -> ChatTemplate | None:
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return ChatTemplate.read(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"chat_template": ECHO, "bos_token": "<s>"},
        {"chat_template": [{"name": "tool_use", "template": "x"}, {"name": "default", "template": ECHO}], "bos_token": {"content": "<s>"}},
    ],
)
def test_a_template_stands_in_the_tokenizers_configuration(tmp_path: Path, config: dict[str, Any]) -> None:
    found = read(tmp_path, config)
    assert found
    assert found.render(HELLO) == "<s>Hello"


def test_a_file_of_its_own_comes_first(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ eos_token }}")
    found = read(tmp_path, {"chat_template": ECHO, "eos_token": "</s>"})
    assert found
    assert found.render(HELLO) == "</s>"


@pytest.mark.parametrize("config", [{}, {"chat_template": None}, {"chat_template": [{"name": "rag", "template": "x"}]}])
def test_a_model_may_have_no_template(tmp_path: Path, config: dict[str, Any]) -> None:
    assert ChatTemplate.read(tmp_path) is None
    assert read(tmp_path, config) is None


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for m in messages %}\n  {% if loop.first %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}\n", "user\n"),
        ("{% for n in [1, 2, 3] %}{% if n == 2 %}{% break %}{% endif %}{{ n }}{% endfor %}", "1"),
        ("{{ {'a': '<é>'} | tojson }}", '{"a": "<é>"}'),
        ("{% generation %}{{ 'a' }}{% endgeneration %}{% if tools is none and not documents %}b{% endif %}", "ab"),
        ("{{ strftime_now('%%') }}{% if add_generation_prompt %}!{% endif %}{{ nowhere }}", "%!"),
    ],
)
def test_a_template_sees_what_transformers_gives_it(source: str, text: str) -> None:
    assert ChatTemplate(source).render(HELLO) == text


@pytest.mark.parametrize("source", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ messages[0].update(role='system') }}"])
def test_a_template_reaches_nothing_outside_and_changes_nothing(source: str) -> None:
    with pytest.raises(BadConversation):
        ChatTemplate(source).render(HELLO)


def test_a_template_that_is_none_is_refused_with_its_line() -> None:
    with pytest.raises(BadTemplate, match="line 2"):
        ChatTemplate("\n{% if %}")

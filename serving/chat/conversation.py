"""What was said, and how the page shows it.

The page holds OpenAI's messages. Beside answers it shows remarks ("Stopped.", "The answer broke off: …"), which carry
metadata that answers never have: nobody said them, so they are never sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Shown = dict[str, Any]
"""A message of the page's list: role, content, and metadata when it is a remark."""

STOPPED = "Stopped."


@dataclass(frozen=True)
class Exchange:
    """What a person said, and what the model answered to it."""

    question: str
    answer: str = ""
    """Empty: not answered, or not yet."""


@dataclass(frozen=True)
class Answer:
    """What is to be seen of an answer at one moment."""

    text: str = ""
    """All that has come of it."""
    waiting: str = ""
    """Why nothing of it has come yet; empty once something has, or nothing will."""
    remarks: tuple[str, ...] = ()
    """What a person should know about it."""


def exchanges(shown: Iterable[Mapping[str, Any]]) -> list[Exchange]:
    """The conversation, without remarks. Questions that were never answered are left out, but for the last one: the model
    is told of turns that alternate."""
    found: list[Exchange] = []
    for message in shown:
        if message["role"] == "user":
            found.append(Exchange(_text(message)))
        elif found and not is_remark(message):
            found[-1] = Exchange(found[-1].question, found[-1].answer + _text(message))
    return [one for one in found[:-1] if one.answer] + found[-1:]


def messages(said: Sequence[Exchange], system: str = "") -> list[dict[str, str]]:
    """The conversation as OpenAI's API takes it; the last exchange is the one to be answered."""
    told = [{"role": "system", "content": system}] if system else []
    for one in said[:-1]:
        told += [{"role": "user", "content": one.question}, {"role": "assistant", "content": one.answer}]
    return [*told, {"role": "user", "content": said[-1].question}]


def asked(question: str) -> Shown:
    """A question on the page."""
    return {"role": "user", "content": _exact(question)}


def until_asked(shown: Sequence[Shown]) -> list[Shown]:
    """The page up to its last question, for asking it again; empty when nothing was asked."""
    last = max((at for at, message in enumerate(shown) if message["role"] == "user"), default=-1)
    return list(shown[: last + 1])


def answered(answer: Answer) -> list[Shown]:
    """An answer on the page, with its remarks."""
    said = [{"role": "assistant", "content": _exact(answer.text)}] if answer.text else []
    waits = [_remark(answer.waiting, pending=True)] if answer.waiting else []
    return [*said, *waits, *map(_remark, answer.remarks)]


def stopped(shown: Sequence[Shown]) -> list[Shown]:
    """The page after a person stopped the answer: what had come of it stays."""
    return [*(message for message in shown if not _is_pending(message)), _remark(STOPPED)]


def is_remark(message: Mapping[str, Any]) -> bool:
    """Whether nobody said it."""
    return bool((message.get("metadata") or {}).get("title"))


def _is_pending(message: Mapping[str, Any]) -> bool:
    return bool((message.get("metadata") or {}).get("status") == "pending")


def _remark(text: str, pending: bool = False) -> Shown:
    return {"role": "assistant", "content": _exact(""), "metadata": {"title": text, "status": "pending" if pending else "done"}}


def _exact(text: str) -> list[dict[str, str]]:
    # A bare string would lose its indentation: Gradio cleans it like a docstring.
    return [{"type": "text", "text": text}]


def _text(message: Mapping[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)

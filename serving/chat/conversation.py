"""The messages of a conversation, and how the page shows them.

The page keeps OpenAI's messages. Beside answers it shows remarks ("Stopped.", "The answer broke off: …"), which have metadata that answers
never have. Remarks are not part of the conversation and are never sent.
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
    """A message of the user, and the model's answer to it."""

    question: str
    answer: str = ""
    """Text of the answer; empty: there is none, or none yet."""


@dataclass(frozen=True)
class Answer:
    """An answer at one moment, as the page shows it."""

    text: str = ""
    """The text that has come so far."""
    waiting: str = ""
    """Reason why no text has come yet; empty once some has come, or none will."""
    remarks: tuple[str, ...] = ()
    """Remarks about the answer for the user."""


def exchanges(shown: Iterable[Mapping[str, Any]]) -> list[Exchange]:
    """Return the conversation without remarks. Questions without an answer are left out, except the last one: the model's template needs
    turns that alternate."""
    found: list[Exchange] = []
    for message in shown:
        if message["role"] == "user":
            found.append(Exchange(_text(message)))
        elif found and not is_remark(message):
            found[-1] = Exchange(found[-1].question, found[-1].answer + _text(message))
    return [one for one in found[:-1] if one.answer] + found[-1:]


def messages(conversation: Sequence[Exchange], system: str = "") -> list[dict[str, str]]:
    """Return the conversation as messages of OpenAI's API; the last exchange is the one to be answered."""
    found = [{"role": "system", "content": system}] if system else []
    for one in conversation[:-1]:
        found += [{"role": "user", "content": one.question}, {"role": "assistant", "content": one.answer}]
    return [*found, {"role": "user", "content": conversation[-1].question}]


def asked(question: str) -> Shown:
    """Return a question as the page shows it."""
    return {"role": "user", "content": _exact(question)}


def until_asked(shown: Sequence[Shown]) -> list[Shown]:
    """Return the page's messages up to the last question, to ask it again; empty if there is no question."""
    last = max((at for at, message in enumerate(shown) if message["role"] == "user"), default=-1)
    return list(shown[: last + 1])


def answered(answer: Answer) -> list[Shown]:
    """Return an answer and its remarks as the page shows them."""
    text = [{"role": "assistant", "content": _exact(answer.text)}] if answer.text else []
    waiting = [_remark(answer.waiting, pending=True)] if answer.waiting else []
    return [*text, *waiting, *map(_remark, answer.remarks)]


def stopped(shown: Sequence[Shown]) -> list[Shown]:
    """Return the page's messages after the user stopped the answer: the text that had come stays."""
    return [*(message for message in shown if not _is_pending(message)), _remark(STOPPED)]


def is_remark(message: Mapping[str, Any]) -> bool:
    """Return whether the message is a remark, and so not part of the conversation."""
    return bool((message.get("metadata") or {}).get("title"))


def _is_pending(message: Mapping[str, Any]) -> bool:
    return bool((message.get("metadata") or {}).get("status") == "pending")


def _remark(text: str, pending: bool = False) -> Shown:
    return {"role": "assistant", "content": _exact(""), "metadata": {"title": text, "status": "pending" if pending else "done"}}


def _exact(text: str) -> list[dict[str, str]]:
    # A plain string would lose its indentation: Gradio cleans it like a docstring.
    return [{"type": "text", "text": text}]


def _text(message: Mapping[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)

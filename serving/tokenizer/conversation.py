"""What a chat template turns into a prompt, and how it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


class BadConversation(ValueError):
    """The template does not accept these messages in this order; the message says why."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str | Sequence[str]
    """One text, or parts that the template joins."""

    @property
    def parts(self) -> Sequence[str]:
        """The texts of the message."""
        return (self.content,) if isinstance(self.content, str) else self.content

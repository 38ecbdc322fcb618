"""What is wrong with a parameter, in words: from pydantic's errors, which say it in its own terms.

An error has `type`, `loc` (where), `msg` and `input`; the input is never told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LONGEST_NAME = 64
"""Characters of a parameter's name that are repeated: a name that nobody knows is the client's text."""
_EXPECTED = {
    "prompt": "must be one text, a list with one text, or a list of token ids; several prompts are not supported",
    "stop": "must be a text or a list of one to four, none of them empty",
    "content": "must be a text or a list of parts of type text",
    "messages": "must be a list of at least one message",
}
"""Parameters that may be of several kinds, for which pydantic has an error each."""
_WORDS = {
    "missing": "is required",
    "not_known": "is not a known parameter",
    "not_supported": "is not supported",
    "not_text": "must be of type text; others are not supported",
}


def parameter_of(error: Mapping[str, Any], body: Any) -> str | None:
    """The parameter that an error is about, `messages.0.content`; None: the body as a whole.

    Of a parameter that may be of several kinds pydantic names the kind too; what is not to be found in the body is one.
    """
    source, *path = error["loc"]
    if source != "body" or error["type"] == "json_invalid":
        return ".".join(map(str, path)) if source != "body" and path else None
    names, at = [], body
    for step in path:
        if isinstance(at, Mapping) and (step in at or error["type"] == "missing"):
            at = at.get(step)
        elif isinstance(at, list) and isinstance(step, int) and step < len(at):
            at = at[step]
        else:
            continue
        names.append(str(step))
    if error["type"] == "not_known":
        names.append(error["ctx"]["name"][:LONGEST_NAME])
    return ".".join(names) or None


def sentence_of(error: Mapping[str, Any], param: str | None) -> str:
    """What is wrong, in a sentence."""
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error['ctx']['error']} at character {error['loc'][-1]}"
    if param is None:
        return "the body must be a JSON object, sent with Content-Type: application/json"
    what = _WORDS.get(error["type"]) or _expected(error, param) or _pydantics(error["msg"])
    return f"{param!r} {what}"


def _expected(error: Mapping[str, Any], param: str) -> str | None:
    """What the parameter must be, when the error is about its kind and not about something inside of it."""
    names = [name for name in param.split(".") if not name.isdigit()]
    return None if error["type"] == "not_unicode" else _EXPECTED.get(names[-1])


def _pydantics(message: str) -> str:
    return message.replace("Input should be", "must be", 1).replace("String should", "must", 1)

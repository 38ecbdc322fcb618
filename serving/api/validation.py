"""Messages about wrong parameters, made from pydantic's validation errors, which use pydantic's own terms.

An error has `type`, `loc` (where), `msg` and `input`; the input is never repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LONGEST_NAME = 64
"""Characters of a parameter's name that a message repeats: an unknown name is the client's text."""
_EXPECTED = {
    "prompt": "must be one text or one list of token ids, alone or in a list; several prompts are not supported",
    "stop": "must be a text or a list of up to four, none of them empty",
    "content": "must be a text or a list of parts of type text",
    "messages": "must be a list of at least one message",
}
"""Messages for parameters of several types, for which pydantic reports one error each."""
_MESSAGES = {
    "missing": "is required",
    "not_known": "is not a known parameter",
    "not_supported": "is not supported",
    "not_text": "must be of type text; others are not supported",
}


def parameter_of(error: Mapping[str, Any], body: Any) -> str | None:
    """Return the parameter that an error is about, such as `messages.0.content`; None: the body as a whole.

    If a parameter may have several types, pydantic puts the type into `loc`; steps that are not in the body are such types.
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
    """Return what is wrong, as a sentence."""
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error['ctx']['error']} at character {error['loc'][-1]}"
    if param is None:
        return "the body must be a JSON object, sent with Content-Type: application/json"
    what = _MESSAGES.get(error["type"]) or _expected(error, param) or _plain(error["msg"])
    return f"{param!r} {what}"


def _expected(error: Mapping[str, Any], param: str) -> str | None:
    """Return what the parameter must be, if the error is about its type and not about something inside it."""
    names = [name for name in param.split(".") if not name.isdigit()]
    return None if error["type"] == "not_unicode" else _EXPECTED.get(names[-1])


def _plain(message: str) -> str:
    return message.replace("Input should be", "must be", 1).replace("String should", "must", 1)

"""Errors in words for a person, and whether asking again may help."""

from __future__ import annotations

from openai import APIConnectionError, APIError, APIStatusError

NOT_NOW = {429: "The service is busy", 502: "The service is starting", 503: "The service is not ready"}
"""Refusals that pass, by HTTP status."""
SECOND_CHANCES = 2
"""For a plain failure: so a request ends whose worker died under it, and another worker answers the next one."""
LONGEST_PAUSE_S = 10.0
"""Between two attempts, whatever the service asks for: somebody looks at the page."""


def too_long(error: APIError) -> bool:
    """Whether a shorter conversation may be answered."""
    return error.code == "context_length_exceeded"


def pause(error: APIError, attempt: int) -> float | None:
    """Seconds until it is worth asking again after so many attempts before this one, by the service's own wish or growing;
    None: it is not."""
    growing = min(0.25 * 2**attempt, 4.0)
    if isinstance(error, APIConnectionError):
        return growing
    if _status(error) == 500:
        return growing if attempt < SECOND_CHANCES else None
    return _wish(error, growing) if isinstance(error, APIStatusError) and error.status_code in NOT_NOW else None


def _status(error: APIError) -> int:
    """HTTP's, of an error that is not of the connection. One that a stream told had none of its own: the service failed."""
    return error.status_code if isinstance(error, APIStatusError) else 500


def _wish(error: APIStatusError, otherwise: float) -> float:
    try:
        wish = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return otherwise
    return min(max(wish, 0.1), LONGEST_PAUSE_S)


def left_out(count: int) -> str:
    """That so many exchanges, the oldest ones, were not sent."""
    what = "the oldest question and its answer were" if count == 1 else f"the {count} oldest questions and their answers were"
    return f"The conversation is longer than the model can take: {what} left out."


def ending(text: str, finish: str, max_tokens: int) -> tuple[str, ...]:
    """What a person should know about how an answer ended."""
    if finish == "length":
        return (f"The answer was cut at {max_tokens} tokens, the longest that the settings allow.",)
    if not finish:
        return ("The answer broke off.",)
    return () if text else ("The model ended its answer without a word.",)


def waiting(error: APIError) -> str:
    """What the page says while it asks again."""
    if isinstance(error, APIConnectionError):
        return "Waiting for the service… (it cannot be reached)"
    what = NOT_NOW.get(_status(error), "The service failed").replace("The service", "it")
    return f"Waiting for the service… ({what})"


def no_answer(error: APIError) -> str:
    """Why there is no answer. Never has the API key in it."""
    if isinstance(error, APIConnectionError):
        return "The service cannot be reached. Try again in a moment."
    status = _status(error)
    if status in NOT_NOW:
        return f"{NOT_NOW[status]}. Try again in a moment."
    if status in (401, 403):
        return "The service wants an API key that this chat does not have."
    if status == 504:
        return "The answer took longer than the service allows. Try again, or ask for a shorter one."
    if too_long(error):
        return "The message is longer than the model can take, together with the longest answer."
    did = "failed" if status >= 500 else "refused"
    return f"The service {did}: {_said(error)}"


def broke_off(error: APIError) -> str:
    """Why an answer ends in the middle."""
    if isinstance(error, APIConnectionError):
        return "The answer broke off: the connection to the service was lost."
    return f"The answer broke off: {_said(error)}"


def _said(error: APIError) -> str:
    """The service's own words."""
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return f"HTTP {error.status_code}" if isinstance(error, APIStatusError) else error.message

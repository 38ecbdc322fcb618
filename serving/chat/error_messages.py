"""Errors of the service as messages for the user, and whether another attempt may help."""

from __future__ import annotations

from openai import APIConnectionError, APIError, APIStatusError

NOT_NOW = {429: "The service is busy", 502: "The service is starting", 503: "The service is not ready"}
"""Temporary refusals, by HTTP status."""
RETRIES = 2
"""Further attempts after a plain failure: a request fails like that if its worker dies, and another worker answers the next one."""
LONGEST_PAUSE_S = 10.0
"""Seconds between two attempts at most, whatever the service asks for, because the user is waiting."""


def too_long(error: APIError) -> bool:
    """Return whether the service may answer a shorter conversation."""
    return error.code == "context_length_exceeded"


def pause(error: APIError, attempt: int) -> float | None:
    """Return the seconds until the next attempt: the service's Retry-After, or a time that grows with the attempts before this one; None:
    another attempt does not help."""
    growing = min(0.25 * 2**attempt, 4.0)
    if isinstance(error, APIConnectionError):
        return growing
    if _status(error) == 500:
        return growing if attempt < RETRIES else None
    return _retry_after(error, growing) if isinstance(error, APIStatusError) and error.status_code in NOT_NOW else None


def _status(error: APIError) -> int:
    """Return the HTTP status of an error that is not one of the connection; 500 for an error inside a stream, which has none."""
    return error.status_code if isinstance(error, APIStatusError) else 500


def _retry_after(error: APIStatusError, otherwise: float) -> float:
    try:
        seconds = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return otherwise
    return min(max(seconds, 0.1), LONGEST_PAUSE_S)


def left_out(count: int) -> str:
    """Return the remark that this number of exchanges, the oldest ones, was not sent."""
    what = "the oldest question and its answer were" if count == 1 else f"the {count} oldest questions and their answers were"
    return f"The conversation is longer than the model can take: {what} left out."


def ending(text: str, finish: str, max_tokens: int) -> tuple[str, ...]:
    """Return the remarks about how an answer ended."""
    if finish == "length":
        return (f"The answer was cut at {max_tokens} tokens, the longest that the settings allow.",)
    if not finish:
        return ("The answer broke off.",)
    return () if text else ("The model ended its answer without any text.",)


def waiting(error: APIError) -> str:
    """Return the text that the page shows between two attempts."""
    if isinstance(error, APIConnectionError):
        return "Waiting for the service… (it cannot be reached)"
    what = NOT_NOW.get(_status(error), "The service failed").replace("The service", "it")
    return f"Waiting for the service… ({what})"


def no_answer(error: APIError) -> str:
    """Return the remark why there is no answer. It never contains the API key."""
    if isinstance(error, APIConnectionError):
        return "The service cannot be reached. Try again in a moment."
    status = _status(error)
    if status in NOT_NOW:
        return f"{NOT_NOW[status]}. Try again in a moment."
    if status in (401, 403):
        return "The service requires an API key that this chat does not have."
    if status == 504:
        return "The answer took longer than the service allows. Try again, or ask for a shorter one."
    if too_long(error):
        return "The message is longer than the model can take, together with the longest answer."
    did = "failed" if status >= 500 else "refused"
    return f"The service {did}: {_message(error)}"


def broke_off(error: APIError) -> str:
    """Return the remark why an answer ends in the middle."""
    if isinstance(error, APIConnectionError):
        return "The answer broke off: the connection to the service was lost."
    return f"The answer broke off: {_message(error)}"


def _message(error: APIError) -> str:
    """Return the service's own error message."""
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return f"HTTP {error.status_code}" if isinstance(error, APIStatusError) else error.message

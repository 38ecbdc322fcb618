"""What the requests of a load look like, and how their answers are read: plain JSON, checked by `drills/request.py` before it comes here.

An answer is read in one of four ways:

    body   the whole body, whatever it is
    json   one JSON value that is the whole body
    sse    server-sent events with a JSON object each
    lines  a JSON object on each line

`text` and `ids` are paths to the text and the token ids in such a value: "choices.0.text". `end` is what marks the end of a stream: the
data of an event ("[DONE]") or a value in it ({"done": true}). Without it the answer is complete when the body is. `error` is the path to an
error; an answer that has one is not complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args
from urllib.parse import quote

from drills.records import Kind, Outcome

Check = Literal["ids", "text", "not-empty", "status"]
"""How an answer is compared with a healthy server's, from the strictest on.

ids: it has the same tokens. text: it has the same text. not-empty: it has any token or byte. status: it came to its end with status 200.
"""
CHECKS: tuple[Check, ...] = get_args(Check)
STRICT: tuple[Check, ...] = ("ids", "text")
"""The checks for which one sentence must have one answer."""
MOST_LINE = 2**20
"""Bytes of a line of an answer at most."""
MOST_BODY = 2**26
"""Bytes of an answer that is one JSON value at most."""
_PLACE = re.compile(r"\$\{(sentence|tokens)\}")


@dataclass(frozen=True)
class Answer:
    """How an answer is read."""

    read: Literal["body", "json", "sse", "lines"]
    text: str = ""
    ids: str = ""
    end: Any = None
    error: str = ""


@dataclass(frozen=True)
class Ask:
    """One kind of request."""

    path: str
    answer: Answer
    method: str = "GET"
    body: Any = None

    def target(self, sentence: str, tokens: int) -> str:
        """Return the path with its query for this sentence."""
        return _PLACE.sub(lambda found: quote(sentence, safe="") if found[1] == "sentence" else str(tokens), self.path)

    def content(self, sentence: str, tokens: int) -> bytes:
        """Return the body for this sentence; empty when the request has none."""
        values = {"sentence": sentence, "tokens": tokens}
        return b"" if self.body is None else json.dumps(each_text(self.body, lambda text: _filled(text, values))).encode()


@dataclass(frozen=True)
class Template:
    """The requests of a load."""

    asks: dict[Kind, Ask]
    sentences: tuple[str, ...]
    check: Check | None = None
    """None: the strictest one that healthy answers pass."""
    keep_alive: bool = False
    headers: dict[str, Any] = field(default_factory=dict)
    """Header → its value, or {"env": VARIABLE, "prefix": TEXT} for one that is in the environment; without the variable it is left out."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Template:
        """Return the template that `drills.request.Template` dumped."""
        asks = {
            cast(Kind, kind): Ask(**{**value[kind], "answer": Answer(**value[kind]["answer"])})
            for kind in get_args(Kind)
            if value.get(kind) is not None
        }
        return cls(asks, tuple(value["sentences"]), value.get("check"), bool(value.get("keep_alive")), dict(value.get("headers") or {}))

    def header_values(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the headers with the values from the environment. They may be secret."""
        found = {}
        for name, value in self.headers.items():
            if isinstance(value, str):
                found[name] = value
            elif secret := environment.get(value["env"]):
                found[name] = value["prefix"] + secret
        return found


def each_text(node: Any, change: Callable[[str], Any]) -> Any:
    """Return the same JSON with every text in it changed; the keys stay."""
    if isinstance(node, dict):
        return {key: each_text(value, change) for key, value in node.items()}
    if isinstance(node, list):
        return [each_text(value, change) for value in node]
    return change(node) if isinstance(node, str) else node


def _filled(text: str, values: Mapping[str, Any]) -> Any:
    """Fill the placeholders; one that is a whole text becomes a value of its own type."""
    if whole := _PLACE.fullmatch(text):
        return values[whole[1]]
    return _PLACE.sub(lambda found: str(values[found[1]]), text)


def at(value: Any, path: str) -> Any:
    """Return what is at a path like "choices.0.text"; None when there is nothing."""
    for key in path.split(".") if path else ():
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (LookupError, TypeError, ValueError):
            return None
    return value


class Reply:
    """One response so far; final once its request has ended. It reads the answer as it arrives."""

    def __init__(self, answer: Answer) -> None:
        self.status: int | None = None
        self.ids: list[int] = []
        self.text: list[str] = []
        self.token_times: list[float] = []
        """Arrival of every token; of every piece of text where there are no ids. What came together has the same time."""
        self.whole = False
        """Whether the answer came to its proper end."""
        self.hung = False
        """Whether no byte came for longer than the client waits."""
        self.detail = ""
        self.end = 0.0
        self._answer, self._marked, self._closed = answer, False, False
        self._rest = bytearray()
        """What is not read yet: the body of a refusal or of a JSON answer, the line that is not complete."""
        self._event: list[bytes] = []
        """Data lines of the event that is not complete."""
        self._digest = hashlib.sha256()
        """Digest of a body that is not read."""
        self._last = 0.0

    def head(self, status: int, *, marked: bool) -> None:
        """Take the status, and whether the end of the body is marked."""
        self.status, self._marked = status, marked

    def data(self, data: bytes, now: float) -> bool:
        """Take a piece of the body; return whether nothing more is needed.

        Raises:
            ValueError: it is longer than an answer can be.
        """
        self._last = now
        if self.status != 200:
            self._rest += data[: 1000 - len(self._rest)]
        elif self._answer.read == "body":
            self.token_times[1:] = [now]  # the first byte and the last one
            self._digest.update(data)
        elif self._answer.read == "json":
            self._rest += data
            if len(self._rest) > MOST_BODY:
                raise ValueError(f"the answer is longer than {MOST_BODY} bytes")
        else:
            return self._lines(data, now)
        return False

    def complete(self) -> None:
        """Take the end of the body, whose last byte has come. Not called when the body was cut."""
        if self.status != 200:
            self.detail = f"HTTP {self.status}: {self._rest.decode('utf-8', 'replace')[:200]}"
        elif self._closed:
            return
        elif not self._marked and self._answer.end is None:
            self.detail = "the body has no length and is not chunked, so a cut answer could not be told from a complete one"
        elif self._answer.read == "body":
            self.whole = True
        elif self._answer.read == "json":
            self.whole = True
            with contextlib.suppress(ValueError):
                self._add(json.loads(self._rest), self._last)
            if not self.token_times:
                self.detail = f"not an answer: {bytes(self._rest[:200])!r}"
        elif self._answer.end is not None:
            self.detail = (
                f"the stream ended without {self._answer.end if isinstance(self._answer.end, str) else json.dumps(self._answer.end)}"
            )
        else:
            self.whole = not self._rest or not self._value(bytes(self._rest), self._last)
            self.detail = self.detail or ("" if self.whole else "the last line is not complete")

    def outcome(self, check: Check, expected: Any) -> Outcome:
        """Return how the request ended, compared with the answer of a healthy server."""
        if self.whole:
            return "finished" if self.seen(check) == expected else "wrong"
        if self.hung:
            return "hung"
        return "cut" if self.token_times else "refused"

    def seen(self, check: Check) -> Any:
        """Return what is compared under this check; None for an answer that has nothing to compare."""
        if check == "ids":
            return tuple(self.ids) or None
        if check == "text":
            return self._digest.hexdigest() if self._answer.read == "body" else "".join(self.text) or None
        return True if check == "status" or self.token_times else None

    def difference(self, check: Check, expected: Any) -> str:
        """Return in words how an answer that is whole differs from a healthy server's; empty when it does not."""
        seen = self.seen(check)
        if seen == expected:
            return ""
        if self.detail or not isinstance(seen, type(expected)):
            return self.detail or "the answer is empty"
        if check == "text" and self._answer.read == "body":
            return "other bytes than a healthy server's"
        same = next((n for n, (one, other) in enumerate(zip(seen, expected, strict=False)) if one != other), min(len(seen), len(expected)))
        what, of = ("token" if check == "ids" else "character"), len(expected)
        if same == len(seen):
            return f"it ends after {same} of {of} {what}s"
        if same == of:
            return f"it has {len(seen)} {what}s, a healthy server's answer {of}"
        return f"{what} {same + 1} of {of} is another one than a healthy server's"

    def _lines(self, data: bytes, now: float) -> bool:
        """Read complete lines; return whether the answer has ended."""
        if self._closed:
            return True
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        if len(rest) > MOST_LINE:
            raise ValueError(f"a line is longer than {MOST_LINE} bytes")
        for line in lines:
            line = line.removesuffix(b"\r")
            if self._answer.read == "lines":
                found = bytes(line).strip()
            elif line:
                name, _, value = line.partition(b":")
                if name == b"data":
                    self._event.append(bytes(value.removeprefix(b" ")))
                continue
            else:
                found = b"\n".join(self._event)
                self._event.clear()
            if found and self._value(found, now):
                self._closed = True
                return True
        return False

    def _value(self, data: bytes, now: float) -> bool:
        """Read one event or line; return whether it was the last one. Fields that are missing make an answer wrong, not incomplete."""
        if isinstance(self._answer.end, str) and data == self._answer.end.encode():
            self.whole = True
            return True
        try:
            value = json.loads(data)
        except ValueError:
            # Not an error of the stream: the answer will lack its text and count as wrong, with this detail.
            self.detail = self.detail or f"not JSON: {data[:200]!r}"
            return False
        if self._answer.error and at(value, self._answer.error):
            self.detail = f"error in the stream: {data[:200].decode('utf-8', 'replace')}"
            return True
        self._add(value, now)
        if isinstance(self._answer.end, dict) and all(at(value, path) == wanted for path, wanted in self._answer.end.items()):
            self.whole = True
            return True
        return False

    def _add(self, value: Any, now: float) -> None:
        """Add the tokens and the text of a value."""
        ids = at(value, self._answer.ids) if self._answer.ids else None
        text = at(value, self._answer.text)
        found = [token for token in ids if isinstance(token, int)] if isinstance(ids, list) else []
        self.ids += found
        if text is not None and not isinstance(text, str):
            text = json.dumps(text, sort_keys=True)
        if text:
            self.text.append(text)
        self.token_times += [now] * (len(found) or bool(text))

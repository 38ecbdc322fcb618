"""What the load and the probe of a drill ask of a service: a template, from the presets in requests/ or from a file of that form.

    template = Template.of("openai", values={"model": "llama"})
    template = Template.of("my-service.yaml", headers={"Authorization": FromSecret(secret="token", key="token", prefix="Bearer ")})

`drills/load/template.py` says how answers are read; it runs in the cluster, where the template comes as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from blocks.errors import Permanent
from drills.definition import Load
from drills.load import template as sent
from drills.value import Value

PRESETS = Path(__file__).parent / "requests"
LEEWARD = "leeward"
"""Preset of the services that this pipeline deploys."""
_PLACE = re.compile(r"\$\{([a-z_]+)\}")
_BUILT_IN = frozenset({"sentence", "tokens"})
HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", max_length=100)]
HeaderText = Annotated[str, Field(pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$", max_length=2000)]
PathText = Annotated[str, Field(pattern=r"^/[\x21-\x7e]*$", max_length=2000)]
_SENT_ANYWAY = frozenset({"host", "connection", "content-length", "transfer-encoding", "content-type"})


class BadTemplate(Permanent):
    """The description of the requests is not valid; nothing was touched."""


class FromSecret(Value):
    """A header whose value is in a Secret of the load's namespace."""

    secret: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
    """Name of the Secret."""
    key: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
    """Key in the Secret."""
    prefix: Annotated[str, Field(pattern=r"^[\x20-\x7e]*$", max_length=200)] = ""
    """What stands before the value: "Bearer "."""
    optional: bool = False
    """Whether the header is left out when there is no such Secret; otherwise the load does not start."""


class Answer(Value):
    """How an answer is read."""

    read: Literal["body", "json", "sse", "lines"]
    """body: as it is. json: one JSON value. sse: server-sent events with JSON. lines: JSON on each line."""
    text: str = ""
    """Path to the text in a value: choices.0.text. Empty: the whole value."""
    ids: str = ""
    """Path to the ids of the tokens in a value, if it has them."""
    end: Annotated[str, Field(min_length=1)] | Annotated[dict[str, Any], Field(min_length=1)] | None = None
    """What ends a stream: the data of an event, or {path: value}. Empty: the end of the body."""
    error: str = ""
    """Path to an error in a value; such an answer is not complete."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.read == "body" and (self.text or self.ids):
            raise ValueError("a body that is not read has no `text` and no `ids`: set `read` to json, sse or lines")
        if self.read in ("body", "json") and (self.end is not None or self.error):
            raise ValueError("`end` and `error` are of streams: `read` must be sse or lines")
        return self


class Ask(Value):
    """One kind of request."""

    method: Literal["GET", "POST", "PUT"] = "GET"
    path: PathText
    """Path and query. ${sentence} in it is quoted as a URL needs it."""
    body: Any = None
    """JSON that is sent. ${sentence} and ${tokens} in it are filled; one that is a whole text keeps its type."""
    answer: Answer

    @model_validator(mode="after")
    def _body_fits(self) -> Self:
        if self.method == "GET" and self.body is not None:
            raise ValueError("a GET request has no body: set `method` to POST")
        return self


class Template(Value):
    """The requests that a load sends, and how their answers are judged."""

    description: str = ""
    sentences: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=20_000)], ...], Field(min_length=1, max_length=64)]
    """What is asked, in turn. Where answers cannot be compared, every request has a beginning of its own before its sentence."""
    check: sent.Check | None = None
    """How answers are compared with a healthy server's. Empty: as strictly as healthy answers allow, which the warm-up finds out."""
    keep_alive: bool = False
    """Whether connections are kept, as gateways do. Otherwise every request has its own, and its own worker."""
    headers: dict[HeaderName, HeaderText | FromSecret] = Field(default_factory=dict)
    """Headers of every request. A secret one names its Secret; a text is in a ConfigMap that others can read."""
    short: Ask
    """A request that is answered at once."""
    stream: Ask | None = None
    """A request that is answered bit by bit; empty: the service has no streams."""

    @model_validator(mode="after")
    def _no_own_headers(self) -> Self:
        if wrong := sorted(name for name in self.headers if name.lower() in _SENT_ANYWAY):
            raise ValueError(f"headers: {', '.join(wrong)} cannot be set: the load sets it by itself")
        return self

    @classmethod
    def of(
        cls,
        name: str,
        *,
        values: Mapping[str, Any] | None = None,
        headers: Mapping[str, str | FromSecret] | None = None,
    ) -> Self:
        """Return the preset of that name, or the template in that YAML file, with its values filled in.

        Args:
            values: Values for the template's own placeholders, in place of its defaults.
            headers: Headers beside or in place of the template's.

        Raises:
            BadTemplate: there is no such preset or file, or it is not valid. The message says what to change.
        """
        file = PRESETS / f"{name}.yaml" if name in presets() else Path(name)
        try:
            raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadTemplate(
                f"requests: {name} is none of {', '.join(presets())}, and no file that can be read: {error.strerror}"
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise BadTemplate(f"requests: {file} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(raw, dict):
            raise BadTemplate(f"requests: {file} has no fields; see the presets in {PRESETS} for the form")
        defaults = raw.pop("values", None) or {}
        if not isinstance(defaults, dict):
            raise BadTemplate(f"requests: {file}: `values` must be names with their defaults")
        if unknown := sorted(set(values or {}) - set(defaults)):
            raise BadTemplate(f"requests: {name} has no value {', '.join(unknown)}; it has: {', '.join(defaults) or 'none'}")
        known = {**defaults, **(values or {})}
        filled = sent.each_text(raw, lambda text: _filled(text, known, file))
        if headers:
            filled["headers"] = {**(filled.get("headers") or {}), **headers}
        try:
            return cls.model_validate(filled)
        except ValidationError as error:
            reasons = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'template'}: {e['msg']}" for e in error.errors(include_url=False))
            raise BadTemplate(f"requests: {file}: {reasons}") from error

    def fitted(self, load: Load) -> Load:
        """Return the load without streams when the service has none."""
        return load if self.stream is not None else load.model_copy(update={"streams": 0})

    def for_load(self) -> dict[str, Any]:
        """Return the template as JSON for `drills.load`; it contains no secret, and names an environment variable for each."""
        variables = {name: variable for variable, name, _ in self.secret_headers()}
        return {
            **self.model_dump(mode="json", exclude={"description", "headers"}),
            "headers": {
                name: value if isinstance(value, str) else {"env": variables[name], "prefix": value.prefix}
                for name, value in self.headers.items()
            },
        }

    def secret_headers(self) -> list[tuple[str, str, FromSecret]]:
        """Return the headers whose values are in Secrets, each with its environment variable in the load: variable, header, Secret."""
        secret = [(name, value) for name, value in self.headers.items() if isinstance(value, FromSecret)]
        return [(f"LEEWARD_HEADER_{n}", name, value) for n, (name, value) in enumerate(secret, 1)]

    def as_sent(self) -> sent.Template:
        """Return the template as the load reads it."""
        return sent.Template.from_json(self.for_load())


def presets() -> tuple[str, ...]:
    """Return the names of the presets."""
    return tuple(sorted(file.stem for file in PRESETS.glob("*.yaml")))


def _filled(text: str, values: Mapping[str, Any], file: Path) -> Any:
    """Fill a template's own placeholders; ${sentence} and ${tokens} stay for the load."""
    for name in _PLACE.findall(text):
        if name not in _BUILT_IN and name not in values:
            raise BadTemplate(f"requests: {file}: ${{{name}}} has no value; name it under `values`")
        if name not in _BUILT_IN and values[name] is None:
            raise BadTemplate(f"requests: {file}: {name} has no default: give it a value (--set {name}=…)")
    whole = _PLACE.fullmatch(text)
    if whole and whole[1] not in _BUILT_IN:
        return values[whole[1]]
    return _PLACE.sub(lambda found: found[0] if found[1] in _BUILT_IN else str(values[found[1]]), text)

"""YAML as its users write it: read without trusting it, and refused in words that say where and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

_TEMPLATE = re.compile(rb"\{\{|\{%")
"""What is left in a text that a template engine has not rendered."""


class Unreadable(ValueError):
    """The text, or what it describes, is not what lint reads; the message says where."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, without two of its quirks."""

    def text(self, node: yaml.ScalarNode) -> str:
        # JSON writes a character outside the first 65,536 as two escapes, which PyYAML leaves apart; half of one cannot be printed.
        return str(self.construct_scalar(node)).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.text)
_Loader.add_constructor("tag:yaml.org,2002:value", _Loader.text)  # a bare =, as in the schemas of some CRDs


def documents(text: str | bytes) -> list[Any]:
    """Return the YAML documents of a text.

    Raises:
        Unreadable: it is no YAML; the message has the line, and nothing of what stands there.
    """
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = " ".join(str(getattr(error, "problem", None) or "it cannot be read").split())
        raise Unreadable(f"no YAML: {problem}" + (f", line {mark.line + 1}" if mark else "") + _hint(text)) from None
    except RecursionError:
        raise Unreadable("no YAML that can be read: it is nested too deeply") from None
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):  # PyYAML, at a date or number that there is not
        raise Unreadable("no YAML: a date, a number or a value with a tag (!!) cannot be read") from None


def _hint(text: str | bytes) -> str:
    found = _TEMPLATE.search(text.encode("utf-8", "replace") if isinstance(text, str) else text)
    return "; lint reads what kubectl would apply" + (": render the templates first, by helm template for example" if found else "")


def objects(text: bytes) -> list[dict[str, Any]]:
    """Return the Kubernetes objects of a text, those in lists as well.

    Raises:
        Unreadable: it is no YAML.
    """
    return [found for document in documents(text) for found in _unpacked(document)]


def _unpacked(thing: Any) -> Iterator[dict[str, Any]]:
    """Yield an object, or the objects of a list of Kubernetes, whose kind ends in List."""
    if not isinstance(thing, dict):
        return
    items = thing.get("items")
    if str(thing.get("kind")).endswith("List") and isinstance(items, list):
        for item in items:
            yield from _unpacked(item)
    else:
        yield thing


_CONTAINER: dict[str, Any] = {"env?": [{"name": str}], "resources?": {"requests?": {}, "limits?": {}}}
_GROUP: dict[str, Any] = {"rayStartParams?": {}, "template": {"spec": {"containers": [_CONTAINER]}}}
NAMED: dict[str, Any] = {"metadata": {"name": str, "namespace?": str, "annotations?": {}}}
"""The shape of what can be chosen by its name."""
RAY_SERVICE: dict[str, Any] = {
    **NAMED,
    "spec": {
        "rayClusterConfig": {
            "gcsFaultToleranceOptions?": {},
            "headGroupSpec": {**_GROUP, "headService?": {"metadata?": {}, "spec?": {}}},
            "workerGroupSpecs?": [{"groupName": str, **_GROUP}],
        },
    },
}
"""The shape of a RayService, as far as the rules rely on it."""
SERVE_CONFIG: dict[str, Any] = {"http_options?": {}, "applications?": [{"deployments?": [{"name": str}]}]}
"""The shape of the content of serveConfigV2, likewise."""


def require(thing: Any, shape: Any, path: str = "") -> None:
    """Require that a thing has a shape: a dict stands for a mapping with these keys, of which those with ? may be missing; a list for a
    list of such entries, and not an empty one unless it may be missing; str for a text.

    Raises:
        Unreadable: it has not; the message has the path to what is wrong.
    """
    here = path or "it"
    if shape is str:
        if not isinstance(thing, str):
            raise Unreadable(f"{here} must be text, not {_kind(thing)}")
    elif isinstance(shape, list):
        if not isinstance(thing, list):
            raise Unreadable(f"{here} must be a list, not {_kind(thing)}")
        for number, entry in enumerate(thing):
            require(entry, shape[0], f"{path}[{number}]")
    elif not isinstance(thing, Mapping):
        raise Unreadable(f"{here} must be a mapping, not {_kind(thing)}")
    else:
        for key, wanted in shape.items():
            name = key.rstrip("?")
            within = f"{path}.{name}".lstrip(".")
            found = thing.get(name)
            if key.endswith("?") and found is None:
                continue
            if found is None or (found == [] and not key.endswith("?")):
                raise Unreadable(f"{within} is missing")
            require(found, wanted, within)


def _kind(thing: Any) -> str:
    """Return the words for what stands there; not the thing itself, which may be a secret."""
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", type(None): "empty"}
    return "a mapping" if isinstance(thing, Mapping) else names.get(type(thing), type(thing).__name__)


def number(value: object) -> float:
    """Return a finite number that is written as one or as text.

    Raises:
        Unreadable: it is none.
    """
    try:
        found = float(str(value))
    except ValueError:
        raise Unreadable(f"{value!r} is no number") from None
    if found - found != 0:  # infinite, or not a number
        raise Unreadable(f"{value!r} is no number that can be counted with")
    return found

"""What `leeward drill` is asked to do: the drill and the requests that its options describe."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from drills.cli.exits import Refusal
from drills.definition import Drill, catalogue
from drills.request import FromSecret, Template
from drills.runner.faults import check_known
from drills.subject import Probe

FOREIGN = {"strict": False, "min_endpoints": 1, "min_replicas": 0, "min_nodes": 0}
"""The steady state of a service of others: as it was before the fault, whatever that is."""
PROBE_TOKENS = 2
HEADER = re.compile(r"(?P<name>[^=\s]+)=(?P<secret>[^/\s]+)/(?P<key>[^:\s]+)(:(?P<prefix>.*))?$")


def page(name: str) -> Drill:
    """Return the drill of the catalogue, or that of a file.

    Raises:
        UnknownDrill, Refusal: there is no such drill or file.
        UnknownFault: its fault is of an unknown kind.
    """
    if name in catalogue() or not Path(name).is_file():
        found = Drill.named(name)
    else:
        try:
            found = Drill.from_yaml(Path(name).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise Refusal(f"{name} is no YAML: {' '.join(str(error).split())}") from error
        except ValidationError as error:
            raise Refusal(f"{name} is no drill: {problems(error)}") from error
    check_known(found.faults)
    if found.surge:
        raise Refusal(f"{name} is a surge, which only the flow `surge` makes: it knows the size of the service that it deployed")
    return found


def problems(error: ValidationError) -> str:
    """Return what is wrong, field by field."""
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".removeprefix(": ") for e in error.errors(include_url=False))


def definition(options: argparse.Namespace, template: Template) -> Drill:
    """Return the drill with the changes of the options."""
    drill = page(options.page)
    load = {"short_per_s": options.rate, "streams": options.streams, "stream_tokens": options.tokens, "patience_s": options.patience}
    timing = {"before_s": options.before, "after_s": options.after}
    slos = {"max_recovery_s": options.recovery}
    if options.recovery and options.recovery > drill.timing.observe_timeout_s:
        timing["observe_timeout_s"] = options.recovery
    changed = {
        "load": template.fitted(_with(drill.load, load)),
        "timing": _with(drill.timing, timing),
        "slos": _with(drill.slos, slos),
        "steady_state": _with(drill.steady_state, {**FOREIGN, "answered": probe(template) is not None}),
    }
    return drill.model_copy(update=changed)


def _with(value: Any, changes: dict[str, Any]) -> Any:
    """Return the value with those changes that are not None, validated."""
    return type(value).model_validate({**value.model_dump(), **{name: new for name, new in changes.items() if new is not None}})


def requests(options: argparse.Namespace) -> Template:
    """Return the requests that the options describe.

    Raises:
        Refusal: a value or a header is not of the right form.
        BadTemplate: the template is not valid.
    """
    values: dict[str, Any] = {}
    for given in options.set:
        name, equals, value = given.partition("=")
        if not equals or not name:
            raise Refusal(f"--set {given}: write NAME=VALUE")
        values[name] = value
    headers = {}
    for given in options.header:
        found = HEADER.match(given)
        if not found:
            raise Refusal(f"--header {given}: write NAME=SECRET/KEY or NAME=SECRET/KEY:PREFIX; the value itself belongs into a Secret")
        headers[found["name"]] = FromSecret(secret=found["secret"], key=found["key"], prefix=found["prefix"] or "")
    return Template.of(options.requests, values=values, headers=headers)


def probe(template: Template) -> Probe | None:
    """Return the drill's own small request: a short one of the template. None where it needs a secret header, which is the load's alone."""
    if template.secret_headers():
        return None
    asked, sentence = template.as_sent().asks["short"], template.sentences[0]
    body = asked.content(sentence, PROBE_TOKENS)
    return Probe(method=template.short.method, path=asked.target(sentence, PROBE_TOKENS), body=json.loads(body) if body else None)

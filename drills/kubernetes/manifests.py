"""manifests/*.yaml with values filled in.

A placeholder is a whole scalar, "${name}". It is replaced after parsing, by a typed value: so a value cannot change the structure
around it, and an integer stays an integer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from blocks.errors import Permanent
from drills.kubernetes.api import Object

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
_PLACEHOLDER = re.compile(r"^\$\{([a-z][a-z0-9_]*)\}$")
_KEYS = ("name", "groupName")
"""Keys that identify the items of a list when fragments are merged."""


class BadManifest(Permanent):
    """The values do not match the placeholders of a manifest."""


def load(name: str, values: Mapping[str, Any], folder: Path = MANIFESTS) -> list[Object]:
    """Load the objects of a manifest, with all placeholders replaced.

    Raises:
        BadManifest: a placeholder has no value, or a value has no placeholder.
    """
    documents = [d for d in yaml.safe_load_all((folder / f"{name}.yaml").read_text(encoding="utf-8")) if d]
    used: set[str] = set()
    filled = [_fill(document, values, used, name) for document in documents]
    if unused := sorted(set(values) - used):
        raise BadManifest(f"manifests/{name}.yaml has no placeholder for {', '.join(unused)}")
    return filled


def merge(base: Any, fragment: Any) -> Any:
    """Merge a fragment into the base: mappings by key, lists of named items by name; everything else is replaced."""
    if isinstance(base, Mapping) and isinstance(fragment, Mapping):
        return {**base, **{key: merge(base[key], value) if key in base else value for key, value in fragment.items()}}
    if not (_named(base) and _named(fragment)):
        return fragment
    merged = {_key(item): item for item in base}
    for item in fragment:
        merged[_key(item)] = merge(merged[_key(item)], item) if _key(item) in merged else item
    return list(merged.values())


def with_text_serve_config(ray_service: Object) -> Object:
    """Convert serveConfigV2 to text, which KubeRay needs. In the manifest it is a mapping, so that it can be checked and filled."""
    spec = ray_service["spec"]
    return {**ray_service, "spec": {**spec, "serveConfigV2": serve_text(spec["serveConfigV2"])}}


def serve_text(config: Object) -> str:
    """A Serve configuration as text; equal configurations give equal texts."""
    return yaml.safe_dump(config, sort_keys=False)


def _fill(node: Any, values: Mapping[str, Any], used: set[str], where: str) -> Any:
    if isinstance(node, dict):
        return {key: _fill(value, values, used, where) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill(value, values, used, where) for value in node]
    found = _PLACEHOLDER.match(node) if isinstance(node, str) else None
    if not found:
        return node
    if found[1] not in values:
        raise BadManifest(f"manifests/{where}.yaml: no value for ${{{found[1]}}}")
    used.add(found[1])
    return values[found[1]]


def _named(node: Any) -> bool:
    return isinstance(node, list) and bool(node) and all(isinstance(item, Mapping) and _key(item) for item in node)


def _key(item: Mapping[str, Any]) -> str | None:
    return next((str(item[key]) for key in _KEYS if key in item), None)

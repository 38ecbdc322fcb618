"""Ownership in a shared cluster: labels and annotations, never names alone, decide which objects this pipeline created."""

from __future__ import annotations

from drills.kubernetes import manifests
from drills.kubernetes.api import Api, Conflict, Object
from drills.subject import Subject

NAMESPACES = "/api/v1/namespaces"
MADE_BY = "leeward.dev/made-by"
"""Annotation of namespaces that this pipeline created. A namespace without it is never deleted."""
SERVICE = "leeward.dev/service"
"""Annotation of loads and of the chat: the key of their service (`Subject.key`)."""
PART_OF = "app.kubernetes.io/part-of"
"""Label of everything that this pipeline creates; the value is leeward."""


def belongs(obj: Object, subject: Subject) -> bool:
    """Whether a load or a chat belongs to the service."""
    return bool(_annotations(obj).get(SERVICE) == subject.key)


def labelled(obj: Object) -> bool:
    """Whether this pipeline created the object."""
    return bool((obj["metadata"].get("labels") or {}).get(PART_OF) == "leeward")


def ensure_namespace(api: Api, name: str) -> None:
    """Create or update the namespace. One that this pipeline did not create is not changed: its owner sets its pod security."""
    found = api.find(f"{NAMESPACES}/{name}")
    if found is None or MADE_BY in _annotations(found):
        api.apply_all(manifests.load("namespace", {"namespace": name}))


def made_namespace(api: Api, name: str) -> bool:
    """Whether there is such a namespace and this pipeline created it."""
    found = api.find(f"{NAMESPACES}/{name}")
    return found is not None and MADE_BY in _annotations(found)


def remove(api: Api, path: str) -> bool:
    """Delete the object at a path if this pipeline created it; returns whether it did so."""
    found = api.find(path)
    if found is None or not labelled(found):
        return False
    try:
        return api.delete(path, uid=found["metadata"].get("uid"))
    except Conflict:  # it was just replaced by another object of the same name
        return False


def _annotations(obj: Object) -> Object:
    return obj["metadata"].get("annotations") or {}

"""What is ours in a cluster that others use, too: told by marks on it, never by its name alone."""

from __future__ import annotations

from blocks.parameters import Service
from tasks.kubernetes import manifests
from tasks.kubernetes.api import Api, Conflict, Object

NAMESPACES = "/api/v1/namespaces"
MADE_BY = "leeward.dev/made-by"
"""Annotation of a namespace that we made. One that was there before us has none, and stays."""
SERVICE = "leeward.dev/service"
"""Annotation of loads and of the chat: whose they are, as `key` has it."""
PART_OF = "app.kubernetes.io/part-of"
"""Label of everything that we make: leeward."""


def key(service: Service) -> str:
    """Of the service, different from every other one's in the cluster: names have no dots."""
    return f"{service.namespace}.{service.name}"


def belongs(thing: Object, service: Service) -> bool:
    """Whether a load or a chat is the service's."""
    return bool(_annotations(thing).get(SERVICE) == key(service))


def labelled(thing: Object) -> bool:
    """Whether we made it, whatever it is for."""
    return bool((thing["metadata"].get("labels") or {}).get(PART_OF) == "leeward")


def ensure_namespace(api: Api, name: str) -> None:
    """There is such a namespace. One of somebody else's is left as it is: what may run in it is not ours to say."""
    found = api.find(f"{NAMESPACES}/{name}")
    if found is None or MADE_BY in _annotations(found):
        api.apply_all(manifests.load("namespace", {"namespace": name}))


def made_namespace(api: Api, name: str) -> bool:
    """Whether there is such a namespace, and we made it."""
    found = api.find(f"{NAMESPACES}/{name}")
    return found is not None and MADE_BY in _annotations(found)


def remove(api: Api, path: str) -> bool:
    """The object at a path is gone or on its way, if it was ours; False: it was not, or there was none."""
    found = api.find(path)
    if found is None or not labelled(found):
        return False
    try:
        return api.delete(path, uid=found["metadata"].get("uid"))
    except Conflict:  # it has just been made anew, by whoever that was
        return False


def _annotations(thing: Object) -> Object:
    return thing["metadata"].get("annotations") or {}

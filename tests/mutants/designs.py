"""The drill of the drills: services that are broken on purpose, each an overlay on one healthy service.

A file in designs/ has one: what its users do wrong, the page that must catch it, words of the reasons, and the lint rules that see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from drills.kubernetes import manifests

FOLDER = Path(__file__).parent
SERVICE = "counting"
"""Name of the RayService in all designs."""
REQUESTS = ("--requests", "openai", "--set", "model=counting")
SHORT = {"--before": "10", "--after": "10", "--rate": "5", "--streams": "4", "--tokens": "20"}
"""Arguments of a short drill."""


@dataclass(frozen=True)
class Design:
    """A service as its users might build it."""

    name: str
    page: str
    """The drill of the catalogue that must catch it."""
    overlay: tuple[Mapping[str, Any], ...] = ()
    """Parts of objects that are merged into the healthy service; null takes a field away."""
    arguments: tuple[str, ...] = ()
    """Arguments of the drill beside, or in place of, those of `SHORT`."""
    verdict: str = "failed"
    causes: tuple[str, ...] = ()
    """Words that the reasons for the verdict must have."""
    rules: tuple[str, ...] = ()
    """Names of the lint rules that see it: these and no others that the healthy service keeps."""

    def objects(self, images: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the Kubernetes objects of the service, with these images in place of those that the manifests name, whatever their tag."""
        found = list(yaml.safe_load_all((FOLDER / "service.yaml").read_text(encoding="utf-8")))
        for part in self.overlay:
            (at,) = [n for n, thing in enumerate(found) if thing["kind"] == part["kind"]]
            found[at] = _without_null(manifests.merge(found[at], part))
        found = [manifests.with_text_serve_config(thing) if thing["kind"] == "RayService" else thing for thing in found]
        code = {"app.py": (FOLDER / "app.py").read_text(encoding="utf-8")}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code"}, "data": code})
        return [_with_images(thing, images) for thing in found]

    def ray_service(self) -> dict[str, Any]:
        """Return the RayService as it is applied."""
        return next(thing for thing in self.objects({}) if thing["kind"] == "RayService")

    def drill(self) -> list[str]:
        """Return the arguments of the drill: its page and everything else but place and name."""
        changed = dict(SHORT)
        changed.update(zip(self.arguments[::2], self.arguments[1::2], strict=True))
        return [self.page, *REQUESTS, *(word for pair in changed.items() for word in pair)]


def _with_images(node: Any, images: Mapping[str, str]) -> Any:
    if isinstance(node, Mapping):
        known = {"image": images[node["image"].partition(":")[0]]} if images and isinstance(node.get("image"), str) else {}
        return {key: _with_images(value, images) for key, value in {**node, **known}.items()}
    return [_with_images(item, images) for item in node] if isinstance(node, list) else node


def _without_null(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _without_null(value) for key, value in node.items() if value is not None}
    return [_without_null(item) for item in node] if isinstance(node, list) else node


def _read(file: Path) -> Design:
    fields = yaml.safe_load(file.read_text(encoding="utf-8"))
    return Design(file.stem, **{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})


DESIGNS = {file.stem: _read(file) for file in sorted((FOLDER / "designs").glob("*.yaml"))}
"""The broken designs by name."""
HEALTHY = tuple(
    Design(
        "healthy", page, verdict="passed", arguments=next(d.arguments for d in DESIGNS.values() if d.page == page and d.verdict == "failed")
    )
    for page in sorted({design.page for design in DESIGNS.values() if design.verdict == "failed"})
)
"""The healthy service, with each page that catches one of them."""

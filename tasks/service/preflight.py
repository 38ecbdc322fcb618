"""Lint of the service before anything runs: whether its manifests can survive the loss of a part.

A broken rule is advice, with its reason and its source. Only a drill decides.
"""

from __future__ import annotations

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact

from blocks.parameters import Service
from drills.kubernetes.api import Object
from drills.lint import rules
from drills.lint.living import Living
from tasks.cluster.redis import find_redis
from tasks.images.publish import ImageRefs
from tasks.service.rayservice import render
from tasks.support.site import Site
from tasks.support.step import step
from tasks.terraform.infrastructure import Outputs

IMAGES = ImageRefs(head="head@sha256:not-built-yet", worker="worker@sha256:not-built-yet")
"""Stand-ins, because images are built later; they are always used by digest."""


def check(ray_service: Object) -> rules.Checked:
    """Check a rendered RayService. Rules about pods and their surroundings stay unchecked: nothing runs yet."""
    return rules.check(Living(ray_service))


@step("preflight", deadline_s=60)
def preflight(site: Site, service: Service, outputs: Outputs | None) -> list[str]:
    """Check the rules on the service's manifests and show them as a table; returns the names of the broken ones."""
    objects = render(service, site.block.engine_of(service), IMAGES, find_redis(site, outputs), site.block.hf_token)
    checked = check(next(obj for obj in objects if obj["kind"] == "RayService"))
    broken = {finding.rule.name: finding for finding in checked.findings}
    table = [
        {
            "rule": rule.name,
            "kept": f"NO: {broken[rule.name].found}" if rule.name in broken else "not checked" if rule.name in checked.unchecked else "yes",
            "severity": rule.severity,
            "why": rule.why,
            "learnt from": rule.learnt_from,
        }
        for rule in rules.RULES
    ]
    create_table_artifact(key="preflight", table=table, description=f"{len(broken)} of {len(table) - len(checked.unchecked)} rules broken")
    for name, finding in broken.items():
        get_run_logger().warning("preflight: %s: %s; %s (%s)", name, finding.found, finding.rule.why, finding.rule.learnt_from)
    return list(broken)

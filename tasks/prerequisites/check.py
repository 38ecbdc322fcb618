"""All checks before the plan, run at once and reported together: a run that must fail later is refused while nothing is made."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from blocks.errors import Permanent
from blocks.parameters import Service
from tasks.cost.estimate import check_cost
from tasks.prerequisites.aws import check_credentials, check_kubernetes, check_zones
from tasks.prerequisites.hub import check_bases, check_model
from tasks.prerequisites.quotas import check_quotas
from tasks.prerequisites.tools import check_builder, check_programs
from tasks.status.aws import OneClientAtATime
from tasks.status.questions import Asked
from tasks.support.checks import Check, show_checks
from tasks.support.site import Site
from tasks.support.step import step

ANSWERS_WITHIN_S = 60.0
"""Seconds for all checks together. They run side by side, and normally take three."""


class PrerequisitesMissing(Permanent):
    """Something that the run needs is missing; nothing was made."""


def checks_of(site: Site, service: Service, *, provisioning: bool) -> dict[str, Callable[[], Check | list[Check]]]:
    """The checks by name; those of AWS only if Terraform is going to make something."""
    target, infrastructure = site.block, site.infrastructure
    found: dict[str, Callable[[], Check | list[Check]]] = {
        "programs": lambda: check_programs(target, infrastructure),
        "image builder": lambda: check_builder(target, service),
        "model": lambda: check_model(target, service),
        "base images": lambda: check_bases(target, service),
    }
    if provisioning and target.provisioned:
        session = target.session()
        clients = OneClientAtATime(session)
        found["cost"] = lambda: check_cost(infrastructure, target.region)
        found["Kubernetes"] = lambda: check_kubernetes(infrastructure.kubernetes_version, datetime.now(UTC).date())
        found["credentials"] = lambda: check_credentials(session)
        found["zones"] = lambda: check_zones(clients.client("ec2"), infrastructure)
        found["quotas"] = lambda: check_quotas(clients, infrastructure)
    return found


def run_checks(wanted: dict[str, Callable[[], Check | list[Check]]], within_s: float = ANSWERS_WITHIN_S) -> list[Check]:
    """Run all checks at once. One that has no answer in time, or fails by an error, is "not checked"."""
    until = time.monotonic() + within_s
    asked = {name: Asked(check) for name, check in wanted.items()}
    results: list[Check] = []
    for name, one in asked.items():
        try:
            answer = one.answer(until - time.monotonic())
        except Exception as error:
            answer = Check(name, "not checked", " ".join(str(error).split())[:300] or type(error).__name__)
        results += [answer] if isinstance(answer, Check) else answer
    return results


@step("check prerequisites", deadline_s=120)
def check_prerequisites(site: Site, service: Service, *, provisioning: bool = True) -> list[Check]:
    """Check everything that is known to fail a run later.

    Raises:
        PrerequisitesMissing: at least one check failed; the message has all of them.
    """
    results = run_checks(checks_of(site, service, provisioning=provisioning))
    if failed := show_checks("prerequisites", results):
        raise PrerequisitesMissing(f"{failed}. Nothing was made")
    return results

"""Tasks that plan, apply, read and destroy the AWS side of a stack with Terraform.

They add a target, its state bucket and the password of Redis to the plain functions of tasks/terraform/commands.py, and show
progress. Call them directly, not by submit(): only then a cancelled run stops Terraform gracefully.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from blocks.errors import Permanent, worth_retrying
from blocks.parameters import Infrastructure
from blocks.target import Target
from tasks.aws.account import (
    STATE_KEY,
    bucket_exists,
    caller_identity,
    delete_cluster_logs,
    delete_redis_auth_token,
    ensure_state_bucket,
    redis_auth_token,
    state_bucket,
)
from tasks.support.paths import TERRAFORM_RUNS
from tasks.support.progress import Progress
from tasks.terraform.commands import Workspace, apply, destroy, init, output, plan
from tasks.terraform.errors import PlanExceeded
from tasks.terraform.events import OnProgress, PlanSummary, TerraformProgress

LONGEST = 400
"""Largest number of characters of a progress description, which names up to three resources."""


class NotProvisioned(Permanent):
    """There is no infrastructure of this name."""


@dataclass(frozen=True, slots=True)
class RedisEndpoint:
    """Address and port of Redis's primary."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Provisioning:
    """Karpenter's settings: its queue, and the properties of the nodes that it launches."""

    queue_name: str
    instance_profile: str
    subnet_ids: Mapping[str, tuple[str, ...]]
    """Subnets by pool: those of all zones for core, those of zones with inf2 for inf2."""
    security_group_id: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Terraform outputs that the later stages need."""

    cluster_name: str
    serving_repository_url: str
    redis: RedisEndpoint | None
    control_plane_cidrs: tuple[str, ...]
    """Addresses from which the Kubernetes API connects to pods; no pod has one of them."""
    karpenter: Provisioning | None
    """Settings for Karpenter. None: all nodes are in managed groups."""

    @classmethod
    def from_terraform(cls, values: Mapping[str, Any]) -> Outputs:
        """Make it from the outputs of terraform/outputs.tf.

        Raises:
            NotProvisioned: some or all outputs are missing.
        """
        try:
            found = values.get("redis")  # Terraform leaves out an output that is null
            redis = RedisEndpoint(found["address"], int(found["port"])) if found else None
            given = values.get("karpenter")
            subnets = {"subnet_ids": {pool: tuple(ids) for pool, ids in given["subnet_ids"].items()}} if given else {}
            karpenter = Provisioning(**{**given, **subnets}) if given else None
            return cls(values["cluster_name"], values["serving_repository_url"], redis, tuple(values["control_plane_cidrs"]), karpenter)
        except KeyError as missing:
            raise NotProvisioned(
                f"Terraform's state has no output {missing}: the infrastructure is not there, or not whole; run provision"
            ) from missing


# Terraform is idempotent, so temporary failures are tried again. No result is cached, because the resources may have changed since.
_OPTIONS: dict[str, Any] = {
    "tags": ["aws", "terraform"],
    "retries": 3,
    "retry_delay_seconds": [5, 20, 60],
    "retry_condition_fn": worth_retrying,
    "cache_policy": NO_CACHE,
}


@task(name="plan infrastructure", **_OPTIONS)
def plan_infrastructure(target: Target, infrastructure: Infrastructure) -> PlanSummary:
    """Save Terraform's plan for `apply_infrastructure` and show it as an artifact."""
    workspace = _initialized_workspace(target, infrastructure)
    planned = plan(workspace, _variables(target, infrastructure), on_progress=_log_note)
    create_markdown_artifact(
        key=f"terraform-plan-{infrastructure.name}", markdown=_plan_table(planned), description=f"Terraform: {planned}"
    )
    get_run_logger().info("Terraform plans %s", planned)
    return planned


@task(name="apply infrastructure", **_OPTIONS)
def apply_infrastructure(target: Target, infrastructure: Infrastructure, approved: PlanSummary) -> Outputs:
    """Apply the approved plan. A retry goes on where the last attempt ended, and never changes more than was approved."""
    workspace = _initialized_workspace(target, infrastructure)
    with _show_progress(f"terraform-apply-{infrastructure.name}", "Terraform apply") as progress:
        if not workspace.plan_file.exists():
            _plan_the_rest(workspace, _variables(target, infrastructure), approved)
        try:
            apply(workspace, on_progress=progress)
        finally:
            workspace.plan_file.unlink(missing_ok=True)  # applied, or outdated by a partial apply
    return Outputs.from_terraform(output(workspace))


@task(name="read infrastructure", **_OPTIONS)
def infrastructure_outputs(target: Target, infrastructure: Infrastructure) -> Outputs:
    """Read the outputs of an infrastructure that exists."""
    if not bucket_exists(target, state_bucket(target, infrastructure.name)):
        raise NotProvisioned(f"there is no infrastructure named {infrastructure.name}: run provision")
    return Outputs.from_terraform(output(_initialized_workspace(target, infrastructure)))


@task(name="destroy infrastructure", **_OPTIONS)
def destroy_infrastructure(target: Target, infrastructure: Infrastructure) -> int:
    """Destroy what Terraform created, and Redis's password; returns the number of resources. The state's bucket stays."""
    if not bucket_exists(target, state_bucket(target, infrastructure.name)):
        return 0
    workspace = _initialized_workspace(target, infrastructure)
    with _show_progress(f"terraform-destroy-{infrastructure.name}", "Terraform destroy") as progress:
        # Terraform destroys what is in the state, whatever the variables are, so the name is enough.
        variables = {"name": infrastructure.name, "region": caller_identity(target).region, "enable_gcs_ha": False}
        destroyed = destroy(workspace, variables, on_progress=progress)
    delete_redis_auth_token(target, infrastructure.name)
    delete_cluster_logs(target, infrastructure.name)
    return destroyed


def _initialized_workspace(target: Target, infrastructure: Infrastructure) -> Workspace:
    """Return the stack's workspace, initialised on its bucket."""
    bucket = ensure_state_bucket(target, infrastructure.name)
    workspace = Workspace(
        home=TERRAFORM_RUNS / bucket,
        backend={"bucket": bucket, "key": STATE_KEY, "region": caller_identity(target).region},
        environment=target.aws_environment(),
    )
    init(workspace)
    return workspace


def _variables(target: Target, infrastructure: Infrastructure) -> dict[str, Any]:
    """All variables, with Redis's password, so they may be written to private files only."""
    variables = {
        **infrastructure.terraform_variables(),
        "name": infrastructure.name,
        "region": caller_identity(target).region,
        "enable_gcs_ha": infrastructure.enable_gcs_ha,
    }
    if infrastructure.enable_gcs_ha:
        variables["redis_auth_token"] = redis_auth_token(target, infrastructure.name).get_secret_value()
    return variables


def _plan_the_rest(workspace: Workspace, variables: Mapping[str, Any], approved: PlanSummary) -> None:
    """Plan the rest of an approved plan that was applied in part.

    Raises:
        PlanExceeded: Terraform would now change resources that were not in the approved plan.
    """
    beyond = plan(workspace, variables).beyond(approved)
    if beyond:
        workspace.plan_file.unlink(missing_ok=True)
        raise PlanExceeded(
            f"resources have changed since the plan was approved: Terraform would touch {', '.join(beyond)} as well. Run provision again"
        )


def _log_note(progress: TerraformProgress) -> None:
    if progress.note:
        get_run_logger().info("%s", progress.note.strip())


@contextmanager
def _show_progress(key: str, title: str) -> Iterator[OnProgress]:
    """Yield a function that writes progress to the log and, at most once a second, to a progress artifact."""
    artifact = Progress(key, longest=LONGEST)
    artifact.show(0, f"{title}: starting")

    def show(progress: TerraformProgress) -> None:
        _log_note(progress)
        artifact.show(progress.percent, f"{title}: {progress}")

    yield show
    artifact.show(100, f"{title}: done")


def _plan_table(planned: PlanSummary) -> str:
    """The plan as a Markdown table."""
    rows = "".join(f"| {change.action} | `{change.address}` |\n" for change in planned.changes)
    digest = f"Digest: `{planned.digest}`. To approve exactly this plan, give it as `approved`.\n\n" if planned.digest else ""
    return f"## Terraform plan: {planned}\n\n{digest}" + (
        f"| action | resource |\n|---|---|\n{rows}" if rows else "No changes: everything is already as configured.\n"
    )

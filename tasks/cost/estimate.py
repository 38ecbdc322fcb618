"""What a stack with these parameters would cost, before it is made."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact

from blocks.parameters import Infrastructure, Service
from tasks.cost import prices
from tasks.cost.prices import Cost, price, times, total, unpriced, volume
from tasks.service import engines
from tasks.support.checks import Check
from tasks.support.site import Site
from tasks.support.step import step

AROUND_DEPLOYMENT_H = 1.0
"""Hours of a lifecycle for making the infrastructure, a drill and destroying it again. Not measured on AWS."""


def estimate(infrastructure: Infrastructure, region: str, inf2_type: str | None = None, times_inf2: int = 1) -> list[Cost]:
    """What everything costs by the hour while it runs, with all inf2 nodes of that type; the parameters' first one by default."""
    core, inf2 = infrastructure.core_nodes, infrastructure.inf2_nodes
    kind, count = inf2_type or inf2.instance_type, inf2.count * times_inf2
    found = [
        Cost("EKS control plane", price(region, "eks_cluster")),
        Cost("NAT gateway", price(region, "nat_gateway")),
        Cost("its public address", price(region, "public_address")),
        Cost(f"{core.count} core nodes {core.instance_type}", times(core.count, price(region, "instances", core.instance_type))),
        Cost(f"{count} inf2 nodes {kind}", times(count, price(region, "instances", kind))),
        Cost("gp3 volumes of the nodes", volume(region, core.count * core.disk_gib + count * inf2.disk_gib)),
    ]
    if infrastructure.enable_gcs_ha:
        nodes, kind = 1 + infrastructure.redis.replicas, infrastructure.redis.node_type
        found.append(Cost(f"{nodes} Redis nodes {kind}", times(nodes, price(region, "cache_nodes", kind))))
    return found


def dearest(infrastructure: Infrastructure, region: str) -> list[Cost]:
    """What everything costs when AWS has only the dearest of the allowed inf2 types."""
    inf2 = infrastructure.inf2_nodes
    kinds = (inf2.instance_type, *inf2.fallback_types)
    return max((estimate(infrastructure, region, kind) for kind in kinds), key=total)


def check_cost(infrastructure: Infrastructure, region: str) -> Check:
    """Check that the stack never runs at more than max_usd_per_hour, also on its dearest inf2 type."""
    usual, worst, most = estimate(infrastructure, region), dearest(infrastructure, region), infrastructure.max_usd_per_hour
    detail = f"${total(usual):.2f} an hour, ${total(worst):.2f} on the dearest inf2 type, at AWS's prices of {prices.date()}"
    missing = unpriced(worst)
    if missing:
        detail += f"; without a price: {', '.join(missing)}"
    if most is None:
        return Check("cost", "not checked" if missing else "ok", detail)
    if missing:
        return Check("cost", "bad", f"{detail}: max_usd_per_hour cannot be promised in {region}; leave it out, or add the prices")
    if total(worst) > most:
        return Check(
            "cost", "bad", f"{detail}: above max_usd_per_hour, which is {most:g}; name cheaper types in inf2_nodes, or fewer nodes"
        )
    return Check("cost", "ok", f"{detail}, at most {most:g} allowed")


def described(infrastructure: Infrastructure, region: str, service: Service, engine: str) -> str:
    """The estimate in Markdown: by resource, its alternatives, and what one lifecycle costs at most."""
    costs = estimate(infrastructure, region)
    per_replica = times(1 / service.workers_per_node, price(region, "instances", infrastructure.inf2_nodes.instance_type))
    rows = "".join(f"| {cost.what} | {_usd(cost.usd_per_hour)} |\n" for cost in costs)
    # A Job that compiles ahead has as long as the service afterwards.
    ready_h = engines.ready_within_s(service, engine) * (2 if engines.compiles(service, engine) else 1) / 3600
    inf2 = infrastructure.inf2_nodes
    alternatives = {f"with {kind} instead": estimate(infrastructure, region, kind) for kind in inf2.fallback_types}
    alternatives["while a new image takes over"] = estimate(infrastructure, region, times_inf2=2)
    others = "".join(f"| {what} | {_usd(total(each))} |\n" for what, each in alternatives.items() if not unpriced(each))
    return (
        f"## {infrastructure.name}: ${total(costs):.2f} an hour\n\n"
        f"| resource | $ an hour |\n|--|--|\n{rows}| **together** | **{_usd(total(costs))}** |\n{others}\n"
        f"One lifecycle with a drill takes at most {AROUND_DEPLOYMENT_H + ready_h:.1f} h and costs at most "
        f"${total(costs) * (AROUND_DEPLOYMENT_H + ready_h):.2f}; a month costs ${total(costs) * prices.HOURS_A_MONTH:.0f}. "
        f"The node of one replica of the model, with {service.workers_per_node} on a node: {_usd(per_replica)} an hour.\n\n"
        f"AWS's list prices of {prices.date()} in {region}. Without a price: {', '.join(unpriced(costs)) or 'nothing'}. "
        f"Not in the sum: {prices.NOT_IN_THE_SUM}.\n"
    )


def _usd(value: float | None) -> str:
    return "no price" if value is None else f"{value:.3f}"


@step("estimate cost", deadline_s=60)
def show_estimate(site: Site, service: Service) -> str:
    """Show what the planned stack would cost."""
    text = described(site.infrastructure, site.block.region, service, site.block.engine_of(service))
    create_markdown_artifact(key=f"cost-{site.infrastructure.name}", markdown=text, description="What it costs on AWS")
    return text

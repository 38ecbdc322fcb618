"""Everything that there is of a stack, named and not touched: in AWS, and in its cluster while there is one."""

from __future__ import annotations

from dataclasses import asdict

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact

from blocks.cluster import ClusterNotActive, NoCluster
from blocks.parameters import Service
from tasks.status.aws import questions as aws_questions
from tasks.status.cluster import questions as cluster_questions
from tasks.status.questions import ANSWER_WITHIN_S, Asked, StatusRow, ask, unknown
from tasks.support.site import Site, forget_connections
from tasks.support.step import step

__all__ = ["StatusRow", "show_status", "stack_rows"]

NOTHING = "nothing of it is there"


def stack_rows(site: Site, service: Service) -> list[StatusRow]:
    """A line for each thing that there is. Where there is none, one that says so."""
    lines = [*_aws(site), *_cluster(site, service)]
    # The bucket stays when all else is gone: it has the evidence.
    if all(line.kind == "s3 bucket" and line.known for line in lines):
        lines.append(StatusRow("stack", site.cluster, f"{NOTHING} but the bucket with state and evidence" if lines else NOTHING))
    return lines


def _aws(site: Site) -> list[StatusRow]:
    block = site.block  # read here, and kept by the process: a thread has no connection to Prefect
    if block.aws is None:
        return []
    return ask(aws_questions(block.session(), site.infrastructure.name, made_here=block.provisioned))


def _cluster(site: Site, service: Service) -> list[StatusRow]:
    forget_connections()
    try:
        api = Asked(site.api).answer(ANSWER_WITHIN_S)
    except NoCluster:
        return []
    except ClusterNotActive as error:
        return [StatusRow("cluster", site.cluster, str(error))]
    except Exception as error:
        return [unknown("cluster", site.cluster, error)]
    return ask(cluster_questions(api, service))


@step("look around", deadline_s=180)
def show_status(site: Site, service: Service) -> list[StatusRow]:
    """`stack_rows`, logged and shown as a table."""
    lines = stack_rows(site, service)
    for line in lines:
        get_run_logger().info("%s", line)
    table = [asdict(line) for line in lines]
    create_table_artifact(key="status", table=table, description=f"What there is of {site.cluster}")
    return lines

"""The table of the flow status: everything that exists of a stack, in AWS and in its cluster. Nothing is changed."""

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

NOTHING = "nothing of it is there"


def stack_rows(site: Site, service: Service) -> list[StatusRow]:
    """A row for everything that exists; if nothing exists, one row that reports this."""
    rows = [*_aws(site), *_cluster(site, service)]
    # The bucket stays when everything else is deleted: it holds the evidence.
    if all(row.kind == "s3 bucket" and row.known for row in rows):
        rows.append(StatusRow("stack", site.cluster, f"{NOTHING} but the bucket with state and evidence" if rows else NOTHING))
    return rows


def _aws(site: Site) -> list[StatusRow]:
    block = site.block  # loaded here, because the threads of the questions cannot reach Prefect
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
    """Log `stack_rows` and show them as a table."""
    rows = stack_rows(site, service)
    for row in rows:
        get_run_logger().info("%s", row)
    table = [asdict(row) for row in rows]
    create_table_artifact(key="status", table=table, description=f"What there is of {site.cluster}")
    return rows

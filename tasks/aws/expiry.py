"""When a stack ends: a tag of its bucket, which is there before everything else and stays after it.

So expired stacks are found without the state of Prefect or of Terraform, and one whose clean-up died is found again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError
from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event

from blocks.errors import Permanent
from tasks.aws.account import Clients, bucket_exists, caller_identity, ensure_state_bucket, state_bucket
from tasks.support.site import Site
from tasks.support.step import step

EXPIRES, WARNED = "leeward:expires-at", "leeward:warned-at"
EXPIRING = "leeward.stack.expiring"
"""Name of the event that is sent when a stack will end soon, for automations that send a message."""


class NotReaped(Permanent):
    """Some stacks that have expired are still there."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """A stack and when it ends."""

    name: str
    at: datetime
    warned: datetime | None = None

    def due(self, now: datetime, warning: timedelta) -> bool:
        """Whether it is to be removed now: it has expired, and was warned of long enough ago."""
        return self.at <= now and (not warning or (self.warned is not None and now - self.warned >= warning))

    def soon(self, now: datetime, warning: timedelta) -> bool:
        """Whether a warning is to be given now."""
        return bool(warning) and self.warned is None and self.at - now <= warning


def set_expiry(session: Clients, name: str, at: datetime | None) -> None:
    """Write when the stack ends, None: never; an earlier warning is forgotten."""
    bucket = ensure_state_bucket(session, name)
    tags = {key: value for key, value in _tags(session, bucket).items() if key not in (EXPIRES, WARNED)}
    if at is not None:
        tags[EXPIRES] = at.astimezone(UTC).isoformat(timespec="seconds")
    _write(session, bucket, tags)


def set_warned(session: Clients, name: str, now: datetime) -> None:
    """Write that a warning was given."""
    bucket = state_bucket(session, name)
    _write(session, bucket, _tags(session, bucket) | {WARNED: now.astimezone(UTC).isoformat(timespec="seconds")})


def expiries(session: Clients) -> list[Expiry]:
    """Every stack of this account and region that ends by itself."""
    caller = caller_identity(session)
    ours = re.compile(rf"^leeward-(.+)-{caller.account}-{caller.region}$")
    found = []
    for bucket in session.client("s3").list_buckets()["Buckets"]:
        named = ours.match(bucket["Name"])
        tags = _tags(session, bucket["Name"]) if named else {}
        if named and EXPIRES in tags:
            warned = tags.get(WARNED)
            found.append(Expiry(named[1], datetime.fromisoformat(tags[EXPIRES]), datetime.fromisoformat(warned) if warned else None))
    return sorted(found, key=lambda each: each.at)


def _tags(session: Clients, bucket: str) -> dict[str, str]:
    try:
        found = session.client("s3").get_bucket_tagging(Bucket=bucket)["TagSet"]
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchTagSet", "NoSuchBucket"):
            raise
        return {}
    return {tag["Key"]: tag["Value"] for tag in found}


def _write(session: Clients, bucket: str, tags: dict[str, str]) -> None:
    s3: Any = session.client("s3")
    if tags:
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]})
    else:
        s3.delete_bucket_tagging(Bucket=bucket)


@step("write expiry", deadline_s=120)
def write_expiry(site: Site, after_h: float) -> str:
    """Write when the stack ends by itself; 0: never. Before anything is made, so that a run that dies leaves no stack without an end."""
    at = datetime.now(UTC) + timedelta(hours=after_h) if after_h else None
    set_expiry(site.block.session(), site.infrastructure.name, at)
    text = (
        f"{site.infrastructure.name} ends by itself at {at:%Y-%m-%d %H:%M} UTC"
        if at
        else f"{site.infrastructure.name} never ends by itself"
    )
    get_run_logger().info("%s", text)
    return text


@step("forget expiry", deadline_s=120)
def forget_expiry(site: Site) -> None:
    """Remove the expiry of a stack that is gone."""
    if site.block.aws is None or not site.block.provisioned:
        return
    session, name = site.block.session(), site.infrastructure.name
    if bucket_exists(session, state_bucket(session, name)):
        set_expiry(session, name, None)


@step("find expired stacks", deadline_s=120)
def find_expired(site: Site, warning_min: float) -> list[str]:
    """Names of the target's stacks that are to be removed now. Those that end soon are warned of: in the log, and by an event."""
    session, now, warning = site.block.session(), datetime.now(UTC), timedelta(minutes=warning_min)
    found = expiries(session)
    for each in found:
        if each.soon(now, warning):
            get_run_logger().warning(
                "%s ends by itself at %s UTC, at the earliest in %d min: run provision with another expires_after_h to keep it",
                *(each.name, f"{each.at:%Y-%m-%d %H:%M}", warning_min),
            )
            emit_event(EXPIRING, {"prefect.resource.id": f"leeward.stack.{each.name}"}, payload={"expires_at": each.at.isoformat()})
            set_warned(session, each.name, now)
    table = [{"stack": each.name, "ends": f"{each.at:%Y-%m-%d %H:%M} UTC", "now": each.due(now, warning)} for each in found]
    create_table_artifact(key="stacks", table=table, description="Stacks that end by themselves")
    return [each.name for each in found if each.due(now, warning)]

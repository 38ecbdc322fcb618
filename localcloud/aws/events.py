"""What EC2 tells EventBridge of its instances: to the rules on the default bus, and by them to queues. Moto tells nothing."""

from __future__ import annotations

import logging
import time
from typing import Any
from uuid import uuid4

from moto.ec2.models.instances import Instance
from moto.events.models import events_backends

from localcloud import settings
from localcloud.aws.auth import credentials

log = logging.getLogger(__name__)


def state_changed(instance: Instance, *states: str) -> None:
    """The instance has gone through these states, the last is the one that it is in. What was told already is not told again."""
    for state in states:
        if vars(instance).get("_told_state") not in (state, "terminated"):
            vars(instance)["_told_state"] = state
            _send("EC2 Instance State-change Notification", instance.id, {"state": state})


def interruption_warned(instance: Instance) -> None:
    """A spot instance is to be taken back."""
    _send("EC2 Spot Instance Interruption Warning", instance.id, {"instance-action": "terminate"})


def _send(detail_type: str, instance_id: str, detail: dict[str, str]) -> None:
    event: Any = {
        "version": "0",
        "id": str(uuid4()),
        "detail-type": detail_type,
        "source": "aws.ec2",
        "account": settings.ACCOUNT,
        "time": time.time(),
        "region": settings.REGION,
        "resources": [f"arn:{credentials.PARTITION}:ec2:{settings.REGION}:{settings.ACCOUNT}:instance/{instance_id}"],
        "detail": {"instance-id": instance_id} | detail,
    }
    bus = events_backends[settings.ACCOUNT][settings.REGION].event_buses["default"]
    for rule in list(bus.rules.values()):  # may change meanwhile: instances change their state in threads too
        if rule.state != "ENABLED":
            continue
        try:
            # Transformed, moto leaves out the account, even where a target asks for no transformation.
            rule.send_to_targets(event, transform_input=False)
        except Exception as error:  # a target that is gone, or of a kind unknown to moto: nobody is told on AWS either
            log.warning("event %r does not reach the targets of rule %s: %s: %s", detail_type, rule.name, type(error).__name__, error)

"""The events that EC2 sends to EventBridge about its instances, which moto does not send.

They go to the rules on the default bus, and from there to queues.
"""

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


def send_state_changes(instance: Instance, *states: str) -> None:
    """Send an event for each state that the instance has gone through, unless it is the last one sent or follows terminated."""
    for state in states:
        if vars(instance).get("_sent_state") not in (state, "terminated"):
            vars(instance)["_sent_state"] = state
            _send("EC2 Instance State-change Notification", instance.id, {"state": state})


def send_interruption_warning(instance: Instance) -> None:
    """Warn that the spot instance is going to be taken back."""
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
    for rule in list(bus.rules.values()):  # a copy: instances change their state in threads too
        if rule.state != "ENABLED":
            continue
        try:
            # With a transformation moto leaves out the account, even where the target asks for none.
            rule.send_to_targets(event, transform_input=False)
        except Exception as error:  # the target is gone, or of a kind that moto does not know; on AWS the event is lost too
            log.warning("event %r does not reach the targets of rule %s: %s: %s", detail_type, rule.name, type(error).__name__, error)

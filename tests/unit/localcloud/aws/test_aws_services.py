"""The table of services: a service that is added to it is served, and seen by inventory and leftovers."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError
from embedded_aws import EmbeddedAws
from moto.core.responses import ActionResult
from moto.sns import urls as sns_urls
from moto.sns.responses import SNSResponse
from werkzeug.wrappers import Response

from localcloud import settings
from localcloud.aws import services
from localcloud.aws.auth import errors
from localcloud.aws.server import Endpoint
from localcloud.aws.services import Service


class Sns(SNSResponse):
    """What a module `localcloud/aws/sns.py` could contain: moto's SNS without one of its operations."""

    def list_phone_numbers_opted_out(self) -> ActionResult:
        raise NotImplementedError("ListPhoneNumbersOptedOut: there are no telephones here")


def test_a_service_added_to_the_table_is_served_and_seen_by_inventory_and_leftovers(
    aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    def extend_moto() -> None:
        monkeypatch.setitem(sns_urls.url_paths, "{0}/$", Sns.dispatch)

    sns_line = Service("sns", extend_moto, not_resources=frozenset({"sms_attributes"}))
    monkeypatch.setattr(services, "SERVICES", (*services.SERVICES, sns_line))
    monkeypatch.setattr(services, "_extended", set(services._extended))
    endpoint = Endpoint(aws.machine, "127.0.0.1", 0)
    endpoint.start()
    try:
        sns = aws.session.client("sns", endpoint_url=endpoint.url)
        assert aws.get("leftovers") == {}, "moto's SNS starts with telephone numbers, which are in the baseline"
        topic = sns.create_topic(Name="made")["TopicArn"]
        sns.set_sms_attributes(attributes={"DefaultSMSType": "Promotional"})
        assert aws.get("leftovers") == {f"sns/{settings.REGION}": {"topics": [topic]}}
        assert aws.get("inventory")[f"sns/{settings.REGION}"]["topics"] == [topic]
        with pytest.raises(ClientError, match="there are no telephones here"):
            sns.list_phone_numbers_opted_out()
        sns.delete_topic(TopicArn=topic)
        assert aws.get("leftovers") == {}
    finally:
        endpoint.stop()


def test_a_service_that_moto_lacks_is_answered_by_its_own_application(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_: Any) -> Response:
        return Response('{"ServiceSummaryList": []}', content_type="application/x-amz-json-1.0")

    monkeypatch.setattr(services, "SERVICES", (*services.SERVICES, Service("apprunner", answer=answer)))
    assert aws.client("apprunner").list_services()["ServiceSummaryList"] == []
    aws.fresh()
    assert aws.get("leftovers") == {}


def test_every_service_of_the_table_has_errors_in_the_form_of_its_protocol(aws: EmbeddedAws) -> None:
    models = aws.session._session.get_component("data_loader")
    for service in services.SERVICES:
        metadata = models.load_service_model(service.name, "service-2")["metadata"]
        signed = metadata.get("signingName", metadata["endpointPrefix"])
        assert errors.is_json(signed) == ("json" in metadata["protocol"]), (service.name, metadata["protocol"])

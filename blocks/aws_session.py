"""boto3 sessions that act as a role: credentials of a block, an assumed role, a custom endpoint."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from prefect_aws import AwsCredentials  # type: ignore[import-untyped]  # no py.typed

from blocks import rights
from blocks.addresses import is_private

ROLE_SESSION_S = 3600
"""Lifetime of the assumed role's credentials: the longest that every role allows. A Terraform run that takes longer gets new
credentials with its next command."""
ROLE_SESSION_NAME = "leeward"


class AwsSession:
    """Makes clients for one account, role, region and endpoint. Credentials of the role refresh themselves."""

    def __init__(self, credentials: AwsCredentials, region: str, role_arn: str = "") -> None:
        self.region = region
        self.endpoint_url = credentials.aws_client_parameters.endpoint_url
        self._parameters = _client_parameters(credentials)
        self._role_arn = role_arn
        self._base = credentials.get_boto3_session()
        self.boto3 = self._session_of_role() if role_arn else self._base

    @property
    def botocore(self) -> Any:
        """The underlying botocore session, for request signers."""
        return self.boto3._session

    def client(self, service_name: str, /) -> Any:
        """A boto3 client of the service, with region and endpoint set. Its refusals say which action the role lacks."""
        made = self.boto3.client(service_name, **self._parameters, region_name=self.region)
        made.meta.events.register_last("after-call", rights.explain)
        return made

    def environment(self) -> dict[str, str]:
        """Environment variables with which another program acts as this session. The credentials are new, so they last ROLE_SESSION_S."""
        found = self._new_credentials()
        pairs = {
            "AWS_ACCESS_KEY_ID": found["access_key"],
            "AWS_SECRET_ACCESS_KEY": found["secret_key"],
            "AWS_SESSION_TOKEN": found["token"],
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint_url,
        }
        return {name: value for name, value in pairs.items() if value}

    def new_credentials_end(self) -> datetime | str | None:
        """When the credentials of `environment` would end; None: never. A text: why that is not known."""
        if self._role_arn:
            # As text from STS, or already a time.
            found = self._fetcher().fetch_credentials()["expiry_time"]
            return datetime.fromisoformat(found) if isinstance(found, str) else found
        credentials = self._base.get_credentials()
        # botocore has no public name for it.
        expires: datetime | None = getattr(credentials, "_expiry_time", None)
        if expires is None and credentials.token:
            return "they have a session token, and do not say when it ends"
        return expires

    def _new_credentials(self) -> dict[str, str | None]:
        if self._role_arn:
            got = self._fetcher().fetch_credentials()
            return {"access_key": got["access_key"], "secret_key": got["secret_key"], "token": got["token"]}
        frozen = self._base.get_credentials().get_frozen_credentials()
        return {"access_key": frozen.access_key, "secret_key": frozen.secret_key, "token": frozen.token}

    def _fetcher(self) -> AssumeRoleCredentialFetcher:
        def sts(service_name: str, **given: Any) -> Any:
            return self._base.client(service_name, **{**given, **self._parameters, "region_name": self.region})

        arguments = {"RoleSessionName": ROLE_SESSION_NAME, "DurationSeconds": ROLE_SESSION_S}
        return AssumeRoleCredentialFetcher(sts, self._base.get_credentials(), self._role_arn, extra_args=arguments)

    def _session_of_role(self) -> boto3.Session:
        session = botocore.session.get_session()
        session.set_config_variable("region", self.region)
        # botocore offers no public way to give a session credentials that refresh themselves.
        session._credentials = DeferredRefreshableCredentials(refresh_using=self._fetcher().fetch_credentials, method="assume-role")
        return boto3.Session(botocore_session=session, region_name=self.region)


def _client_parameters(credentials: AwsCredentials) -> dict[str, Any]:
    given = credentials.aws_client_parameters.get_params_override()
    endpoint = given.get("endpoint_url")
    if endpoint and is_private(endpoint):
        direct = Config(proxies={})
        given["config"] = given["config"].merge(direct) if "config" in given else direct
    return dict(given)

"""Container registries: what they hold already, and the login, for the pipeline and for its tools."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from blocks.addresses import is_private
from blocks.errors import Permanent, Transient

TIMEOUT_S = 15.0
_MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.manifest.v1",
        "oci.image.index.v1",
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.list.v2",
    )
)


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository in a registry: `host/name`."""

    host: str
    name: str
    plain_http: bool = False
    login: str = ""
    """The login as user:password in base64; a secret."""

    @classmethod
    def parse(cls, url: str, plain_http: Collection[str] = (), login: str = "") -> Repository:
        """Make a repository from `host[:port]/name`."""
        host, _, name = url.removeprefix("https://").partition("/")
        return cls(host, name, host in plain_http, login)

    def __repr__(self) -> str:
        return f"Repository({self.host}/{self.name})"

    def digest(self, tag: str, *, anonymous: bool = False) -> str | None:
        """The digest of the image under that tag; None: there is no such image.

        Args:
            tag: Tag or digest.
            anonymous: Whether to get the token that public registries give to everybody.

        Raises:
            Transient: the registry does not answer.
            Permanent: it refuses the request.
        """
        url = f"{'http' if self.plain_http else 'https'}://{self.host}/v2/{self.name}/manifests/{tag}"
        headers = {"Accept": _MANIFESTS, **({"Authorization": f"Basic {self.login}"} if self.login else {})}
        try:
            answer = pool(url).request("HEAD", url, headers=headers, timeout=TIMEOUT_S, retries=False)
            if anonymous and answer.status == 401 and (token := _public_token(answer.headers.get("WWW-Authenticate", ""))):
                headers["Authorization"] = f"Bearer {token}"
                answer = pool(url).request("HEAD", url, headers=headers, timeout=TIMEOUT_S, retries=False)
        except urllib3.exceptions.HTTPError as error:
            raise Transient(f"registry {self.host} does not answer: {error}") from error
        if answer.status == 404:
            return None
        if answer.status >= 500:
            raise Transient(f"registry {self.host} answers HTTP {answer.status}")
        found: str | None = answer.headers.get("Docker-Content-Digest")
        if answer.status != 200 or not found:
            raise Permanent(f"registry {self.host} answers HTTP {answer.status} for {self.name}:{tag}; may these credentials pull from it?")
        return found

    def reference(self, digest: str) -> str:
        """Reference of an image by its digest."""
        return f"{self.host}/{self.name}@{digest}"

    def write_login(self, folder: Path) -> Path:
        """Write `config.json` with the login into a private folder, in the format of buildah, docker and podman."""
        path = folder / "config.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps({"auths": {self.host: {"auth": self.login}} if self.login else {}}), encoding="utf-8")
        return path


def ecr_login(session: Any) -> str:
    """The login for the account's ECR registry, valid for 12 hours."""
    try:
        data = session.client("ecr").get_authorization_token()["authorizationData"]
    except (ClientError, BotoCoreError) as error:
        raise Permanent(f"ECR gives no login: {error}; may the role call ecr:GetAuthorizationToken?") from error
    return str(data[0]["authorizationToken"])


def _public_token(challenge: str) -> str:
    """The token for everybody to which the registry's challenge points; empty: there is none."""
    found = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if not challenge.lower().startswith("bearer ") or not found.get("realm", "").startswith("https://"):
        return ""
    realm = found.pop("realm")
    answer = pool(realm).request("GET", realm, fields=found, timeout=TIMEOUT_S, retries=False)
    return str(answer.json().get("token", "")) if answer.status == 200 else ""


def pool(url: str) -> urllib3.PoolManager:
    """Connections to the host of the URL: through the environment's proxy, unless the host is a private one."""
    settings = urllib3.util.Timeout(TIMEOUT_S)
    proxy = None if is_private(url) else _proxy(url)
    return urllib3.ProxyManager(proxy, timeout=settings) if proxy else urllib3.PoolManager(timeout=settings)


def _proxy(url: str) -> str | None:
    from urllib.request import getproxies, proxy_bypass

    scheme, host = url.split("://")[0], url.split("/")[2]
    return None if proxy_bypass(host) else getproxies().get(scheme)

"""AWS Signature Version 4, checked: in a header, or in the query of a presigned URL.

It has no clock and no key store. A request that it refuses raises `Refused` with AWS's own error code.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_BODY = hashlib.sha256(b"").hexdigest()
CLOCK_SKEW = timedelta(minutes=15)
"""AWS accepts a request that is signed in a header for 15 minutes."""
STS_LIFETIME = timedelta(minutes=15)
"""STS accepts its presigned requests for 15 minutes, whatever X-Amz-Expires is: the lifetime of EKS tokens."""


class Refused(Exception):
    """The request is refused; `code` is AWS's error code, `status` the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


@dataclass(frozen=True)
class Claim:
    """What a request claims about its signer; nothing of it is checked yet."""

    access_key_id: str
    day: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    session_token: str | None = None
    expires: int | None = None
    """Seconds that a presigned URL is valid; None when the request is signed in a header."""

    @property
    def signed_at(self) -> datetime:
        """Time of the signature, UTC; `Refused` when it is not in AWS's form."""
        try:
            return datetime.strptime(self.timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise Refused("IncompleteSignature", f"X-Amz-Date {self.timestamp!r} is not of the form YYYYMMDDTHHMMSSZ", 400) from None


@dataclass(frozen=True)
class SignedRequest:
    """The parts of an HTTP request that a signature covers, as they were sent."""

    method: str
    path: str
    """The path, still percent-encoded."""
    query: str
    headers: Mapping[str, str]
    """Values by names in lower case."""
    payload_hash: str


def claim_from_header(headers: Mapping[str, str]) -> Claim:
    """Read the claim from the Authorization header."""
    kind, _, rest = headers["authorization"].partition(" ")
    if kind != ALGORITHM:
        raise Refused("IncompleteSignature", f"the Authorization header must be {ALGORITHM}", 400)
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    return _claim(
        credential=parts.get("Credential", ""),
        signed_headers=parts.get("SignedHeaders", ""),
        signature=parts.get("Signature", ""),
        timestamp=headers.get("x-amz-date", ""),
        session_token=headers.get("x-amz-security-token"),
    )


def claim_from_query(query: str) -> Claim:
    """Read the claim from the query of a presigned URL."""
    pairs = parse_qsl(query, keep_blank_values=True)
    values = dict(pairs)
    if len(values) != len(pairs):
        raise Refused("IncompleteSignature", "a query parameter is given twice", 400)
    if values.get("X-Amz-Algorithm") != ALGORITHM or not values.get("X-Amz-Expires", "").isdigit():
        raise Refused("IncompleteSignature", f"a presigned URL needs X-Amz-Algorithm={ALGORITHM} and X-Amz-Expires", 400)
    return _claim(
        credential=values.get("X-Amz-Credential", ""),
        signed_headers=values.get("X-Amz-SignedHeaders", ""),
        signature=values.get("X-Amz-Signature", ""),
        timestamp=values.get("X-Amz-Date", ""),
        session_token=values.get("X-Amz-Security-Token"),
        expires=int(values["X-Amz-Expires"]),
    )


def _claim(
    credential: str, signed_headers: str, signature: str, timestamp: str, session_token: str | None, expires: int | None = None
) -> Claim:
    scope = credential.split("/")
    if len(scope) != 5 or scope[4] != "aws4_request" or not signature or not signed_headers:
        raise Refused("IncompleteSignature", "credential, signed headers and signature are needed", 400)
    names = tuple(signed_headers.split(";"))
    if "host" not in names:
        raise Refused("SignatureDoesNotMatch", "the host header must be signed")
    access_key_id, day, region, service, _ = scope
    return Claim(access_key_id, day, region, service, names, signature, timestamp, session_token, expires)


def check_age(claim: Claim, now: datetime) -> None:
    """Refuse a claim from too long ago, or from the future."""
    age = now - claim.signed_at
    if claim.expires is None:
        lifetime = CLOCK_SKEW
    elif claim.service == "sts":
        lifetime = STS_LIFETIME
    else:
        lifetime = timedelta(seconds=claim.expires)
    if age > lifetime:
        raise Refused("ExpiredToken" if claim.service == "sts" else "RequestExpired", f"signed {age} ago, valid for {lifetime}")
    if age < -CLOCK_SKEW:
        raise Refused("RequestTimeTooSkewed", f"signed {-age} in the future: is the clock right?")
    if claim.timestamp[:8] != claim.day:
        raise Refused("SignatureDoesNotMatch", "the credential's date is not that of X-Amz-Date")


def check_signature(claim: Claim, request: SignedRequest, secret: str) -> None:
    """Refuse a signature that was not made with the secret over exactly this request."""
    if not hmac.compare_digest(_signature(claim, request, secret), claim.signature):
        raise Refused("SignatureDoesNotMatch", "the signature does not match: check the secret access key")


def _signature(claim: Claim, request: SignedRequest, secret: str) -> str:
    scope = f"{claim.day}/{claim.region}/{claim.service}/aws4_request"
    hashed = hashlib.sha256(_canonical_request(claim, request).encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in (claim.day, claim.region, claim.service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, "\n".join((ALGORITHM, claim.timestamp, scope, hashed)).encode(), hashlib.sha256).hexdigest()


def _canonical_request(claim: Claim, request: SignedRequest) -> str:
    # Every service but S3 signs the path encoded twice.
    path = request.path or "/"
    path = path if claim.service == "s3" else quote(path, safe="/~")
    headers = "".join(f"{name}:{_squeezed(request.headers.get(name, ''))}\n" for name in claim.signed_headers)
    names = ";".join(claim.signed_headers)
    return "\n".join((request.method, path, _canonical_query(request.query), headers, names, request.payload_hash))


def _canonical_query(query: str) -> str:
    pairs = ((k, v) for k, v in parse_qsl(query, keep_blank_values=True) if k != "X-Amz-Signature")
    return "&".join(f"{k}={v}" for k, v in sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in pairs))


def _squeezed(value: str) -> str:
    return re.sub(" +", " ", value.strip())

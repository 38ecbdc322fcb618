"""The door of the endpoint: every AWS request must be signed by a key that the embedded IAM or STS issued.

Moto itself checks nobody. What is checked here: the key, its session token, the signature, the age of the request.
What is not: which actions the principal's policies allow. A role that has none at all may do nothing.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO, cast

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from localcloud import settings
from localcloud.aws import moto_lock, routes, sts, unknown
from localcloud.aws.auth import authentication, credentials, errors, signatures
from localcloud.aws.auth.signatures import Claim, Refused, SignedRequest
from localcloud.aws.eks import pod_credentials

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_EVERYWHERE = {"iam", "sts", "s3"}
"""Services that SDKs may address in us-east-1, wherever the work is."""
_IN_MEMORY = 1 << 20
"""Bytes of an S3 body; what is larger goes to a file."""
_PIECE = 1 << 16


def application(hosts: frozenset[str]) -> WSGIApplication:
    """The WSGI application; `hosts` are the "address:port" forms under which it is reached."""
    moto = DomainDispatcherApplication(create_backend_app)

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "").startswith(routes.PREFIX):
            return routes.answer(environ, start_response, hosts)
        claim: Claim | None = None
        try:
            claim = _claim(environ)
            credential = _authenticate(environ, claim)
            _check_allowed(claim, credential)
        except Refused as refused:
            return _refuse(start_response, claim, refused)
        if claim.expires is not None and claim.service == "sts":
            if sts.wants_json(environ):
                return sts.caller_identity_json(start_response, credential)
            sts.sign_in_header(environ, claim)
        if claim.service == pod_credentials.SERVICE:
            return pod_credentials.answer(environ, start_response)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as body:
            if claim.service == "s3":  # the other bodies have been read for their signature
                # Now, not with the books in hand: a client may stop within its body, and everybody else would wait for it.
                _receive(environ, cast(BinaryIO, body))
            with moto_lock.MOTO_LOCK:
                return unknown.answer(moto, claim.service, environ, start_response)

    return answer


def _claim(environ: WSGIEnvironment) -> Claim:
    if "HTTP_AUTHORIZATION" in environ:
        return signatures.claim_from_header(_headers(environ))
    if "X-Amz-Signature=" in environ.get("QUERY_STRING", ""):
        return signatures.claim_from_query(environ["QUERY_STRING"])
    raise Refused("MissingAuthenticationToken", "the request is not signed")


def _authenticate(environ: WSGIEnvironment, claim: Claim) -> credentials.Credential:
    if claim.region != settings.REGION and claim.service not in _EVERYWHERE:
        raise Refused(
            "InvalidRegion", f"the embedded cloud has one region, {settings.REGION}: {claim.service} was asked in {claim.region}", 400
        )
    if claim.expires is not None and claim.service not in ("s3", "sts"):
        raise Refused("AccessDenied", f"presigned requests are taken by s3 and sts, not by {claim.service}")
    credential = authentication.authentic(claim, _signed_request(environ, claim), datetime.now(UTC))
    # Moto picks the region from the User-Agent before the signature's scope; only the latter is proven.
    environ["HTTP_USER_AGENT"] = environ.get("HTTP_USER_AGENT", "").replace("region/", "region-")
    return credential


def _check_allowed(claim: Claim, credential: credentials.Credential) -> None:
    """`Refused` when the principal may do nothing. In STS trust policies decide, and who one is everybody may ask."""
    if claim.service != "sts" and not credentials.has_policies(credential):
        raise Refused(_NOT_ALLOWED, f"User: {credential.arn} is not authorized to perform this: no policy of its role allows anything")


def _signed_request(environ: WSGIEnvironment, claim: Claim) -> SignedRequest:
    headers = _headers(environ)
    return SignedRequest(
        method=environ["REQUEST_METHOD"],
        path=str(environ.get("RAW_URI") or environ.get("PATH_INFO", "/")).partition("?")[0],
        query=environ.get("QUERY_STRING", ""),
        headers=headers,
        payload_hash=_payload_hash(environ, claim, headers),
    )


def _payload_hash(environ: WSGIEnvironment, claim: Claim, headers: dict[str, str]) -> str:
    if claim.service == "s3":
        if "HTTP_TRANSFER_ENCODING" in environ:  # moto would take the body for an empty one
            raise Refused("MissingContentLength", "the request needs a Content-Length, chunks are not taken", 411)
        # Bodies may be large or streamed: the hash that the signature covers is taken as given.
        return headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return hashlib.sha256(body).hexdigest()


def _receive(environ: WSGIEnvironment, into: BinaryIO) -> None:
    """The request's whole body is in that file, and read from there. ConnectionError when the client leaves within it."""
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left > 0:
        piece = environ["wsgi.input"].read(min(left, _PIECE))
        if not piece:
            raise ConnectionError(f"the client left {left} bytes before the end of its request")
        into.write(piece)
        left -= len(piece)
    into.seek(0)
    environ["wsgi.input"] = into


def _headers(environ: WSGIEnvironment) -> dict[str, str]:
    headers = {k[5:].replace("_", "-").lower(): str(v) for k, v in environ.items() if k.startswith("HTTP_")}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if name in environ:
            headers[name.replace("_", "-").lower()] = environ[name]
    return headers


_NOT_ALLOWED = "AccessDeniedException"
_JSON_CODES = {"InvalidClientTokenId": "UnrecognizedClientException", "SignatureDoesNotMatch": "InvalidSignatureException"}
_XML_CODES = {_NOT_ALLOWED: "AccessDenied"}
_S3_CODES = {**_XML_CODES, "InvalidClientTokenId": "InvalidAccessKeyId", "MissingAuthenticationToken": "AccessDenied"}


def _refuse(start_response: StartResponse, claim: Claim | None, refused: Refused) -> Iterable[bytes]:
    service = claim.service if claim else "s3"
    code = refused.code
    if service == "s3":
        code = _S3_CODES.get(code, code)
    elif service == "ec2":
        code = "UnauthorizedOperation" if code == _NOT_ALLOWED else "AuthFailure"
    elif errors.is_json(service):
        code = _JSON_CODES.get(code, code)
    else:
        code = _XML_CODES.get(code, code)
    return errors.respond(start_response, service, refused.status, code, refused.message)

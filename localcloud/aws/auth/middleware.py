"""The endpoint's guard: every AWS request must be signed with a key that the embedded IAM or STS issued, and be allowed.

Moto itself checks no request. Checked here are the key, its session token, the signature, and the age of the request; then
the policies of the key's principal decide (`authorization/`).
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO, cast

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.datastructures import EnvironHeaders
from werkzeug.wrappers import Response

from localcloud import settings
from localcloud.aws import moto_app, moto_lock, routes, services, sts
from localcloud.aws.auth import credentials, errors, signatures
from localcloud.aws.auth.signatures import Claim, Refused, SignedRequest
from localcloud.aws.authorization import decisions, operations

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

_GLOBAL = {"iam", "sts", "s3"}
"""Services whose requests SDKs may sign for us-east-1, whichever region is configured."""
_IN_MEMORY = 1 << 20
"""Bytes of an S3 body that are kept in memory; a larger body goes to a temporary file."""
_CHUNK = 1 << 16


def create_application(hosts: frozenset[str]) -> WSGIApplication:
    """Create the endpoint's WSGI application; `hosts` are the "address:port" under which clients reach it."""
    moto = DomainDispatcherApplication(create_backend_app)

    def answer(environ: WSGIEnvironment) -> Response:
        if environ.get("PATH_INFO", "").startswith(routes.PREFIX):
            return routes.answer(environ, hosts)
        claim: Claim | None = None
        try:
            claim = _claim(environ)
            credential = _authenticate(environ, claim)
            _authorize(environ, claim, credential)
        except Refused as refused:
            return _refuse(claim, refused)
        if claim.expires is not None and claim.service == "sts":
            if sts.wants_json(environ):
                return sts.caller_identity_json(credential)
            sts.add_authorization_header(environ, claim)
        service = services.find(claim.service)
        if service and service.answer:
            return service.answer(environ)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as body:
            if claim.service == "s3":  # the other bodies have been read for their signature
                # Before taking the lock: a client may stop sending, and every other request would wait for it.
                _receive(environ, cast(BinaryIO, body))
            with moto_lock.MOTO_LOCK:
                return moto_app.answer(moto, claim.service, environ)

    return lambda environ, start_response: answer(environ)(environ, start_response)


def _claim(environ: WSGIEnvironment) -> Claim:
    if "HTTP_AUTHORIZATION" in environ:
        return signatures.claim_from_header(_headers(environ))
    if "X-Amz-Signature=" in environ.get("QUERY_STRING", ""):
        return signatures.claim_from_query(environ["QUERY_STRING"])
    raise Refused("MissingAuthenticationToken", "the request is not signed")


def _authenticate(environ: WSGIEnvironment, claim: Claim) -> credentials.Credential:
    if claim.region != settings.REGION and claim.service not in _GLOBAL:
        raise Refused(
            "InvalidRegion", f"the embedded cloud has one region, {settings.REGION}: {claim.service} was called in {claim.region}", 400
        )
    if claim.expires is not None and claim.service not in ("s3", "sts"):
        raise Refused("AccessDenied", f"presigned requests are accepted for s3 and sts, not for {claim.service}")
    credential = credentials.authenticate(claim, _signed_request(environ, claim), datetime.now(UTC))
    # Moto prefers the region in the User-Agent to that in the signature's scope, and only the latter has been checked.
    environ["HTTP_USER_AGENT"] = environ.get("HTTP_USER_AGENT", "").replace("region/", "region-")
    return credential


def _authorize(environ: WSGIEnvironment, claim: Claim, credential: credentials.Credential) -> None:
    operation = operations.read(claim.service, environ)
    with moto_lock.MOTO_LOCK:
        decisions.check(credential, operation, environ.get("REMOTE_ADDR", ""))


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
        if "HTTP_TRANSFER_ENCODING" in environ:  # moto would treat the body as empty
            raise Refused("MissingContentLength", "the request needs a Content-Length, a chunked body is not accepted", 411)
        # Bodies may be large or streamed, so the hash that the signature covers is not compared with the body.
        return headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return hashlib.sha256(body).hexdigest()


def _receive(environ: WSGIEnvironment, into: BinaryIO) -> None:
    """Copy the request's body into the file, and let it be read from there. ConnectionError when the client closes early."""
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left > 0:
        piece = environ["wsgi.input"].read(min(left, _CHUNK))
        if not piece:
            raise ConnectionError(f"the client closed the connection {left} bytes before the end of its request")
        into.write(piece)
        left -= len(piece)
    into.seek(0)
    environ["wsgi.input"] = into


def _headers(environ: WSGIEnvironment) -> dict[str, str]:
    return {name.lower(): value for name, value in EnvironHeaders(environ)}


_NOT_ALLOWED = decisions.DENIED
_JSON_CODES = {"InvalidClientTokenId": "UnrecognizedClientException", "SignatureDoesNotMatch": "InvalidSignatureException"}
_XML_CODES = {_NOT_ALLOWED: "AccessDenied"}
_S3_CODES = {**_XML_CODES, "InvalidClientTokenId": "InvalidAccessKeyId", "MissingAuthenticationToken": "AccessDenied"}


def _refuse(claim: Claim | None, refused: Refused) -> Response:
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
    return errors.response(service, refused.status, code, refused.message)

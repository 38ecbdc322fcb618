"""Errors in the form of each AWS protocol, so that an SDK shows the code and the message."""

from __future__ import annotations

import json
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

_XML_SERVICES = {
    "autoscaling", "cloudformation", "cloudfront", "cloudsearch", "elasticache", "elasticbeanstalk", "elasticloadbalancing", "iam",
    "importexport", "rds", "redshift", "route53", "sdb", "ses", "sns", "sts",
}  # fmt: skip
"""All services whose errors are XML in AWS's common form, by the names that their requests are signed for.

They are those of botocore with the protocol query or rest-xml, except S3, which has a form of its own, as EC2 does.
"""


def response(service: str, status: int, code: str, message: str) -> Response:
    """Return the response with the HTTP status, `code` and `message`, in the service's protocol."""
    content_type, content = body(service, code, message)
    return Response(content, status, {"x-amzn-ErrorType": code}, content_type=content_type)


def body(service: str, code: str, message: str) -> tuple[str, bytes]:
    """Return the content type and the body of an error."""
    error = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if service == "s3":
        return "application/xml", f"<Error>{error}<RequestId>0</RequestId></Error>".encode()
    if service == "ec2":
        return "text/xml", f"<Response><Errors><Error>{error}</Error></Errors><RequestID>0</RequestID></Response>".encode()
    if service in _XML_SERVICES:
        xml = f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error><RequestId>0</RequestId></ErrorResponse>"
        return "text/xml", xml.encode()
    return "application/json", json.dumps({"__type": code, "message": message}).encode()


def is_json(service: str) -> bool:
    """Whether the service answers in JSON, where some error codes have other names."""
    return service not in _XML_SERVICES | {"s3", "ec2"}

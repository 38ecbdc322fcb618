"""Addresses that must be reached without a proxy."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_private(url: str) -> bool:
    """Whether the URL's host is a private or loopback address. A host name never is: it may resolve to any address."""
    try:
        return ipaddress.ip_address(urlsplit(url).hostname or "").is_private
    except ValueError:
        return False

"""Addresses that must never be asked for through a proxy."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_private(url: str) -> bool:
    """Whether the URL's host is an address of a private network or loopback. A name is not: it may be anywhere."""
    try:
        return ipaddress.ip_address(urlsplit(url).hostname or "").is_private
    except ValueError:
        return False

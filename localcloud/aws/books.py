"""Who may read and change moto's books."""

from __future__ import annotations

from threading import Lock

ONE_AT_A_TIME = Lock()
"""Held while a request is answered from moto's books, which are not made for threads: what one iterates over another changes."""

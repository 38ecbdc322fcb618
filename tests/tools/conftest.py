"""Tests that need another program: Terraform, a browser, a second Python, schemathesis."""

from __future__ import annotations

from pathlib import Path

import pytest

WITHIN_S = 600
"""Deadline of a test without one of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test of this folder a deadline."""
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(WITHIN_S))

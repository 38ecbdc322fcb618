"""The terminal behind pytest's capturing, for what takes minutes and must show that it goes on."""

from __future__ import annotations

import io
import sys

import pytest


class Terminal(io.StringIO):
    """Whatever is written is on the terminal at once."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__()
        self._capture = config.pluginmanager.getplugin("capturemanager")

    def write(self, text: str) -> int:
        """`text` is on the terminal."""
        with self._capture.global_and_fixture_disabled():
            sys.stdout.write(text)
            sys.stdout.flush()
        return len(text)

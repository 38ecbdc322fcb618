"""What is compiled ahead is what a replica loads, and a model that does not fit is never computed with it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import prompt, write

from serving.engines.compilation import compile_ahead
from serving.engines.cpu import engine as cpu
from serving.settings import Settings


@pytest.fixture
def settings(checkpoint: Path, tmp_path: Path) -> Settings:
    """Return settings with a store."""
    return Settings(engine="cpu", model=checkpoint, slots=2, positions=64, artifacts=str(tmp_path / "store"))


def test_a_replica_loads_what_was_compiled_ahead(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    plain = cpu.build(replace(settings, artifacts="")).prefill(0, prompt(9)).tobytes()
    said = compile_ahead(settings)
    assert said.endswith(" now")
    assert compile_ahead(settings) == said.removesuffix(" now")
    key = said.split()[-2]
    with caplog.at_level(logging.INFO):
        assert cpu.build(settings).prefill(0, prompt(9)).tobytes() == plain
    assert f"loads the compiled artifacts {key}" in caplog.text


def test_the_first_replica_publishes_what_was_not_compiled_ahead(settings: Settings) -> None:
    cpu.build(settings)
    assert not compile_ahead(settings).endswith(" now")


def test_another_model_or_another_shape_has_another_key(settings: Settings, tmp_path: Path) -> None:
    other = write(tmp_path / "other", num_hidden_layers=2)
    for changed in (settings, replace(settings, positions=32), replace(settings, model=other)):
        assert compile_ahead(changed).endswith(" now")


def test_compiling_ahead_needs_a_store(settings: Settings) -> None:
    with pytest.raises(ValueError, match="LEEWARD_ARTIFACTS"):
        compile_ahead(replace(settings, artifacts=""))

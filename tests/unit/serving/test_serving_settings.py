"""Settings of a serving process from its environment."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from serving.settings import PREFIX, Settings

NUMBERS = [field.name for field in fields(Settings) if isinstance(field.default, (int, float))]


def variable(name: str) -> str:
    return PREFIX + name.upper()


def test_an_empty_environment_gives_the_defaults_of_the_settings() -> None:
    assert Settings.from_env({}) == Settings()
    assert Settings.from_env({"SLOTS": "3", "LEEWARD_SLOT": "3"}) == Settings()


def test_every_setting_comes_from_the_variable_of_its_name() -> None:
    env = {variable(name): "7" for name in NUMBERS}
    env |= {"LEEWARD_ENGINE": "neuron", "LEEWARD_MODEL": "/m", "LEEWARD_MODEL_NAME": "m", "LEEWARD_API_KEY": "k"}
    env["LEEWARD_ARTIFACTS"] = "/a"
    env["LEEWARD_ALLOWED_ORIGINS"] = "http://a, http://b"
    settings = Settings.from_env(env)
    assert {getattr(settings, name) for name in NUMBERS} == {7}
    assert (settings.engine, settings.model, settings.model_name, settings.api_key) == ("neuron", Path("/m"), "m", "k")
    assert settings.artifacts == "/a"
    assert settings.origins == ["http://a", "http://b"]
    assert len(env) == len(fields(Settings))


def test_a_number_keeps_its_type() -> None:
    settings = Settings.from_env({"LEEWARD_STEPS_PER_S": "2.5", "LEEWARD_DEADLINE_S": "30"})
    assert (settings.steps_per_s, settings.deadline_s) == (2.5, 30.0)
    assert isinstance(settings.deadline_s, float)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["-1", "many", "", "nan", "inf"])
def test_an_impossible_number_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=variable(name)):
        Settings.from_env({variable(name): value})


@pytest.mark.parametrize("name", [field.name for field in fields(Settings) if isinstance(field.default, int)])
def test_a_count_must_be_a_whole_number(name: str) -> None:
    with pytest.raises(ValueError, match=f"{variable(name)} must be a positive whole number"):
        Settings.from_env({variable(name): "0.5"})


@pytest.mark.parametrize("name", NUMBERS)
def test_only_settings_for_which_zero_means_no_limit_may_be_zero(name: str) -> None:
    env = {variable(name): "0"}
    if name in ("threads", "steps_per_s"):
        assert getattr(Settings.from_env(env), name) == 0
    else:
        with pytest.raises(ValueError, match=variable(name)):
            Settings.from_env(env)


def test_printed_settings_do_not_contain_the_key() -> None:
    assert "secret-1" not in repr(Settings.from_env({"LEEWARD_API_KEY": "secret-1"}))

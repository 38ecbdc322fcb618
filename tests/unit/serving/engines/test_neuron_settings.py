"""The plan of a compilation follows from the environment and the checkpoint, or is refused before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from published import V01, V03, write

from serving.engines.checkpoint import BadCheckpoint
from serving.engines.neuron.model import VISIBLE_CORES, NoCores, require_cores
from serving.engines.neuron.settings import NeuronSettings, Plan, plan
from serving.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return the settings of the worker pods."""
    return Settings(model=write(tmp_path, V03), slots=8, positions=4096)


def test_an_empty_environment_gives_the_defaults() -> None:
    assert NeuronSettings.from_env({}) == NeuronSettings(tp_degree=2, context_buckets=(), token_buckets=())


def test_every_field_is_read_from_its_variable() -> None:
    env = {
        "LEEWARD_NEURON_TP_DEGREE": "8",
        "LEEWARD_NEURON_CONTEXT_BUCKETS": "128,512",
        "LEEWARD_NEURON_TOKEN_BUCKETS": "1024",
    }
    assert NeuronSettings.from_env(env) == NeuronSettings(8, (128, 512), (1024,))


@pytest.mark.parametrize("degree", ["3", "0", "two", "", "2 "])
def test_a_number_of_cores_that_the_chip_cannot_split_over_is_refused(degree: str) -> None:
    with pytest.raises(ValueError, match="LEEWARD_NEURON_TP_DEGREE"):
        NeuronSettings.from_env({"LEEWARD_NEURON_TP_DEGREE": degree})


@pytest.mark.parametrize("buckets", ["512,128", "128,128", "0,128", "-1", "128;256", "128,", "a", "128 256"])
def test_buckets_that_do_not_ascend_are_refused(buckets: str) -> None:
    with pytest.raises(ValueError, match="LEEWARD_NEURON_TOKEN_BUCKETS"):
        NeuronSettings.from_env({"LEEWARD_NEURON_TOKEN_BUCKETS": buckets})


def test_a_plan_has_few_buckets_and_the_longest_prompt_fits_the_largest(settings: Settings) -> None:
    assert plan(settings, NeuronSettings()) == Plan(settings.model, 32768, 8, 2, (512, 2048, 4096), (1024, 4096), "bf16")
    assert plan(settings, NeuronSettings()).max_prompt == 4095
    assert plan(settings, NeuronSettings(context_buckets=(64, 1024))).max_prompt == 1024


@pytest.mark.parametrize("positions", [2, 3, 7, 16, 2048])
def test_default_buckets_suit_any_positions(settings: Settings, positions: int) -> None:
    found = plan(replace(settings, positions=positions), NeuronSettings())
    assert found.positions == found.token_buckets[-1] == found.context_buckets[-1] == positions
    assert min(found.context_buckets) >= 2


@pytest.mark.parametrize(
    ("neuron", "positions", "named"),
    [
        (NeuronSettings(token_buckets=(1024,)), 4096, "TOKEN_BUCKETS"),
        (NeuronSettings(context_buckets=(8192,)), 4096, "CONTEXT_BUCKETS"),
        (NeuronSettings(), 32769, "LEEWARD_POSITIONS"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused_by_name(
    settings: Settings, neuron: NeuronSettings, positions: int, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        plan(replace(settings, positions=positions), neuron)


def test_the_positions_of_a_plan_never_exceed_a_sliding_window(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="made for 4096"):
        plan(Settings(model=write(tmp_path, V01), positions=8192), NeuronSettings())


def test_the_checkpoint_must_be_on_disk() -> None:
    with pytest.raises(BadCheckpoint, match="download one first"):
        plan(Settings(model=Path("mistralai/Mistral-7B-Instruct-v0.3")), NeuronSettings())


@pytest.mark.parametrize("named", ["0,1", "2,3", "0-1", "4-5"])
def test_the_cores_given_by_ray_are_counted(named: str) -> None:
    require_cores(2, {VISIBLE_CORES: named})


@pytest.mark.parametrize("env", [{}, {VISIBLE_CORES: ""}, {VISIBLE_CORES: "0"}, {VISIBLE_CORES: "0-3"}, {VISIBLE_CORES: "all"}])
def test_another_number_of_cores_than_the_model_is_split_over_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(NoCores, match=VISIBLE_CORES):
        require_cores(2, env)


def test_a_llama_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="is a llama"):
        plan(Settings(model=write(tmp_path, V03 | {"model_type": "llama"}), positions=4096), NeuronSettings())

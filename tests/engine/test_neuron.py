"""The neuron engine constructs, compiles, loads and calls the library's model; on a stand-in, because there is no chip."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_tnx
import pytest
import torch
from checkpoints import prompt, write

from serving.engines.artifacts import Store, store_at
from serving.engines.compilation import compile_ahead
from serving.engines.neuron import engine as neuron
from serving.engines.neuron import model as neuron_model
from serving.engines.neuron.settings import NeuronSettings, plan
from serving.settings import Settings


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[fake_tnx.MistralForSampling]:
    """Install the stand-in and two cores; return the list of constructed models."""
    monkeypatch.setenv(neuron_model.VISIBLE_CORES, "0,1")
    monkeypatch.setattr(neuron_model, "version", {name: "1.0" for name in neuron_model._COMPILED_BY}.__getitem__)
    return fake_tnx.install(monkeypatch)


@pytest.fixture
def settings(checkpoint: Path) -> Settings:
    """Return settings with four slots of 64 positions."""
    return Settings(engine="neuron", model=checkpoint, slots=4, positions=64)


def test_the_model_is_constructed_with_explicit_arguments(made: list[fake_tnx.MistralForSampling], settings: Settings) -> None:
    engine = neuron.build(settings)
    asked = dict(made[0]._asked)
    config = asked.pop("neuron_config").asked
    assert asked == {
        "batch_size": 4,
        "n_positions": [16, 64],
        "context_length_estimate": [8, 32, 64],
        "amp": "bf16",
        "tp_degree": 2,
        "context_unroll": None,
        "unroll": None,
    }
    assert config["continuous_batching"].batch_size_for_shared_caches == 4
    assert config["group_query_attention"] == "SHARD_OVER_HEADS"
    assert (engine.limits.max_prompt, engine.limits.min_prompt) == (63, 2)


def test_the_tensors_of_a_step_have_the_librarys_types_and_shapes(made: list[fake_tnx.MistralForSampling], settings: Settings) -> None:
    engine = neuron.build(settings)
    engine.prefill(3, [5, 6, 7])
    engine.decode([3, 1], [8, 9], [3, 10])
    wanted = [([[5, 6, 7]], [[0, 1, 2]], [3]), ([[8], [9]], [[3], [10]], [3, 1])]
    assert [tuple(tensor.tolist() for tensor in call) for call in made[0].calls] == wanted
    assert {tensor.dtype for call in made[0].calls for tensor in call} == {torch.int64}


def test_without_its_cores_no_model_is_constructed(
    made: list[fake_tnx.MistralForSampling], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(neuron_model.VISIBLE_CORES)
    with pytest.raises(neuron_model.NoCores, match="neuron_cores"):
        neuron.build(settings)
    assert made == []


def test_a_start_loads_what_an_earlier_one_compiled(made: list[fake_tnx.MistralForSampling], settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, artifacts=str(tmp_path))
    answers = [neuron.build(settings).prefill(0, prompt(9)).tobytes() for _ in range(2)]
    assert [model.compiled_by for model in made] == [["cores"], []]
    assert answers[0] == answers[1]


def test_artifacts_compiled_ahead_on_a_cpu_are_loaded_on_the_chip(
    made: list[fake_tnx.MistralForSampling], settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(neuron_model.VISIBLE_CORES)
    settings = replace(settings, artifacts=str(tmp_path))
    assert compile_ahead(settings).endswith(" now")
    assert "now" not in compile_ahead(settings)
    monkeypatch.setenv(neuron_model.VISIBLE_CORES, "0,1")
    neuron.build(settings)
    assert [model.compiled_by for model in made] == [["cpu"], []]


def test_a_store_that_fails_does_not_stop_a_model_that_is_compiled(
    made: list[fake_tnx.MistralForSampling], settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.ERROR):
        neuron.build(replace(settings, artifacts=str(tmp_path / "file"))).prefill(0, prompt(9))
    assert "the compiled artifacts could not be stored" in caplog.text


CHANGES: list[dict[str, Any]] = [
    {"slots": 5},
    {"positions": 32},
    {"tp_degree": 1},
    {"context_buckets": (64,)},
    {"token_buckets": (64,)},
    {"version": "1.1"},
    {"model": {"num_hidden_layers": 2}},
    {"model": {"hidden_size": 96}},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_graphs_that_do_not_fit_are_never_loaded(
    made: list[fake_tnx.MistralForSampling],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
) -> None:
    store = store_at(str(tmp_path / "store"))
    _on_cores(settings, NeuronSettings(), store)
    if "version" in change:
        monkeypatch.setattr(neuron_model, "version", lambda _: change["version"])
    if "model" in change:
        change = {"model": write(tmp_path / "other", **change["model"])}
    of_settings = {name: value for name, value in change.items() if name in ("slots", "positions", "model")}
    of_neuron = {name: value for name, value in change.items() if name in ("tp_degree", "context_buckets", "token_buckets")}
    _on_cores(_changed(settings, of_settings), NeuronSettings(**of_neuron), store)
    assert [model.compiled_by for model in made] == [["cores"], ["cores"]]


def _on_cores(settings: Settings, neuron: NeuronSettings, store: Store) -> None:
    wanted = plan(settings, neuron)
    neuron_model.to_cores(neuron_model.construct(wanted), wanted, store)


def _changed(settings: Settings, change: dict[str, Any]) -> Settings:
    return Settings(**{**{"model": settings.model, "slots": settings.slots, "positions": settings.positions}, **change})

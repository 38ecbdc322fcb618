"""The stand-in enforces the library's rules: each test breaks one and sees the effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fake_tnx import ContinuousBatchingConfig, MistralForSampling, NeuronConfig
from torch import Tensor


def model(checkpoint: Path, **changes: Any) -> MistralForSampling:
    """Return a model with four rows, prompts of up to 16 tokens and sequences of up to 24, on its cores."""
    asked = {"batch_size": 4, "n_positions": [12, 24], "context_length_estimate": [8, 16], "amp": "bf16", **changes}
    config = NeuronConfig(continuous_batching=ContinuousBatchingConfig(batch_size_for_shared_caches=4))
    made = MistralForSampling.from_pretrained(str(checkpoint), neuron_config=config, **asked)
    made.to_neuron()
    return made


@pytest.fixture
def tnx(checkpoint: Path) -> MistralForSampling:
    """Return a model with the library's defaults."""
    return model(checkpoint)


def prefill(tnx: MistralForSampling, ids: list[int], row: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return tnx(torch.tensor([ids], dtype=dtype), cache_ids=torch.arange(len(ids))[None], start_ids=torch.tensor([row]))


def decode(tnx: MistralForSampling, rows: list[int], ids: list[int], places: list[int], dtype: torch.dtype = torch.int64) -> Tensor:
    columns = torch.tensor(ids)[:, None], torch.tensor(places, dtype=dtype)[:, None]
    return tnx(columns[0], cache_ids=columns[1], start_ids=torch.tensor(rows))


def same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other)


def test_a_decode_continues_after_the_prefill(tnx: MistralForSampling) -> None:
    prefill(tnx, [5, 6, 7], 2)
    assert same(decode(tnx, [2], [8], [3]), prefill(tnx, [5, 6, 7, 8], 0))


def test_a_row_that_a_decode_does_not_name_silently_loses_its_first_token(tnx: MistralForSampling) -> None:
    prefill(tnx, [5, 6, 7], 1)
    prefill(tnx, [9, 9], 3)
    decode(tnx, [3], [8], [2])
    assert same(decode(tnx, [1, 3], [8, 8], [3, 3])[:1], prefill(tnx, [0, 6, 7, 8], 0))


def test_results_have_the_order_of_the_named_rows(tnx: MistralForSampling) -> None:
    prefill(tnx, [5, 6], 0)
    prefill(tnx, [7, 8], 2)
    first = decode(tnx, [2, 0], [1, 2], [2, 2])
    assert same(first, decode(tnx, [0, 2], [2, 1], [2, 2]).flip(0))
    assert not same(first[0], first[1])


def test_a_prompt_of_one_token_is_a_decode_and_changes_the_other_rows(tnx: MistralForSampling) -> None:
    prefill(tnx, [5, 6, 7], 1)
    prefill(tnx, [9], 0)
    assert same(decode(tnx, [1, 0], [8, 8], [3, 1])[:1], prefill(tnx, [0, 6, 7, 8], 0))


def test_a_prompt_is_padded_to_its_bucket_and_rewrites_all_of_it(tnx: MistralForSampling) -> None:
    prefill(tnx, [1] * 16, 0)
    prefill(tnx, [2] * 3, 0)
    assert tnx._cache[:, 0].tolist() == [2] * 3 + [0] * 5 + [1] * 8 + [0] * 8


def test_a_prompt_beyond_the_largest_bucket_raises_an_assertion_error(tnx: MistralForSampling) -> None:
    with pytest.raises(AssertionError, match="invalid input prompt length"):
        prefill(tnx, [1] * 17, 0)


def test_a_position_beyond_the_largest_bucket_raises_stop_iteration(tnx: MistralForSampling) -> None:
    decode(tnx, [0], [1], [23])
    with pytest.raises(StopIteration):
        decode(tnx, [0], [1], [24])


def test_ids_and_positions_of_different_types_fail_in_the_scatter(tnx: MistralForSampling) -> None:
    with pytest.raises(RuntimeError, match=r"scatter\(\): Expected self.dtype to be equal to src.dtype"):
        decode(tnx, [0], [1], [2], dtype=torch.int32)
    with pytest.raises(AssertionError):
        prefill(tnx, [1, 2], 0, dtype=torch.int32)


def test_positions_must_be_given(tnx: MistralForSampling) -> None:
    with pytest.raises((AttributeError, TypeError)):
        tnx(torch.tensor([[1, 2]]), start_ids=torch.tensor([0]))


def test_a_prefill_takes_one_prompt_and_only_an_existing_row(tnx: MistralForSampling) -> None:
    with pytest.raises(AssertionError, match="one prompt"):
        tnx(torch.ones(2, 3, dtype=torch.int64), cache_ids=torch.arange(3).expand(2, 3), start_ids=torch.tensor([0, 1]))
    with pytest.raises(AssertionError, match="slot 4"):
        prefill(tnx, [1, 2], 4)


def test_several_tokens_that_do_not_begin_at_position_0_are_refused(tnx: MistralForSampling) -> None:
    with pytest.raises(AssertionError):
        tnx(torch.tensor([[1, 2]]), cache_ids=torch.tensor([[3, 4]]), start_ids=torch.tensor([0]))


@pytest.mark.parametrize("change", [{"batch_size": 3}, {"context_length_estimate": [25]}, {"amp": "fp16"}, {"dtype": "bf16"}])
def test_arguments_that_do_not_fit_raise_assertion_errors(checkpoint: Path, change: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        model(checkpoint, **change)


def test_unknown_keywords_and_a_missing_size_are_refused() -> None:
    with pytest.raises(AssertionError, match="group_query_attn"):
        NeuronConfig(group_query_attn="x")
    with pytest.raises(AssertionError, match="batch_size"):
        ContinuousBatchingConfig(batch_size=4)
    with pytest.raises(KeyError):
        ContinuousBatchingConfig()


def test_graphs_of_other_arguments_are_not_loaded(checkpoint: Path, tmp_path: Path) -> None:
    model(checkpoint).save(str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 4
    other = model(checkpoint, n_positions=[24])
    other.load(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="matching NEFF"):
        other.to_neuron()

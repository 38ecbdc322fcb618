"""The generated models have the requested size, and are always the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import MistralForCausalLM

from serving import make_model
from serving.engines.checkpoint import ends
from serving.engines.cpu.engine import CpuEngine


@pytest.mark.parametrize(("size", "millions"), [("tiny", 4.3), ("bench", 104.0)])
def test_each_size_has_its_number_of_parameters(size: str, millions: float) -> None:
    with torch.device("meta"):
        net = MistralForCausalLM(make_model.config(size))
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == millions


def test_a_model_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_model.make(tmp_path / name)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_answers_of_the_model_have_the_requested_length_and_depend_on_the_prompt(tmp_path: Path) -> None:
    make_model.make(tmp_path)
    engine, answers = CpuEngine(tmp_path, slots=1, positions=80), set()
    for first in range(5):
        tokens = [int(engine.prefill(0, [1, first + 100, 7, 8, 9]).argmax())]
        for position in range(5, 69):
            tokens.append(int(engine.decode([0], tokens[-1:], [position])[0].argmax()))
        assert not ends(tmp_path) & set(tokens)
        answers.add(tuple(tokens))
    assert len(answers) == 5

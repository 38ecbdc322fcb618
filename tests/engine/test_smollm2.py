"""The model that speaks, as it is in the image: its tokens are those of transformers, and its answers make sense."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoints import reference
from transformers import AutoTokenizer

from serving.engines.checkpoint import ends
from serving.engines.cpu.engine import CpuEngine
from serving.tokenizer import Message, Tokenizer

FOLDER = Path("/opt/leeward/smollm2")
CAPITAL = [Message("user", "What is the capital of France?")]
GOLDEN = [
    *(1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182, 2, 198),
    *(1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198),
]
"""The default system turn, the question, and where the answer begins."""
CHATS = [
    CAPITAL,
    [Message("system", "You are brief."), Message("user", "Grüße, 酒 and 👩‍👩‍👧: 1234567890, it's    1.5!")],
    [Message("user", "Name a colour."), Message("assistant", "Blue, as the sky.\n"), Message("user", "Another one?")],
]


@pytest.fixture(scope="module")
def engine() -> CpuEngine:
    """Return the engine with two slots."""
    return CpuEngine(FOLDER, slots=2, positions=256)


def answer(engine: CpuEngine, prompt: list[int], most: int = 60) -> list[int]:
    """Return the likeliest answer, up to the token that ends it."""
    tokens = [int(engine.prefill(1, prompt).argmax())]
    while tokens[-1] not in ends(FOLDER) and len(tokens) < most:
        tokens.append(int(engine.decode([1], tokens[-1:], [len(prompt) + len(tokens) - 1])[0].argmax()))
    return tokens


@pytest.mark.parametrize("chat", CHATS, ids=["a question", "a system turn", "a conversation"])
def test_a_conversation_has_the_tokens_that_transformers_gives_it(chat: list[Message]) -> None:
    theirs = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
    turns = [{"role": message.role, "content": message.content} for message in chat]
    wanted = theirs.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert Tokenizer(FOLDER).chat(chat) == wanted


def test_the_capital_of_france_is_paris(engine: CpuEngine) -> None:
    ours = Tokenizer(FOLDER)
    assert ours.chat(CAPITAL) == GOLDEN
    tokens = answer(engine, ours.chat(CAPITAL))
    assert ours.text(tokens) == "The capital of France is Paris."
    assert tokens[-1] in ends(FOLDER)


def test_answers_are_those_of_transformers(engine: CpuEngine) -> None:
    ids = Tokenizer(FOLDER).chat([Message("user", "Write a haiku about the sea.")])
    said = reference(FOLDER).generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False)[0, len(ids) :].tolist()
    assert answer(engine, ids, len(said)) == said


def test_the_licence_stands_beside_the_model() -> None:
    assert "Apache License" in (FOLDER / "LICENSE").read_text()


def test_its_numbers_do_not_depend_on_what_is_computed_beside_it() -> None:
    crowd, ids = CpuEngine(FOLDER, slots=8, positions=256), Tokenizer(FOLDER).chat(CAPITAL)
    crowd.prefill(0, ids)
    alone = [crowd.decode([0], [7], [len(ids) + n])[0].tobytes() for n in range(3)]
    for slot in range(8):
        crowd.prefill(slot, ids if slot == 5 else range(10, 30 + 20 * slot))
    lengths = [len(ids) if slot == 5 else 20 + 20 * slot for slot in range(8)]
    for n, wanted in enumerate(alone):
        seen = crowd.decode(range(8), [7 if slot == 5 else 100 + slot for slot in range(8)], [length + n for length in lengths])
        assert seen[5].tobytes() == wanted

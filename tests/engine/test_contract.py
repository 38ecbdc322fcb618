"""Every step engine keeps serving.engines.contract: the cpu engine, and the neuron engine over a stand-in."""

from __future__ import annotations

import random
from pathlib import Path

import fake_tnx
import numpy as np
import pytest
from checkpoints import VOCABULARY, prompt

from serving.engines.contract import Logits, StepEngine, Unfit
from serving.engines.cpu.engine import CpuEngine
from serving.engines.neuron import model as neuron_model
from serving.engines.neuron.engine import NeuronEngine
from serving.engines.neuron.settings import Plan

SLOTS, POSITIONS, MAX_PROMPT = 4, 48, 32


@pytest.fixture(params=["cpu", "neuron"])
def engine(request: pytest.FixtureRequest, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> StepEngine:
    """Return an engine with empty slots."""
    if request.param == "cpu":
        return CpuEngine(checkpoint, SLOTS, POSITIONS)
    fake_tnx.install(monkeypatch)
    plan = Plan(checkpoint, VOCABULARY, SLOTS, 2, context_buckets=(8, MAX_PROMPT), token_buckets=(16, POSITIONS))
    model = neuron_model.construct(plan)
    neuron_model.to_cores(model, plan, store=None)
    return NeuronEngine(model, plan)


def close(one: Logits, other: Logits) -> bool:
    """Return whether the logits are equal, except for the order of sums."""
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-3))


def test_logits_are_float32_of_the_vocabulary(engine: StepEngine) -> None:
    first = engine.prefill(1, prompt(5))
    more = engine.decode([1], [7], [5])
    assert (first.shape, first.dtype) == ((VOCABULARY,), np.float32)
    assert (more.shape, more.dtype) == ((1, VOCABULARY), np.float32)


def test_a_decode_continues_the_sequence_in_its_slot(engine: StepEngine) -> None:
    ids = prompt(20)
    engine.prefill(2, ids[:9])
    for position in range(9, 20):
        seen = engine.decode([2], [ids[position]], [position])[0]
        assert close(seen, engine.prefill(0, ids[: position + 1]))
        engine.prefill(2, ids[: position + 1])  # the prefill of another slot may have changed it


def test_rows_come_in_the_order_of_the_slots(engine: StepEngine) -> None:
    prompts = {slot: prompt(4 + slot, seed=slot) for slot in range(SLOTS)}
    alone = {slot: engine.prefill(0, [*ids, 9]) for slot, ids in prompts.items()}
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 0, 1]):
        for slot in order:
            engine.prefill(slot, prompts[slot])
        seen = engine.decode(order, [9] * SLOTS, [len(prompts[slot]) for slot in order])
        assert all(close(row, alone[slot]) for row, slot in zip(seen, order, strict=True))


def test_a_prefill_into_a_used_slot_starts_a_new_sequence(engine: StepEngine) -> None:
    engine.prefill(0, prompt(30))
    engine.decode([0], [3], [30])
    first = engine.prefill(0, prompt(6, seed=1))
    after = engine.decode([0], [4], [6])[0]
    assert close(first, engine.prefill(3, prompt(6, seed=1)))
    assert close(after, engine.decode([0, 3], [5, 4], [7, 6])[1])


def test_other_slots_keep_their_sequences_if_every_decode_names_all_live_slots(engine: StepEngine) -> None:
    """Use all slots at random, and compare each with a prefill of all tokens that it should hold."""
    draw, held = random.Random(1), dict[int, list[int]]()
    for _ in range(60):
        for slot in [slot for slot, ids in held.items() if len(ids) > 30 or draw.random() < 0.05]:
            del held[slot]
        free = [slot for slot in range(SLOTS) if slot not in held]
        if free and draw.random() < 0.4:
            slot = draw.choice(free)
            held[slot] = prompt(draw.randint(2, 20), seed=draw.randrange(100))
            engine.prefill(slot, held[slot])
        if held:
            slots, tokens = draw.sample(list(held), len(held)), {slot: draw.randrange(VOCABULARY) for slot in held}
            seen = engine.decode(slots, [tokens[slot] for slot in slots], [len(held[slot]) for slot in slots])
            for slot, token in tokens.items():
                held[slot] = [*held[slot], token]
            watched = draw.choice(slots)
            assert close(seen[slots.index(watched)], _alone(engine, watched, held))


def _alone(engine: StepEngine, slot: int, held: dict[int, list[int]]) -> Logits:
    """Return the logits after the slot's tokens by a prefill of the same tokens, which leaves the slot as it was."""
    return engine.prefill(slot, held[slot])


def test_the_shortest_and_longest_prompt_and_the_last_position_are_accepted_and_none_beyond(engine: StepEngine) -> None:
    limits = engine.limits
    longest = prompt(limits.max_prompt)
    engine.prefill(0, longest[: limits.min_prompt])
    engine.decode([0], [1], [limits.min_prompt])
    engine.prefill(0, longest)
    for position in range(limits.max_prompt, limits.positions):
        engine.decode([0], [1], [position])
    with pytest.raises(ValueError, match="positions"):
        engine.decode([0], [1], [limits.positions])
    with pytest.raises(Unfit, match=f"to {limits.max_prompt} tokens, not {limits.max_prompt + 1}"):
        engine.prefill(0, [*longest, 1])
    with pytest.raises(Unfit, match=f"not {limits.min_prompt - 1}"):
        engine.prefill(0, longest[: limits.min_prompt - 1])


def test_the_shortest_prompt_changes_no_other_slot(engine: StepEngine) -> None:
    engine.prefill(1, prompt(6))
    engine.prefill(0, prompt(engine.limits.min_prompt))
    seen = engine.decode([0, 1], [8, 9], [engine.limits.min_prompt, 6])
    assert close(seen[1], engine.prefill(2, [*prompt(6), 9]))


def test_a_refused_step_leaves_every_slot_as_it_was(engine: StepEngine) -> None:
    engine.prefill(1, prompt(6))
    for slots, tokens, positions in (
        ([], [], []),
        ([1, 1], [2, 2], [6, 6]),
        ([SLOTS], [2], [6]),
        ([1], [VOCABULARY], [6]),
        ([1], [-1], [6]),
        ([1], [2], []),
    ):
        with pytest.raises(ValueError, match=r"slots|token|step"):
            engine.decode(slots, tokens, positions)
    for slot, ids in (-1, [1, 2]), (SLOTS, [1, 2]):
        with pytest.raises(ValueError, match="slot"):
            engine.prefill(slot, ids)
    with pytest.raises(Unfit, match="token ids"):
        engine.prefill(1, [1, VOCABULARY])
    assert close(engine.decode([1], [9], [6])[0], engine.prefill(0, [*prompt(6), 9]))


def test_the_limits_leave_room_for_an_answer(engine: StepEngine) -> None:
    limits = engine.limits
    assert (limits.slots, limits.positions, limits.vocabulary) == (SLOTS, POSITIONS, VOCABULARY)
    assert 1 <= limits.min_prompt <= limits.max_prompt < limits.positions
    assert limits == engine.limits


def test_returned_logits_do_not_change_later(engine: StepEngine) -> None:
    first = engine.prefill(0, prompt(5))
    kept = first.copy()
    second = engine.decode([0], [1], [5])
    kept_second = second.copy()
    engine.decode([0], [2], [6])
    engine.prefill(1, prompt(9))
    assert (first == kept).all()
    assert (second == kept_second).all()

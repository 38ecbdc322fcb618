"""Checks that every step engine makes before it computes: a wrong size would overwrite another slot, or read past the end."""

from __future__ import annotations

from collections.abc import Sequence

from serving.engines.contract import Limits, Unfit


def check_prefill(limits: Limits, slot: int, ids: Sequence[int]) -> None:
    """Return if the prompt can be put into the slot.

    Raises:
        Unfit: it is too short or too long, or has an id that is no token.
        ValueError: there is no such slot.
    """
    if not 0 <= slot < limits.slots:
        raise ValueError(f"slot {slot} is not one of {limits.slots}")
    if not limits.min_prompt <= len(ids) <= limits.max_prompt:
        raise Unfit(f"a prompt has {limits.min_prompt} to {limits.max_prompt} tokens, not {len(ids)}")
    if not 0 <= min(ids) <= max(ids) < limits.vocabulary:
        raise Unfit(f"token ids are 0 to {limits.vocabulary - 1}")


def check_decode(limits: Limits, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> None:
    """Return if each slot can hold its token at its position.

    Raises:
        ValueError: a slot, token or position is out of bounds, a slot is named twice, or the lengths differ.
    """
    if not len(slots) == len(tokens) == len(positions) > 0:
        raise ValueError(f"{len(slots)} slots, {len(tokens)} tokens and {len(positions)} positions are no step")
    if len(set(slots)) < len(slots) or not 0 <= min(slots) <= max(slots) < limits.slots:
        raise ValueError(f"slots must be different ones of {limits.slots}, not {list(slots)}")
    if not 0 <= min(tokens) <= max(tokens) < limits.vocabulary:
        raise ValueError(f"token ids are 0 to {limits.vocabulary - 1}")
    if not limits.min_prompt <= min(positions) <= max(positions) < limits.positions:
        raise ValueError(f"positions after a prompt are {limits.min_prompt} to {limits.positions - 1}, not {list(positions)}")

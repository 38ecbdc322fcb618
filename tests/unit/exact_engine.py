"""An exact stand-in for a model: the next token is a hash of all tokens that the slot holds.

One token lost, doubled, or taken from another sequence changes every token after it, so an answer that equals the one
computed alone is right from beginning to end. It enforces the contract (serving.engines.contract) on its caller as
strictly as a chip does: a slot that a decode does not name loses its first token.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from serving.engines.contract import FinishReason, Limits, Logits, Request
from serving.engines.sampling import Sampler

LOST = -1
ENDS = frozenset({0, 1})


def logits_after(held: Sequence[int], vocabulary: int) -> Logits:
    """Return the logits after these tokens: float32 [vocabulary], between 0 and 8, almost always all different."""
    digest = hashlib.shake_128(np.asarray(held, dtype=np.int32).tobytes()).digest(2 * vocabulary)
    return np.frombuffer(digest, np.uint16).astype(np.float32) / np.float32(8192)


def alone(request: Request, limits: Limits, ends: Collection[int] = ENDS) -> tuple[tuple[int, ...], FinishReason]:
    """Return the answer that the request gets when it is the only one."""
    sampler, held, most = Sampler(request.sampling), list(request.prompt), min(limits.positions, len(request.prompt) + request.max_tokens)
    while len(held) < most:
        token = sampler.draw(logits_after(held, limits.vocabulary))
        if token in ends:
            return tuple(held[len(request.prompt) :]), "stop"
        held.append(token)
    return tuple(held[len(request.prompt) :]), "length"


class BrokenContract(BaseException):
    """The engine was called against its contract; a scheduler must not treat this as a failed step."""


@dataclass
class Orders:
    """Errors that the engine makes on request."""

    fail: int = 0
    """Number of the next steps that raise."""
    spoil: set[int] = field(default_factory=set)
    """Slots with NaN as their next logits."""


class ExactEngine:
    """The step engine. `calls` lists the calls in order: ("prefill", slots) and ("decode", slots)."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.orders = Orders()
        self.calls: list[tuple[str, tuple[int, ...]]] = []
        self.closed = False
        self._held: dict[int, list[int]] = {}
        self._thread = threading.get_ident()

    def prefill(self, slot: int, ids: Sequence[int]) -> Logits:
        self._called("prefill", (slot,))
        _hold(self.limits.min_prompt <= len(ids) <= self.limits.max_prompt, f"a prompt of {len(ids)} tokens")
        _hold(all(0 <= token < self.limits.vocabulary for token in ids), "a token that there is not")
        self._held[slot] = list(ids)
        row: Logits = self._answer([slot])[0]
        return row

    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        self._called("decode", tuple(slots))
        _hold(0 < len(slots) == len(tokens) == len(positions) == len(set(slots)), "rows that do not match")
        for slot, token, position in zip(slots, tokens, positions, strict=True):
            _hold(slot in self._held, f"slot {slot} was never prefilled")
            _hold(position == len(self._held[slot]) < self.limits.positions, f"position {position} of slot {slot}")
            _hold(0 <= token < self.limits.vocabulary, "a token that there is not")
            self._held[slot].append(token)
        for slot in self._held.keys() - set(slots):
            self._held[slot][0] = LOST
        return self._answer(slots)

    def close(self) -> None:
        self._called("close", ())
        self.closed = True

    def _called(self, what: str, slots: tuple[int, ...]) -> None:
        _hold(threading.get_ident() == self._thread, "another thread than the one that built it")
        _hold(not self.closed, "it is closed")
        _hold(all(0 <= slot < self.limits.slots for slot in slots), f"slots {slots}")
        self.calls.append((what, slots))

    def _answer(self, slots: Sequence[int]) -> Logits:
        if self.orders.fail:
            self.orders.fail -= 1
            raise RuntimeError("told to fail")
        rows = np.stack([logits_after(self._held[slot], self.limits.vocabulary) for slot in slots])
        for slot in self.orders.spoil.intersection(slots):
            rows[list(slots).index(slot), 3] = np.nan
            self.orders.spoil.discard(slot)
        return rows


def _hold(true: bool, what: str) -> None:
    if not true:
        raise BrokenContract(what)

"""The faults of a drill are done and undone. A fault is written into the journal before it is done, and done to one UID only: so never
twice. What lasts is undone at the end, by a sweep, or by the next drill.

What a fault changes, how that is proven and the words for it are in drills/faults.py, under the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from blocks.errors import Permanent, PipelineError
from drills.definition import Drill
from drills.faults import KINDS, Fault
from drills.kubernetes.api import Api, Refused, Unavailable
from drills.kubernetes.rights import Rule
from drills.observed import Snapshot
from drills.runner import journal as journals
from drills.runner.acts import cut_network, delete_pod, drain_node, hold_operator, multiply_load, signal_process
from drills.runner.acts.act import Act
from drills.runner.journal import FaultNote, Journal, Lock, LockLost
from drills.subject import Subject

ACTS: dict[str, Act[Any]] = {
    "delete-pod": delete_pod.ACT,
    "signal": signal_process.ACT,
    "drain-node": drain_node.ACT,
    "cut-network": cut_network.ACT,
    "surge": multiply_load.ACT,
    "hold-operator": hold_operator.ACT,
}
"""All acts, by kind of fault."""


class UnknownFault(Permanent):
    """No fault of that kind can be done: it has no act, or no proof."""


class UndoFailed(Permanent):
    """Something that a drill did lasts and could not be undone; the message lists it."""


def check_known(faults: Sequence[Fault]) -> None:
    """Check that the faults can be done and proven.

    Raises:
        UnknownFault: one cannot; the message lists the kinds that can.
    """
    known = sorted(ACTS.keys() & KINDS)
    for fault in faults:
        if fault.kind not in known:
            raise UnknownFault(f"there is no fault {fault.kind!r}; there are: {', '.join(known)}")


def needs(faults: Sequence[Fault]) -> list[Rule]:
    """Return the rights that the faults need besides those of every drill, without repetitions."""
    return list(dict.fromkeys(rule for fault in faults for rule in ACTS[fault.kind].needs))


def inject_once(api: Api, subject: Subject, drill: Drill, owner: str, number: int = 1, step: int = 0) -> Journal:
    """Do a fault of the drill for that number of the series, as the holder of the lock; a retry finds in the journal what was planned, and
    finishes that.

    Args:
        number: Number in the series; the first is 1.
        step: Which of the drill's faults; the first is 0. Later ones come by `Follower`.

    Raises:
        LockLost: another run has the service now; nothing was touched.
    """
    # Renewed here once more: a machine that was suspended has renewed nothing, and its background thread would notice too late.
    if not Lock(api, subject, owner).renew():
        raise LockLost("another run took over the drill lock before the fault, so this one breaks nothing; look at that run instead")
    journal = journals.read(api, subject)
    assert journal is not None, "the lock is taken first, with a journal"
    return inject(api, subject, drill.faults, journal, number, step)


def inject(api: Api, subject: Subject, faults: Sequence[Fault], journal: Journal, number: int = 1, step: int = 0) -> Journal:
    """Do one of the faults exactly once; returns the journal as it is in the cluster, with the strike."""
    check_known(faults)
    fault = faults[step]
    act = ACTS[fault.kind]
    note = journal.faults[number - 1] if len(journal.faults) >= number else FaultNote()
    if len(note.strikes) <= step:
        note = note.with_strike(step, act.find(api, subject, fault, journal.before))
        journal = journals.write(api, subject, journal.with_fault(number, note))
    if not note.strikes[step].done:
        note = note.with_strike(step, act.strike(api, subject, fault, note.strikes[step]), last=step + 1 == len(faults))
        journal = journals.write(api, subject, journal.with_fault(number, note))
    return journal


class Follower:
    """Does the faults of a drill after its first one, each when its moment is seen."""

    def __init__(self, api: Api, subject: Subject, drill: Drill, journal: Journal) -> None:
        self._api, self._subject, self._drill, self.journal = api, subject, drill, journal
        self._number = len(journal.faults)

    @property
    def note(self) -> FaultNote:
        """What was done so far."""
        return self.journal.faults[self._number - 1]

    @property
    def drill(self) -> Drill:
        """The drill with the faults that were done, or are still to be done: without those whose moment has passed."""
        done = len(self.note.strikes)
        return self._drill.model_copy(update={"faults": self._drill.faults[:done]}) if self.note.missed else self._drill

    def see(self, before: Snapshot, now: Snapshot) -> str:
        """Do the next fault if its moment has come; returns what was done or will not be done, empty when nothing is new."""
        note, faults = self.note, self._drill.faults
        if note.done:
            return ""
        done = sum(strike.done for strike in note.strikes)
        fault, when, earlier = faults[done], faults[done].when, note.strikes[done - 1]
        if when is None or (len(note.strikes) == done and not self._come(before, now, done)):
            if when is None or not when.over(now, earlier):
                return ""
            missed = f"{fault.describe()}: {when.seen} was not seen within {when.within_s:g} s"
            note = note.model_copy(update={"done": True, "missed": missed})
            self.journal = journals.write(self._api, self._subject, self.journal.with_fault(self._number, note))
            return f"not done: {missed}"
        self.journal = inject_once(self._api, self._subject, self._drill, self.journal.owner, self._number, done)
        return f"{fault.describe()}: {self.note.strikes[done].target}"

    def end_surge(self, before: Snapshot, later: Sequence[Snapshot]) -> str:
        """End the surge if its time has come by these snapshots after it; returns what was done, empty when nothing is new."""
        surge, strike, now = self._drill.surge, self.note.strikes[0], later[-1]
        if surge is None or strike.undone_at is not None or now.t < (due := surge.ends_at(before, later, strike)):
            return ""
        asked = [worker.pod for worker in now.new_workers(before) if worker in now.answering]  # one that still starts has nothing to answer
        counted = multiply_load.count_answered(self._api, self._subject, asked)
        if not all(counted.values()) and now.t < due + multiply_load.COUNTED_WITHIN_S:
            return ""
        try:
            ended = multiply_load.end(self._api, self._subject, strike).model_copy(update={"answered": counted})
            note = self.note.model_copy(update={"strikes": (ended, *self.note.strikes[1:])})
            self.journal = journals.write(self._api, self._subject, self.journal.with_fault(self._number, note))
        except (Unavailable, Refused):  # an API server that starts also refuses allowed requests
            return ""  # after the next snapshot
        return "the load is as before the surge"

    def _come(self, before: Snapshot, now: Snapshot, done: int) -> bool:
        """Whether the moment of the next fault has come."""
        when, earlier = self._drill.faults[done].when, self.note.strikes[done - 1]
        if when is None or now.t <= earlier.at:
            return False
        timed = when.after_s is not None
        return (timed or self._drill.faults[done - 1].happened(before, now, earlier)) and when.met(before, now, earlier)


def undo(api: Api, subject: Subject, say: Callable[[str], None] = lambda text: None) -> list[str]:
    """Undo everything that lasts of the journal's faults, the last one first; returns what was undone. The holder of the lock may call
    it at any time, and again.

    Raises:
        UndoFailed: something could not be undone; everything else was.
    """
    journal = journals.read(api, subject)
    done: list[str] = []
    failed: list[str] = []
    for number, note in reversed(list(enumerate(journal.faults if journal else (), 1))):
        for step, strike in reversed(list(enumerate(note.strikes))):
            if not strike.left:
                continue
            act = ACTS.get(strike.act)
            try:
                if act is None or act.undo is None:
                    raise UnknownFault(f"there is no way back from a fault {strike.act!r}")
                act.undo(api, subject, strike)
            except PipelineError as error:
                failed.append(f"{strike.undo}: {error}")
                continue
            assert journal is not None
            journal = journals.write(api, subject, journal.undone(number, step))
            done.append(strike.undo)
            say(f"undone: {strike.undo}")
    if failed:
        raise UndoFailed(f"still to be undone: {'; '.join(failed)}")
    return done

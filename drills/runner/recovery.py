"""How steady a service is before a fault, and how far it has recovered after one, snapshot by snapshot. Pure: no clock, no cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from drills.definition import Drill
from drills.judge import steady_state, timeline
from drills.judge.trust import HOLE_S
from drills.observed import Snapshot
from drills.runner.waiting import Pending
from drills.strikes import Strike


@dataclass
class Steadiness:
    """The time for which the steady state has held."""

    drill: Drill
    since: float | None = None
    reasons: list[str] = field(default_factory=list)
    """Why the steady state does not hold now."""
    lost_at: float = float("-inf")
    """When the last lost request ended; the steady time begins after that."""
    _known: Snapshot | None = None

    def see(self, snapshot: Snapshot) -> bool:
        """Add a snapshot; returns True when the steady state has held for long enough."""
        hole = self._known is not None and snapshot.t - self._known.t > HOLE_S + self.drill.timing.poll_s
        # One snapshot for which Ray is too slow to answer does not mean that the service is not steady.
        self._known = snapshot.filled_from(self._known) if self._known else snapshot
        self.reasons = steady_state.not_steady(self._known, self.drill.steady_state)
        if self.reasons:
            self.since = None
        elif self.since is None or self.since <= self.lost_at or hole:
            self.since = snapshot.t if snapshot.t > self.lost_at else None
        return self.since is not None and snapshot.t - self.since >= self.drill.timing.before_s and not snapshot.blind

    def progress(self, now: float) -> Pending:
        """Return the progress so far."""
        held, wanted = now - (now if self.since is None else self.since), self.drill.timing.before_s
        return Pending("; ".join(self.reasons) or f"steady for {held:.0f} of {wanted:.0f} s under load", 99 * min(1.0, held / wanted))


@dataclass
class Recovery:
    """How far a service has recovered, from the snapshots after a fault."""

    drill: Drill
    before: Snapshot
    strikes: Sequence[Strike]
    """The faults that were done."""
    later: list[Snapshot] = field(default_factory=list)
    """All snapshots after the fault, including those of a runner that died."""
    recovered: float | None = None

    @property
    def fault_at(self) -> float:
        """When the first fault was done."""
        return self.strikes[0].at

    @property
    def healed_at(self) -> float:
        """When the last fault was over. From then on recovery is counted."""
        return max(strike.healed_at for strike in self.strikes)

    def see(self, snapshot: Snapshot) -> list[str]:
        """Add a snapshot; returns what is new, in words."""
        previous, was = (self.later[-1] if self.later else self.before), self.recovered
        self.later.append(snapshot)
        # Before its end a fault lasts, so nothing has recovered; and the snapshots of a long surge are many.
        ended = [s for s in self.later if s.t >= self.healed_at]
        self.recovered = steady_state.recovered_at(self.before, ended, self.drill, self.strikes)
        news = [f"{snapshot.t - self.fault_at:+.0f} s: {e.what} {e.subject}".strip() for e in timeline.changes(previous, snapshot)]
        if self.recovered is not None and was is None:
            news.append(f"{self.recovered - self.fault_at:+.0f} s: recovered")
        return news

    @property
    def over(self) -> bool:
        """Whether the observation is over: recovered and observed for long enough, or out of time and not in a stretch that may still count
        as recovery."""
        now, timing = self.later[-1].t, self.drill.timing
        if self.recovered is not None:
            return now - self.recovered >= timing.after_s
        if now - self.healed_at <= timing.observe_timeout_s:
            return False
        since, until = steady_state.steady_stretch(self.before, self.later, self.drill, self.strikes)
        return since is None or until < now

    def progress(self) -> Pending:
        """Return the progress so far: nine tenths for the recovery, the rest for the time after it."""
        now, timing = self.later[-1], self.drill.timing
        if self.recovered is None:
            passed = now.t - self.fault_at
            reasons = steady_state.not_recovered(self.before, now.filled_from(self.before), self.drill, self.strikes)
            silent = "Ray's Serve API does not answer yet" if now.app_status is None else "must hold a little longer"
            why = "; ".join(reasons) or silent
            return Pending(
                f"{passed:.0f} s after the fault: {why}", 90 * min(1.0, max(0.0, now.t - self.healed_at) / timing.observe_timeout_s)
            )
        passed = now.t - self.recovered
        text = f"recovered after {self.recovered - self.healed_at:.0f} s; observed for {max(0.0, timing.after_s - passed):.0f} s more"
        return Pending(text, 90 + 9 * min(1.0, passed / timing.after_s))

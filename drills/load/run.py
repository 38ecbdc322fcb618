"""The load itself: requests are sent on a schedule, independent of the responses to earlier ones.

Open loop: request k is due at start + k/rate, and its latency counts from that time. A service that stalls gets no fewer requests, and a
sender that stalls cannot hide it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drills.load.http import Client
from drills.load.request import send
from drills.load.template import STRICT, Template
from drills.load.warmup import Learned, learn
from drills.records import Kind, Outcome, Record

State = Literal["warming", "running", "draining", "done"]


@dataclass(frozen=True)
class Plan:
    """The requests of a load and their rates."""

    url: str
    template: Template
    short_per_s: float = 10.0
    short_tokens: int = 4
    streams: int = 8
    """Streams alive at any time while the service is healthy; during a fault there are more."""
    stream_tokens: int = 50
    patience_s: float = 10.0

    def __post_init__(self) -> None:
        if min(self.short_per_s, self.streams) < 0 or self.short_per_s + self.streams == 0:
            raise ValueError("nothing to send: short_per_s and streams must not be negative, nor both 0")
        if min(self.short_tokens, self.stream_tokens, self.patience_s) <= 0:
            raise ValueError("short_tokens, stream_tokens and patience_s must be positive")
        if missing := [kind for kind in self.tokens if kind not in self.template.asks]:
            raise ValueError(f"the template has no {' and no '.join(missing)} request")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """Return the plan that `drills.runner.load_job` wrote."""
        return cls(**{**value, "template": Template.from_json(value["template"])})

    @property
    def tokens(self) -> dict[Kind, int]:
        """Tokens of an answer, for each kind that has a rate."""
        both: dict[Kind, tuple[float, int]] = {
            "short": (self.short_per_s, self.short_tokens),
            "stream": (self.streams, self.stream_tokens),
        }
        return {kind: tokens for kind, (rate, tokens) in both.items() if rate > 0}

    def per_s(self, kind: Kind, stream_s: float) -> float:
        """Return the requests per second of this kind. Streams that live `stream_s` seconds are sent often enough that a healthy service
        always has `streams` of them; half a stream more makes up for rounding."""
        return self.short_per_s if kind == "short" else (self.streams + 0.5) / stream_s


def due_times(start: float, per_s: float, factor: Callable[[], int] = lambda: 1) -> Iterator[float]:
    """Yield the times at which requests are due, at `factor` times the rate. Each is computed from its number since the factor last
    changed, so that rounding errors do not add up."""
    since, number, now = start, 0, factor()
    while True:
        due = since + number / (per_s * now)
        yield due
        if factor() != now:
            since, number, now = due, 0, factor()
        number += 1


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)


class Load:
    """One run of a plan, with its records in a file."""

    def __init__(self, plan: Plan, client: Client, records: Path) -> None:
        """Create the load and its file of records; nothing is sent yet.

        Raises:
            FileExistsError: the file exists.
        """
        self.clock = client.clock
        self.records = records
        self.state: State = "warming"
        self.started: float | None = None
        self.stopped: float | None = None
        self.sent = 0
        self.outcomes: Counter[Outcome] = Counter()
        """Number of ended requests by outcome."""
        self.learned: Learned | None = None
        """None until the service has given right answers."""
        self.read_at = self.clock.now()
        """When the records were last asked for."""
        self.factor = 1
        """Multiple of the plan's rates at which requests are sent, from the next request of each kind on."""
        self._plan, self._client = plan, client
        self._stopping = False
        self._pauses: dict[Kind, asyncio.Future[None]] = {}
        """Until the next request of each kind is due."""
        # Unbuffered: a line is complete in the file as soon as it is written.
        self._file = records.open("xb", buffering=0)

    def stop(self) -> None:
        """Stop sending; live requests go on to their end."""
        self._stopping = True
        for pause in self._pauses.values():
            _end(pause)

    async def run(self, warm_up_s: float, max_duration_s: float, lease_s: float = 0) -> None:
        """Warm up, send until stopped or the time is over, and return when every request has ended.

        `lease_s`: it also stops when its records were not asked for during so many seconds; 0: it does not.

        Raises:
            WarmUpFailed: the service gave no right answers in time; nothing was recorded.
            OSError: a record could not be written; raised at once, while other requests are still live.
        """
        plan = self._plan
        with self._file:
            self.learned = await learn(self._client, plan.template, plan.tokens, plan.streams, warm_up_s)
            self.state, self.started = "running", self.clock.now()
            self.read_at = self.started
            timer = asyncio.get_running_loop().call_later(max_duration_s, self.stop)
            lease = asyncio.ensure_future(self._stop_unread(lease_s)) if lease_s else None
            await asyncio.gather(*(self._send_all(kind, self.learned, self.started) for kind in plan.tokens))
            timer.cancel()
            if lease is not None:
                lease.cancel()
            self.state = "done"

    async def _stop_unread(self, lease_s: float) -> None:
        """Stop once the records were not asked for during so many seconds: the drill is dead, and its load of no use."""
        while (left := self.read_at + lease_s - self.clock.now()) > 0:
            await asyncio.sleep(left)
        print(f"load: its records were not read for {lease_s:g} s, so it ends", flush=True)
        self.stop()

    async def _send_all(self, kind: Kind, learned: Learned, start: float) -> None:
        """Send one kind of request on its schedule; return when all have ended."""
        live: set[asyncio.Task[None]] = set()
        for due in due_times(start, self._plan.per_s(kind, learned.seconds.get("stream", 1.0)), lambda: self.factor):
            if await self._stopped_before(kind, due):
                break
            task = asyncio.ensure_future(self._one(kind, learned, due))
            live.add(task)
            task.add_done_callback(lambda ended: self._forget(ended, live))
        if self.state == "running":
            self.state, self.stopped = "draining", self.clock.now()
        await asyncio.gather(*live)

    def _forget(self, ended: asyncio.Task[None], live: set[asyncio.Task[None]]) -> None:
        """Remove an ended task. A task that failed (because the disk is full, for example) stays, so that its error ends the load."""
        if ended.cancelled() or ended.exception() is None:
            live.discard(ended)
        else:
            self.stop()

    async def _stopped_before(self, kind: Kind, due: float) -> bool:
        """Wait until the time `due`; return whether sending was stopped first. Do not wait if the time has passed."""
        wait = due - self.clock.now()
        if wait > 0 and not self._stopping:
            loop = asyncio.get_running_loop()
            pause = self._pauses[kind] = loop.create_future()
            timer = loop.call_later(wait, _end, pause)
            await pause
            timer.cancel()
        return self._stopping

    async def _one(self, kind: Kind, learned: Learned, due: float) -> None:
        """Send one request and record its end."""
        number, sent = self.sent, self.clock.now()
        self.sent += 1
        template, tokens = self._plan.template, self._plan.tokens[kind]
        sentence = template.sentences[number % len(template.sentences)]
        expected, count = learned.expected(kind, sentence)
        if learned.checks[kind] not in STRICT:
            # Nothing depends on what is asked: a beginning of its own keeps the service from answering out of a cache of prompts.
            sentence = f"[{number}] {sentence}"
        reply = await send(self._client, template.asks[kind], sentence, tokens)
        times, outcome = tuple(reply.token_times), reply.outcome(learned.checks[kind], expected)
        record = Record(
            id=number,
            kind=kind,
            due=due,
            sent=sent,
            first_token=times[0] if times else None,
            token_times=times,
            expected_tokens=count,
            end=reply.end,
            outcome=outcome,
            status=reply.status,
            detail=reply.difference(learned.checks[kind], expected) if outcome == "wrong" else reply.detail,
        )
        self.outcomes[record.outcome] += 1
        line = record.to_line().encode()
        if self._file.write(line) < len(line):
            raise OSError(f"no room for a record in {self.records}")

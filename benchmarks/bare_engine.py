"""The engine without anything around it: scheduler and step engine in a loop, no HTTP, no Ray, no event loop.

    python3 -m benchmarks.bare_engine        settings from the environment, as in a replica

Reads a line of JSON for each measurement, {clients, answer_tokens, prompts: [[id, …], …]}, and answers with one: {tokens_per_s}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice

from serving.engines import profiles
from serving.engines.batching import warm_up
from serving.engines.contract import EngineError, Request, Sampling
from serving.engines.scheduler import Scheduler
from serving.settings import Settings

WITHIN_S = 3600.0
"""Seconds for one answer: more than any answer needs."""


def requests(prompts: Sequence[Sequence[int]], answer_tokens: int) -> Iterator[Request]:
    """Yield one greedy request for each prompt."""
    for number, prompt in enumerate(prompts):
        yield Request(str(number), tuple(prompt), answer_tokens, Sampling(temperature=0), WITHIN_S)


def answer_all(scheduler: Scheduler, waiting: Iterator[Request], clients: int) -> int:
    """Answer all requests, `clients` of them at a time; return the number of tokens.

    Raises:
        EngineError: a request was not answered.
    """
    given = 0
    for request in islice(waiting, clients):
        scheduler.submit(request)
    while scheduler.busy:
        for event in scheduler.step():
            if isinstance(event.what, EngineError):
                raise event.what
            given += len(event.what.tokens)
            if event.what.finish and (following := next(waiting, None)):
                scheduler.submit(following)
    return given


def main() -> None:
    """Measure once for each line of input, until the input ends."""
    settings = Settings.from_env()
    engine = profiles.named(settings.engine).make_step_engine(settings)
    warm_up(engine)
    print(json.dumps({"slots": engine.limits.slots}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        scheduler = Scheduler(engine, ends=(), max_queue=settings.max_queue, now=time.monotonic)
        start = time.monotonic()
        given = answer_all(scheduler, requests(asked["prompts"], asked["answer_tokens"]), asked["clients"])
        print(json.dumps({"tokens_per_s": given / (time.monotonic() - start)}), flush=True)


if __name__ == "__main__":
    main()

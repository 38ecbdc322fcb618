"""How even streams are while prompts are admitted beside them: the gaps between their tokens, in one run.

    python3 -m benchmarks.gaps        inside the image

What is promised: 99 of 100 gaps are no longer than one decode step and the longest prefill that was admitted. Measured where
tokens are made, on the engine's own clock, and where they arrive, at clients of the whole service. Ends with a JSON object:
{text: a table and the verdict}.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np
import ray
from ray import serve

from benchmarks import served
from benchmarks.contest import POSITIONS, SLOTS, make_model
from benchmarks.contestants import Setting, free_port, of_the_service
from benchmarks.prompts import Prompts
from benchmarks.watched import Watched
from scripts.support.say import Say
from serving.app import Api
from serving.tokenizer import Tokenizer

STREAMS, STREAM_TOKENS = 8, 400
"""Streams that are watched, each of a short prompt."""
VISITORS, VISITOR_TOKENS = 3, 2
"""Clients that come again and again beside them, with long prompts and short answers: most of the time one is admitted."""
SHORT, LONG = 16, 512
WITHIN_S = 1800.0


@dataclass(frozen=True)
class Gaps:
    """What was measured; seconds."""

    decodes: Sequence[float]
    prefills: Sequence[float]
    engine: Sequence[float]
    """Gaps on the engine's clock, those of the visitors' short answers too."""
    client: Sequence[float]
    """Gaps at the watched clients."""

    @property
    def bound(self) -> float:
        """One decode step and the longest prefill."""
        return float(np.median(self.decodes) + max(self.prefills))

    def text(self) -> str:
        """A table in milliseconds, and the verdict."""
        named = {
            "decode step": self.decodes,
            "prefill": self.prefills,
            "gap, engine's clock": self.engine,
            "gap, at the client": self.client,
        }
        lines = ["| ms | how many | median | p99 | longest |", "|--|--|--|--|--|"]
        for name, seconds in named.items():
            ms = 1000 * np.asarray(seconds)
            lines.append(f"| {name} | {len(ms):,} | {np.median(ms):.1f} | {np.percentile(ms, 99):.1f} | {ms.max():.1f} |")
        verdicts = [f"{where} {'within' if self.within(gaps) else 'NOT within'} it" for where, gaps in self._gaps.items()]
        promised = f"One decode step and the longest prefill: {1000 * self.bound:.1f} ms; p99 of {', '.join(verdicts)}."
        return "\n".join([*lines, "", promised])

    def within(self, gaps: Sequence[float]) -> bool:
        """Whether 99 of 100 of them are as promised."""
        return bool(np.percentile(gaps, 99) <= self.bound)

    @property
    def _gaps(self) -> dict[str, Sequence[float]]:
        return {"the engine's gaps": self.engine, "the client's gaps": self.client}


async def watch(url: str, prompts: Prompts) -> list[float]:
    """The gaps between arrivals of tokens at the watched streams, while visitors come and go."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WITHIN_S)) as session:
        visitors = [asyncio.ensure_future(_visit(session, url, prompts)) for _ in range(VISITORS)]
        try:
            streams = await asyncio.gather(*(_stream(session, url, prompt) for prompt in prompts.some(STREAMS, SHORT)))
        finally:
            for visitor in visitors:
                visitor.cancel()
            await asyncio.gather(*visitors, return_exceptions=True)
    return [gap for arrivals in streams for gap in np.diff(arrivals).tolist()]


async def _visit(session: aiohttp.ClientSession, url: str, prompts: Prompts) -> None:
    while True:
        (prompt,) = prompts.some(1, LONG)
        async with session.post(url, json={"prompt": prompt, "max_tokens": VISITOR_TOKENS, "temperature": 0}) as response:
            await response.read()
            response.raise_for_status()


async def _stream(session: aiohttp.ClientSession, url: str, prompt: str) -> list[float]:
    """When each event with tokens came."""
    asked = {"prompt": prompt, "max_tokens": STREAM_TOKENS, "temperature": 0, "stream": True, "return_token_ids": True}
    arrivals, tokens = [], 0
    async with session.post(url, json=asked) as response:
        response.raise_for_status()
        async for line in response.content:
            if line.startswith(b"data: {") and (ids := json.loads(line[6:])["choices"][0].get("token_ids")):
                arrivals.append(time.monotonic())
                tokens += len(ids)
    if tokens != STREAM_TOKENS:
        raise RuntimeError(f"a stream ended after {tokens} tokens of {STREAM_TOKENS}")
    return arrivals


def measure(setting: Setting, say: Say) -> Gaps:
    """Serves the model, and watches."""
    os.environ.update(of_the_service(setting) | {"LEEWARD_MODEL_NAME": "mistral"})
    tokenizer, port = Tokenizer(), free_port()
    served.node(port)
    say("start", "the service")
    engine = serve.deployment(name="engine", max_ongoing_requests=1024)(Watched)
    serve.run(Api.bind(engine.bind()))
    handle = serve.get_deployment_handle("engine", "default")
    prompts = Prompts(tokenizer.token_bytes.pieces, tokenizer.completion, seed=1)
    before = [len(told) for told in handle.told.remote().result()]
    say("watch", f"{STREAMS} streams of {STREAM_TOKENS} tokens, and {VISITORS} clients with prompts of {LONG} tokens beside them")
    client = asyncio.run(watch(f"http://127.0.0.1:{port}/v1/completions", prompts))
    steps, gaps = (told[start:] for told, start in zip(handle.told.remote().result(), before, strict=True))
    of_kind = {kind: [step.seconds for step in steps if step.kind == kind] for kind in ("decode", "prefill")}
    return Gaps(of_kind["decode"], of_kind["prefill"], gaps, client)


def main() -> None:
    """Measures once and prints."""
    say = Say(sys.stderr)
    with tempfile.TemporaryDirectory(prefix="leeward-bench-") as folder:
        model = Path(folder, "model")
        make_model(model)
        try:
            gaps = measure(Setting(model, len(os.sched_getaffinity(0)), SLOTS, POSITIONS, Path(folder)), say)
        finally:
            serve.shutdown()
            ray.shutdown()
    print(json.dumps({"text": gaps.text()}))


if __name__ == "__main__":
    main()

"""Measures the gaps between the tokens of streams while other prompts are admitted beside them.

    python3 -m benchmarks.gaps        inside the image

The promise: 99 of 100 gaps are no longer than one decode step, the time of admission and the longest admitted prefill together. The
gaps are measured in the engine, on its own clock, and at the clients of the whole service. The output ends with a JSON object:
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
from benchmarks.contestants import Setting, free_port, service_environment
from benchmarks.prompts import Prompts
from benchmarks.watched import Watched
from scripts.support.console import Console
from serving.app import Api
from serving.engines.scheduler import ADMIT_S
from serving.tokenizer import Tokenizer

STREAMS, STREAM_TOKENS = 8, 400
"""Number of measured streams, each with a short prompt, and their tokens."""
OTHERS, OTHER_TOKENS = 3, 2
"""Number of other clients, which send long prompts with short answers in a row, so that prompts are admitted most of the time."""
SHORT, LONG = 16, 512
WITHIN_S = 1800.0


@dataclass(frozen=True)
class Gaps:
    """The measured times, in seconds."""

    decodes: Sequence[float]
    prefills: Sequence[float]
    engine: Sequence[float]
    """Gaps on the engine's clock, those of the other clients' short answers included."""
    client: Sequence[float]
    """Gaps at the clients of the measured streams."""

    @property
    def bound(self) -> float:
        """The promised bound in seconds: one decode step, the time of admission and the longest prefill."""
        return float(np.median(self.decodes) + ADMIT_S + max(self.prefills))

    def text(self) -> str:
        """Return a table in milliseconds, and the verdict."""
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
        promised = (
            f"One decode step, the time of admission and the longest prefill: {1000 * self.bound:.1f} ms; p99 of {', '.join(verdicts)}."
        )
        return "\n".join([*lines, "", promised])

    def within(self, gaps: Sequence[float]) -> bool:
        """Return whether 99 of 100 gaps are within the bound."""
        return bool(np.percentile(gaps, 99) <= self.bound)

    @property
    def _gaps(self) -> dict[str, Sequence[float]]:
        return {"the engine's gaps": self.engine, "the client's gaps": self.client}


async def watch(url: str, prompts: Prompts) -> list[float]:
    """Return the gaps between arrivals of tokens of the measured streams, while other clients send long prompts."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WITHIN_S)) as session:
        others = [asyncio.ensure_future(_send_long_prompts(session, url, prompts)) for _ in range(OTHERS)]
        try:
            streams = await asyncio.gather(*(_stream(session, url, prompt) for prompt in prompts.some(STREAMS, SHORT)))
        finally:
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
    return [gap for arrivals in streams for gap in np.diff(arrivals).tolist()]


async def _send_long_prompts(session: aiohttp.ClientSession, url: str, prompts: Prompts) -> None:
    while True:
        (prompt,) = prompts.some(1, LONG)
        async with session.post(url, json={"prompt": prompt, "max_tokens": OTHER_TOKENS, "temperature": 0}) as response:
            await response.read()
            response.raise_for_status()


async def _stream(session: aiohttp.ClientSession, url: str, prompt: str) -> list[float]:
    """Return the arrival time of each event with tokens."""
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


def measure(setting: Setting, console: Console) -> Gaps:
    """Serve the model and measure the gaps."""
    os.environ.update(service_environment(setting) | {"LEEWARD_MODEL_NAME": "mistral"})
    tokenizer, port = Tokenizer(), free_port()
    served.start_node(port)
    console.print("start", "the service")
    engine = serve.deployment(name="engine", max_ongoing_requests=1024)(Watched)
    serve.run(Api.bind(engine.bind()))
    handle = serve.get_deployment_handle("engine", "default")
    prompts = Prompts(tokenizer.token_bytes.pieces, tokenizer.completion, seed=1)
    before = [len(times) for times in handle.times.remote().result()]
    console.print("watch", f"{STREAMS} streams of {STREAM_TOKENS} tokens, and {OTHERS} clients with prompts of {LONG} tokens beside them")
    client = asyncio.run(watch(f"http://127.0.0.1:{port}/v1/completions", prompts))
    steps, gaps = (times[start:] for times, start in zip(handle.times.remote().result(), before, strict=True))
    of_kind = {kind: [step.seconds for step in steps if step.kind == kind] for kind in ("decode", "prefill")}
    return Gaps(of_kind["decode"], of_kind["prefill"], gaps, client)


def main() -> None:
    """Measure once and print the result."""
    console = Console(sys.stderr)
    with tempfile.TemporaryDirectory(prefix="leeward-bench-") as folder:
        model = Path(folder, "model")
        make_model(model)
        try:
            gaps = measure(Setting(model, len(os.sched_getaffinity(0)), SLOTS, POSITIONS, Path(folder)), console)
        finally:
            serve.shutdown()
            ray.shutdown()
    print(json.dumps({"text": gaps.text()}))


if __name__ == "__main__":
    main()

"""The server of the comparison: one model, one request at a time on all cores, and complete answers only.

    python3 -m benchmarks.one_at_a_time MODEL PORT THREADS

It works as the blueprint's server does with a Neuron model, but with transformers' own generation on a CPU. Answers are greedy and have the
requested number of tokens, so that all contestants do the same work.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel
from transformers import AutoTokenizer, MistralForCausalLM


class Asked(BaseModel):
    """Body of a request; other fields are ignored."""

    prompt: str
    max_tokens: int


class OneAtATime:
    """A model, and the lock that admits one request at a time."""

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._net = MistralForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
        self._lock = asyncio.Lock()

    async def answer(self, asked: Asked, request: Request) -> dict[str, Any]:
        """Return the answer and the numbers of tokens; nothing is computed for a client that disconnected while it waited."""
        async with self._lock:
            if await request.is_disconnected():
                return {}
            return await asyncio.to_thread(self._generate, asked)

    def _generate(self, asked: Asked) -> dict[str, Any]:
        prompt = self._tokenizer(asked.prompt, return_tensors="pt")
        with torch.inference_mode():
            ids = self._net.generate(**prompt, max_new_tokens=asked.max_tokens, do_sample=False)[0]
        given = prompt["input_ids"].shape[1]
        text = self._tokenizer.decode(ids[given:], skip_special_tokens=True)
        return {"choices": [{"text": text}], "usage": {"prompt_tokens": given, "completion_tokens": len(ids) - given}}


def build_app(server: OneAtATime) -> FastAPI:
    """Return the application with its only route."""
    app = FastAPI()

    @app.post("/v1/completions")
    async def completions(asked: Asked, request: Request) -> dict[str, Any]:
        return await server.answer(asked, request)

    return app


if __name__ == "__main__":
    app = build_app(OneAtATime(Path(sys.argv[1]), int(sys.argv[3])))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")

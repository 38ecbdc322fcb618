"""The server to compare with: one model, one request at a time, all cores for it, its answer sent when it is whole.

    python3 -m benchmarks.one_at_a_time MODEL PORT THREADS

What the blueprint's server does with a Neuron model, with transformers' own generation on a CPU. It answers as many tokens as
asked for, greedily, so that it can be given the same work as others.
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
    """Body of a request; what else it has is ignored."""

    prompt: str
    max_tokens: int


class OneAtATime:
    """A model and the lock before it."""

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._net = MistralForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
        self._lock = asyncio.Lock()

    async def answer(self, asked: Asked, request: Request) -> dict[str, Any]:
        """The answer and how many tokens it took; nothing is computed for clients that went away while they waited."""
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


def build(server: OneAtATime) -> FastAPI:
    """The routes."""
    app = FastAPI()

    @app.post("/v1/completions")
    async def completions(asked: Asked, request: Request) -> dict[str, Any]:
        return await server.answer(asked, request)

    return app


if __name__ == "__main__":
    app = build(OneAtATime(Path(sys.argv[1]), int(sys.argv[3])))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")

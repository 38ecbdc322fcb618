"""Tests of the application on Ray Serve with the cpu engine. They run in the bench image: `python3 -m pytest tests/served`.

All share one Ray cluster: a node with Serve's proxy, and another one. Each module deploys what it needs in place of what
was deployed before.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from deployed import KEY, here
from ray import serve
from ray.cluster_utils import Cluster

from serving.engines.contract import Request, Sampling
from serving.engines.profiles import named
from serving.make_model import make
from serving.settings import Settings
from serving.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the tiny model."""
    folder = tmp_path_factory.mktemp("model")
    make(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def cluster(model: Path) -> Iterator[None]:
    """Start two nodes, each with the cores for one engine."""
    # Every process of the cluster inherits it, as in a pod. Not by Ray's runtime_env, which is written to Ray's logs.
    os.environ |= {"LEEWARD_MODEL": str(model), "LEEWARD_THREADS": "1", "LEEWARD_API_KEY": KEY}
    # Wait for a replica that is slow to report its load: the tests check which one answers.
    os.environ |= {"RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "10", "RAY_SERVE_MAX_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "10"}
    resources = {"neuron_cores": 2}
    quick = {"metrics_report_interval_ms": 1000}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "resources": resources, "_system_config": quick})
    cluster.add_node(num_cpus=1, resources=resources)
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        serve.start(http_options={"location": "HeadOnly"})
        assert here() == cluster.head_node.node_id
        yield
        serve.shutdown()
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="session")
def alone(model: Path) -> Callable[[str, int], list[int]]:
    """Return a function for the tokens of the likeliest answer, from an engine in this process that answers nothing else."""
    tokenizer, known = Tokenizer(model), dict[str, list[int]]()

    async def answer(prompt: str, tokens: int) -> list[int]:
        engine = named("cpu").make_text_engine(Settings(model=model, slots=4, threads=1))
        engine.start()
        await engine.ready()
        request = Request("alone", tuple(tokenizer.completion(prompt)), tokens, Sampling(temperature=0))
        found = [token async for piece in engine.generate(request) for token in piece.tokens]
        await engine.stop()
        return found

    def asked(prompt: str, tokens: int) -> list[int]:
        if len(known.get(prompt, ())) < tokens:
            known[prompt] = asyncio.run(answer(prompt, tokens))
        return known[prompt][:tokens]

    return asked

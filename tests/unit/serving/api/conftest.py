"""The API in front of a stand-in for the engine, once a module, and a plain HTTP client. A module may have another client of its own."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from api_service import StandIn, served


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[StandIn, httpx.Client]]:
    engine = StandIn()
    with served(engine) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        yield engine, client


@pytest.fixture
def engine(running: tuple[StandIn, httpx.Client]) -> StandIn:
    running[0].forget()
    return running[0]


@pytest.fixture
def client(running: tuple[StandIn, httpx.Client], engine: StandIn) -> httpx.Client:
    return running[1]

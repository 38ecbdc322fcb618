"""The chat in the cluster, used in a browser: a conversation goes on while there is no head."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from system_under_test import Run, System

from scripts.installed.browser import browser
from scripts.installed.conversation import Person, person
from scripts.services.forward import Forward, listen
from scripts.services.services import free_port

HEAD = ("--namespace", "mistral", "--selector", "leeward.dev/component=head")
READY = 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
TOKENS = 96
"""Of an answer: about ten seconds, in which a head can be deleted."""
WITHIN_S = 600.0
"""For a new head to be ready."""


def test_a_conversation_goes_on_while_the_head_is_away(protected: Run, system: System) -> None:
    async def scene(reader: Person) -> None:
        await reader.want(TOKENS)
        async with _no_room_for_a_head(system):
            await reader.say("Tell me about the sea.")
            await reader.until_answered(1)
            await _kubectl(system, "delete", "pod", *HEAD, "--timeout=50s")
            await _whole(reader, 1)
            await reader.say("And about the wind?")
            await reader.until_answered(2)
            await _whole(reader, 2)
            assert "True" not in await _kubectl(system, "get", "pods", *HEAD, "--output", READY), "there was a head all the time"
        await _until_ready(system)
        await reader.say("And with a new head?")
        await reader.until_answered(3)
        await _whole(reader, 3)
        assert await reader.questions() == ["Tell me about the sea.", "And about the wind?", "And with a new head?"]

    _read(scene)


def test_the_page_says_that_the_words_are_noise(protected: Run) -> None:
    async def scene(reader: Person) -> None:
        await reader.page.until_shown("noise")

    _read(scene)


def _read(scene: Callable[[Person], Coroutine[Any, Any, None]]) -> None:
    """The scene was played by somebody in front of the cluster's chat."""

    async def go() -> None:
        forward = Forward(free_port(7860), "chat.chat.svc.cluster.local", 7860)
        async with await listen(forward), browser() as chromium, person(chromium, f"http://127.0.0.1:{forward.port}") as reader:
            await scene(reader)

    asyncio.run(go())


async def _whole(reader: Person, number: int) -> None:
    """The answer ended as answers end: by itself, or at the length that was wanted."""
    await reader.until_idle()
    assert len(await reader.answers()) == number
    assert [remark for remark in await reader.remarks() if "was cut at" not in remark] == []


@asynccontextmanager
async def _no_room_for_a_head(system: System) -> AsyncIterator[None]:
    """A head that is made meanwhile waits for a node; else it could be back before anything was asked. Karpenter may launch none."""
    limits = json.loads(await _kubectl(system, "get", "nodepool", "core", "--output", "jsonpath={.spec.limits}"))
    await _limit_core_nodes(system, {"nodes": "0"})
    await _kubectl(system, "cordon", "--selector", "leeward.dev/pool=core")
    try:
        yield
    finally:
        await _kubectl(system, "uncordon", "--selector", "leeward.dev/pool=core")
        await _limit_core_nodes(system, limits)


async def _limit_core_nodes(system: System, limits: dict[str, Any]) -> None:
    await _kubectl(system, "patch", "nodepool", "core", "--type=merge", "--patch", json.dumps({"spec": {"limits": limits}}))


async def _until_ready(system: System) -> None:
    """There is a head again, for the tests that come after this one."""
    deadline = time.monotonic() + WITHIN_S
    while "True" not in await _kubectl(system, "get", "pods", *HEAD, "--output", READY):
        assert time.monotonic() < deadline, await _kubectl(system, "describe", "pods", *HEAD)
        await asyncio.sleep(1)


async def _kubectl(system: System, *arguments: str) -> str:
    """What kubectl said; beside it the forwarder and the browser go on."""
    done = await asyncio.to_thread(system.kubectl, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout

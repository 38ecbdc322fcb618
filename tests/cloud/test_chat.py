"""The chat in the cluster, in a browser: a conversation continues while there is no head."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from system_under_test import Run, System

from scripts.installed.browser import browser
from scripts.installed.conversation import ChatUser, chat_user
from scripts.installed.forward import listen
from scripts.services.services import Forward, free_port

HEAD = ("--namespace", "mistral", "--selector", "leeward.dev/component=head")
READY = 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
TOKENS = 96
"""Length of an answer: about ten seconds, in which a head can be deleted."""
WITHIN_S = 600.0
"""Seconds for a new head to become ready."""


def test_a_chat_conversation_continues_while_there_is_no_head(protected: Run, system: System) -> None:
    async def scene(reader: ChatUser) -> None:
        await reader.limit_answer(TOKENS)
        async with _head_pending(system):
            await reader.send("Tell me about the sea.")
            await reader.until_answered(1)
            await _kubectl(system, "delete", "pod", *HEAD, "--timeout=50s")
            await _until_complete(reader, 1)
            await reader.send("And about the wind?")
            await reader.until_answered(2)
            await _until_complete(reader, 2)
            assert "True" not in await _kubectl(system, "get", "pods", *HEAD, "--output", READY), "there was a head all the time"
        await _until_ready(system)
        await reader.send("And with a new head?")
        await reader.until_answered(3)
        await _until_complete(reader, 3)
        assert await reader.questions.all_inner_texts() == ["Tell me about the sea.", "And about the wind?", "And with a new head?"]

    _play(scene)


def test_the_chat_page_says_that_the_models_words_are_noise(protected: Run) -> None:
    async def scene(reader: ChatUser) -> None:
        await reader.until_shown("noise")

    _play(scene)


def _play(scene: Callable[[ChatUser], Coroutine[Any, Any, None]]) -> None:
    """Run the scene on a page of the cluster's chat."""

    async def go() -> None:
        forward = Forward(free_port(7860), "chat.chat.svc.cluster.local", 7860)
        async with await listen(forward), browser() as chromium, chat_user(chromium, f"http://127.0.0.1:{forward.port}") as reader:
            await scene(reader)

    asyncio.run(go())


async def _until_complete(reader: ChatUser, number: int) -> None:
    """Wait until the answer has ended; assert that it ended by itself or at its maximum length."""
    await reader.until_idle()
    assert await reader.answers.count() == number
    assert [remark for remark in await reader.notices.all_inner_texts() if "was cut at" not in remark] == []


@asynccontextmanager
async def _head_pending(system: System) -> AsyncIterator[None]:
    """Keep a new head pending: without nodes for it, also from Karpenter. Otherwise it could be ready before a question is asked."""
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
    """Wait until there is a head again, for the tests after this one."""
    deadline = time.monotonic() + WITHIN_S
    while "True" not in await _kubectl(system, "get", "pods", *HEAD, "--output", READY):
        assert time.monotonic() < deadline, await _kubectl(system, "describe", "pods", *HEAD)
        await asyncio.sleep(1)


async def _kubectl(system: System, *arguments: str) -> str:
    """Run kubectl in a thread, so that the forwarder and the browser go on; return its output."""
    done = await asyncio.to_thread(system.kubectl, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout

"""The chat's page in a real browser, in front of a stand-in for the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from chat_service import StandIn, chat, words

from scripts.installed.browser import browser
from scripts.installed.conversation import ChatUser, chat_user

Scene = Callable[..., Coroutine[Any, Any, None]]
Play = Callable[..., None]


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """Run a scene with the service's stand-in and users (by default one) who have just opened the page.
    All scenes share one chat, one browser and one event loop, which take seconds to start."""
    behind = StandIn()
    with asyncio.Runner() as runner:
        up = AsyncExitStack()
        url = runner.run(up.enter_async_context(behind.serve()))
        with chat(url) as address:
            chromium = runner.run(up.enter_async_context(browser()))

            async def one(scene: Scene, people: int) -> None:
                async with AsyncExitStack() as pages:
                    cast = [await pages.enter_async_context(chat_user(chromium, address)) for _ in range(people)]
                    behind.requests.clear()
                    await scene(behind, *cast)
                await until_free(behind)

            yield lambda scene, people=1: runner.run(one(scene, people))
            runner.run(up.aclose())


async def until_free(behind: StandIn) -> None:
    """Wait until the service computes no answer any more."""
    while behind.live:
        await asyncio.sleep(0.05)


def said(body: dict[str, Any]) -> list[str]:
    """Return the texts of a request's messages."""
    return [message["content"] for message in body["messages"]]


def test_an_answer_grows_on_the_page(play: Play) -> None:
    async def scene(behind: StandIn, reader: ChatUser) -> None:
        await reader.send("halves 100")
        await reader.until_answered(1, words(50))
        assert await reader.answers.all_inner_texts() == [words(50)]
        behind.rest.set()
        await reader.until_answered(1, words(100))
        await reader.until_idle()
        assert await reader.answers.all_inner_texts() == [words(100)]
        assert await reader.notices.all_inner_texts() == []

    play(scene)


def test_the_whole_conversation_is_sent(play: Play) -> None:
    async def scene(behind: StandIn, reader: ChatUser) -> None:
        for number, count in enumerate((3, 4, 5), 1):
            await reader.send(f"words {count}")
            await reader.until_answered(number, words(count))
            await reader.until_idle()
        assert said(behind.requests[-1]) == ["words 3", words(3), "words 4", words(4), "words 5"]
        assert await reader.questions.all_inner_texts() == ["words 3", "words 4", "words 5"]

    play(scene)


def test_the_stop_button_stops_an_answer_and_the_service(play: Play) -> None:
    async def scene(behind: StandIn, reader: ChatUser) -> None:
        await reader.send("hold")
        await reader.until_answered(1, words(1))
        await reader.stop()
        await reader.until_notice("Stopped.")
        await until_free(behind)
        await reader.until_idle()
        assert await reader.answers.all_inner_texts() == [words(1)]
        await reader.send("words 2")
        await reader.until_answered(2, words(2))
        assert said(behind.requests[-1]) == ["hold", words(1), "words 2"]

    play(scene)


@pytest.mark.parametrize(
    ("question", "remark", "answer"),
    [
        ("refuse", "The service refused: temperature must be at most 2", []),
        ("break 3", "The answer broke off: the connection to the service was lost.", [words(3)]),
        ("fail 3", "The answer broke off: the engine failed", [words(3)]),
    ],
)
def test_an_error_is_shown_and_the_conversation_goes_on(play: Play, question: str, remark: str, answer: list[str]) -> None:
    async def scene(_: StandIn, reader: ChatUser) -> None:
        await reader.send(question)
        await reader.until_notice(remark)
        assert await reader.answers.all_inner_texts() == answer
        await reader.until_idle()
        await reader.send("words 2")
        await reader.until_answered(len(answer) + 1, words(2))

    play(scene)


def test_the_page_shows_that_it_waits_for_a_service_that_is_not_ready(play: Play) -> None:
    async def scene(behind: StandIn, reader: ChatUser) -> None:
        await reader.send("unready")
        await reader.until_notice("Waiting for the service… (it is not ready)")
        behind.ready = True
        await reader.until_answered(1, words(5))
        assert await reader.notices.all_inner_texts() == []

    play(scene)


def test_users_do_not_wait_for_each_other(play: Play) -> None:
    async def scene(behind: StandIn, *readers: ChatUser) -> None:
        for reader in readers:
            await reader.send("hold")
        for reader in readers:
            await reader.until_answered(1, words(1))
        assert behind.live == len(readers)
        assert [said(body) for body in behind.requests] == [["hold"]] * len(readers)

    play(scene, 3)


def test_the_service_stops_computing_for_a_page_that_was_closed(play: Play) -> None:
    async def scene(behind: StandIn, reader: ChatUser) -> None:
        await reader.send("hold")
        await reader.until_answered(1, words(1))

    play(scene)  # ends only when the service computes no answer any more


def test_a_message_typed_during_an_answer_is_kept_until_the_answer_is_complete(play: Play) -> None:
    async def scene(behind: StandIn, reader: ChatUser) -> None:
        await reader.send("hold")
        await reader.until_answered(1, words(1))
        await reader.send("words 2")
        assert await reader.box.input_value() == "words 2"
        await reader.stop()
        await reader.until_notice("Stopped.")
        await reader.until_idle()
        assert await reader.box.input_value() == "words 2"
        assert len(behind.requests) == 1
        await reader.send("")
        await reader.until_answered(2, words(2))

    play(scene)


def test_an_empty_message_sends_no_request(play: Play) -> None:
    async def scene(behind: StandIn, reader: ChatUser) -> None:
        await reader.send("  ")
        await reader.page.keyboard.insert_text("words 2")
        while not behind.requests:  # the page ignores a second Enter until the first is handled
            await reader.page.keyboard.press("Enter")
            await asyncio.sleep(0.1)
        await reader.until_answered(1, words(2))
        assert [said(body) for body in behind.requests] == [["words 2"]]

    play(scene)


def test_the_last_question_can_be_asked_again(play: Play) -> None:
    async def scene(behind: StandIn, reader: ChatUser) -> None:
        await reader.send("words 2")
        await reader.until_answered(1, words(2))
        await reader.until_idle()
        await reader.send("break 3")
        await reader.until_notice("broke off")
        await reader.until_idle()
        await reader.page.locator("#talk button[aria-label=Retry]:not([disabled])").click()
        while len(behind.requests) < 3:
            await asyncio.sleep(0.05)
        await reader.until_notice("broke off")
        await reader.until_idle()
        assert said(behind.requests[2]) == said(behind.requests[1]) == ["words 2", words(2), "break 3"]
        assert await reader.questions.all_inner_texts() == ["words 2", "break 3"]

    play(scene)


def test_a_new_conversation_ends_the_old_one(play: Play) -> None:
    async def scene(behind: StandIn, reader: ChatUser) -> None:
        await reader.send("hold")
        await reader.until_answered(1, words(1))
        await reader.click("New conversation")
        await until_free(behind)
        await reader.until_shown("Ask something.")
        await reader.until_idle()
        await reader.send("words 2")
        await reader.until_answered(1, words(2))
        assert said(behind.requests[-1]) == ["words 2"]

    play(scene)


def test_the_settings_are_sent_with_every_question(play: Play) -> None:
    async def scene(behind: StandIn, reader: ChatUser) -> None:
        await reader.limit_answer(48)
        await reader.set("textarea", "be brief")
        for number in (1, 2):
            await reader.send("words 2")
            await reader.until_answered(number, words(2))
            await reader.until_idle()
        assert len(behind.requests) == 2
        for body in behind.requests:
            assert body["messages"][0] == {"role": "system", "content": "be brief"}
            assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.2, 0.9, 48)

    play(scene)


def test_the_page_shows_the_services_description_of_its_model(play: Play) -> None:
    async def scene(behind: StandIn, reader: ChatUser) -> None:
        assert "noise" not in str(await reader.page.locator("body").inner_text())
        behind.description = "Its words are noise."
        await reader.send("words 2")  # a page that was loaded before the service answered gets it later, too
        await reader.until_shown("Its words are noise.")

    play(scene)


def test_the_longest_answer_that_can_be_set_is_the_services(play: Play) -> None:
    async def scene(behind: StandIn, reader: ChatUser) -> None:
        behind.longest = 100
        await reader.page.reload()
        await reader.until_longest(100)
        await reader.send("words 2")
        await reader.until_answered(1, words(2))
        assert behind.requests[0]["max_tokens"] == 100
        behind.longest = 0

    play(scene)


def test_the_page_sends_requests_only_to_the_chat(play: Play) -> None:
    async def scene(_: StandIn, reader: ChatUser) -> None:
        await reader.send("words 2")
        await reader.until_answered(1, words(2))
        here = await reader.page.evaluate("location.origin")
        assert len(reader.requests) > 5
        assert [url for url in reader.requests if not url.startswith((here, "data:", "blob:"))] == []

    play(scene)


def test_markup_in_an_answer_is_shown_and_never_run(play: Play) -> None:
    async def scene(_: StandIn, reader: ChatUser) -> None:
        await reader.send("script")
        await reader.until_answered(1, "before")
        await reader.until_idle()
        assert await reader.page.evaluate("window.run") is None

    play(scene)

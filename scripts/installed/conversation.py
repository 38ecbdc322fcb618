"""A conversation on the chat page in a browser, for tests and for the picture in the docs:
`python -m scripts.installed.conversation URL PICTURE.png QUESTION …`.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page, expect

from scripts.installed.browser import browser

_TWO_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


class ChatUser:
    """Reads from and types into one page of the chat."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        """URLs that the page has requested, in order."""
        page.on("request", lambda request: self.requests.append(request.url))
        self.box = page.locator("#box textarea")
        self.answers = page.locator("#talk [data-testid=bot] > .message-content")
        self.questions = page.locator("#talk [data-testid=user] > .message-content")
        self.notices = page.locator("#talk .thought-group .title")
        """Notices about the conversation, including one about waiting."""

    async def send(self, text: str) -> None:
        """Type the text and send it with the Enter key."""
        await self.box.click()
        await self.page.keyboard.insert_text(text)
        await self.page.keyboard.press("Enter")

    async def click(self, text: str) -> None:
        """Click on the element that contains exactly this text."""
        await self.page.get_by_text(text, exact=True).last.click()

    async def set(self, field: str, value: str) -> None:
        """Fill a field of the page's settings, which is named by its CSS selector inside of them."""
        await self.click("Settings")
        control = self.page.locator(f"#settings {field}")
        # In the frame after the settings are opened for the first time, Gradio gives their fields the initial values once more.
        while await control.input_value() != value:
            await control.fill(value)
            await self.page.evaluate(_TWO_FRAMES)
        await self.click("Settings")

    async def limit_answer(self, tokens: int) -> None:
        """Set the maximum length of an answer, in tokens, in the page's settings."""
        await self.set("#longest input[type=number]", str(tokens))

    async def until_longest(self, tokens: int) -> None:
        """Wait until the page's settings allow answers of at most this many tokens."""
        await self.click("Settings")
        await expect(self.page.locator("#longest input[type=range]")).to_have_attribute("max", str(tokens))
        await self.click("Settings")

    async def until_notice(self, text: str) -> None:
        """Wait until a notice that contains the text is on the page."""
        await expect(self.notices.filter(has_text=text)).not_to_have_count(0)

    async def until_answered(self, number: int, text: str = "") -> None:
        """Wait until this number of answers is on the page and the last one begins with the text."""
        await expect(self.answers).to_have_count(number)
        await expect(self.answers.last).to_have_text(re.compile(f"^{re.escape(text)}"), use_inner_text=True)

    async def until_idle(self) -> None:
        """Wait until no answer is growing: the input box has its send button again."""
        await expect(self.page.locator("#box .submit-button")).to_be_visible()

    async def until_shown(self, text: str) -> None:
        """Wait until the text is on the page."""
        await expect(self.page.locator("body")).to_contain_text(text, use_inner_text=True)

    async def stop(self) -> None:
        """Click on the stop button."""
        await self.page.locator("#box .stop-button").click()


@asynccontextmanager
async def chat_user(chromium: Browser, address: str) -> AsyncIterator[ChatUser]:
    """Open the page in a new tab."""
    async with await chromium.new_page(viewport={"width": 1280, "height": 800}) as page:
        user = ChatUser(page)
        await page.goto(address)
        await expect(user.box).to_be_visible()
        await user.until_idle()
        yield user


async def take_picture(address: str, picture: Path, questions: Sequence[str]) -> None:
    """Save a picture of the page in the middle of the last answer; answers are short, so that all are visible."""
    async with browser() as chromium, chat_user(chromium, address) as reader:
        await reader.limit_answer(72)
        for number, question in enumerate(questions, 1):
            await reader.until_idle()
            await reader.send(question)
            await reader.until_answered(number)
        await asyncio.sleep(2)  # so that the answer has more words
        await reader.page.screenshot(path=picture)


def main() -> None:
    """Run the command that the module describes."""
    parser = argparse.ArgumentParser(prog="python -m scripts.installed.conversation", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("picture", type=Path)
    parser.add_argument("questions", nargs="+", metavar="QUESTION")
    given = parser.parse_args()
    asyncio.run(take_picture(given.url, given.picture, given.questions))


if __name__ == "__main__":
    main()

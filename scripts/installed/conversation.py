"""A conversation on the chat page in a browser, for tests and for the picture in the docs:
`python -m scripts.installed.conversation URL PICTURE.png QUESTION …`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from scripts.installed.browser import Browser, Page, browser, element_with

MESSAGES = "[...document.querySelectorAll('#talk [data-testid=%s] > .message-content')].map(one => one.innerText.trim())"
NOTICES = "[...document.querySelectorAll('#talk .thought-group .title')].map(one => one.innerText.trim())"
BOX = "document.querySelector('#box textarea')"
STOP = "document.querySelector('#box .stop-button')"
SEND = "document.querySelector('#box .submit-button')"
LONGEST = "document.querySelector('#longest input[type=number]')"


class ChatUser:
    """Reads from and types into one page of the chat."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def send(self, text: str) -> None:
        """Type the text and send it with the Enter key."""
        await self.page.click(BOX)
        await self.page.type(text)
        await self.page.enter()

    async def limit_answer(self, tokens: int) -> None:
        """Set the maximum length of an answer, in tokens, in the page's settings."""
        await self.page.click(element_with("Settings"))
        await self.page.click(LONGEST)
        await self.page.value(f"{LONGEST}.select()")
        await self.page.type(str(tokens))
        await self.page.click(element_with("Settings"))

    async def answers(self) -> list[str]:
        """Return the texts of the answers on the page."""
        return list(await self.page.value(MESSAGES % "bot"))

    async def questions(self) -> list[str]:
        """Return the texts of the questions on the page."""
        return list(await self.page.value(MESSAGES % "user"))

    async def notices(self) -> list[str]:
        """Return the texts of the notices on the page, including one about waiting."""
        return list(await self.page.value(NOTICES))

    async def until_notice(self, text: str) -> None:
        """Wait until a notice that contains the text is on the page."""
        await self.page.until_true(f"{NOTICES}.some(one => one.includes({json.dumps(text)}))")

    async def until_answered(self, number: int, text: str = "") -> None:
        """Wait until this number of answers is on the page and the last one begins with the text."""
        await self.page.until_true(f"(all => all.length == {number} && all.at(-1).startsWith({json.dumps(text)}))({MESSAGES % 'bot'})")

    async def until_idle(self) -> None:
        """Wait until no answer is growing: the input box has its send button again."""
        await self.page.until_true(f"!!{SEND}")

    async def stop(self) -> None:
        """Click on the stop button."""
        await self.page.click(STOP)

    async def box(self) -> str:
        """Return the text in the input box."""
        return str(await self.page.value(f"{BOX}.value"))


@asynccontextmanager
async def chat_user(chromium: Browser, address: str) -> AsyncIterator[ChatUser]:
    """Open the page in a new tab."""
    async with chromium.page() as page:
        await page.open(address, 1280, 800)
        await page.until_true(f"!!{BOX} && !!{SEND}")
        yield ChatUser(page)


async def take_picture(address: str, picture: Path, questions: Sequence[str]) -> None:
    """Save a picture of the page in the middle of the last answer; answers are short, so that all are visible."""
    async with browser() as chromium, chat_user(chromium, address) as reader:
        await reader.limit_answer(72)
        for number, question in enumerate(questions, 1):
            await reader.until_idle()
            await reader.send(question)
            await reader.until_answered(number)
        await asyncio.sleep(2)  # so that the answer has more words
        picture.write_bytes(await reader.page.screenshot())


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

"""A conversation on the chat's page, held in a browser by the tests, and for the picture in the docs:
`python -m scripts.installed.conversation URL PICTURE.png QUESTION …`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from scripts.installed.browser import Browser, Page, browser, holding

SAID = "[...document.querySelectorAll('#talk [data-testid=%s] > .message-content')].map(one => one.innerText.trim())"
REMARKS = "[...document.querySelectorAll('#talk .thought-group .title')].map(one => one.innerText.trim())"
BOX = "document.querySelector('#box textarea')"
STOP = "document.querySelector('#box .stop-button')"
SEND = "document.querySelector('#box .submit-button')"
LONGEST = "document.querySelector('#longest input[type=number]')"


class Person:
    """Reads and types on one page of the chat."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def say(self, text: str) -> None:
        """The text was typed and sent with the Enter key."""
        await self.page.click(BOX)
        await self.page.type(text)
        await self.page.enter()

    async def want(self, tokens: int) -> None:
        """The settings allow no longer answer than this."""
        await self.page.click(holding("Settings"))
        await self.page.click(LONGEST)
        await self.page.value(f"{LONGEST}.select()")
        await self.page.type(str(tokens))
        await self.page.click(holding("Settings"))

    async def answers(self) -> list[str]:
        """The answers on the page."""
        return list(await self.page.value(SAID % "bot"))

    async def questions(self) -> list[str]:
        """The questions on the page."""
        return list(await self.page.value(SAID % "user"))

    async def remarks(self) -> list[str]:
        """The remarks on the page; one that waits is among them."""
        return list(await self.page.value(REMARKS))

    async def until_remarked(self, text: str) -> None:
        """Such a remark is on the page."""
        await self.page.until_true(f"{REMARKS}.some(one => one.includes({json.dumps(text)}))")

    async def until_answered(self, number: int, text: str = "") -> None:
        """So many answers are on the page, and the last one begins with the text."""
        await self.page.until_true(f"(said => said.length == {number} && said.at(-1).startsWith({json.dumps(text)}))({SAID % 'bot'})")

    async def until_idle(self) -> None:
        """No answer grows: the box has its button to send."""
        await self.page.until_true(f"!!{SEND}")

    async def stop(self) -> None:
        """The button to stop was clicked on."""
        await self.page.click(STOP)

    async def box(self) -> str:
        """What stands in the box."""
        return str(await self.page.value(f"{BOX}.value"))


@asynccontextmanager
async def person(chromium: Browser, address: str) -> AsyncIterator[Person]:
    """Somebody who has just opened the page."""
    async with chromium.page() as page:
        await page.open(address, 1280, 800)
        await page.until_true(f"!!{BOX} && !!{SEND}")
        yield Person(page)


async def portray(address: str, picture: Path, questions: Sequence[str]) -> None:
    """The picture shows the page in the middle of the last answer; answers are short enough for all to be seen."""
    async with browser() as chromium, person(chromium, address) as reader:
        await reader.want(72)
        for number, question in enumerate(questions, 1):
            await reader.until_idle()
            await reader.say(question)
            await reader.until_answered(number)
        await asyncio.sleep(2)  # some words more
        picture.write_bytes(await reader.page.picture())


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m scripts.installed.conversation", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("picture", type=Path)
    parser.add_argument("questions", nargs="+", metavar="QUESTION")
    given = parser.parse_args()
    asyncio.run(portray(given.url, given.picture, given.questions))


if __name__ == "__main__":
    main()

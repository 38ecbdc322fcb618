"""The page: Gradio, with the style sheet style.css."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from openai import APIError

from serving.chat.conversation import Shown, answered, asked, exchanges, stopped, until_asked
from serving.chat.pace import paced
from serving.chat.service import Options, Service

# Gradio reads these when it is imported. Without them it reports its use to its makers, and builds a table of all earlier events after
# each answer.
os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_ANALYTICS_MAX_EVENTS="1", GRADIO_ANALYTICS_CACHE_FREQUENCY=str(10**9))
import gradio as gr

STYLE = Path(__file__).with_name("style.css")
THEME = gr.themes.Base(
    primary_hue=gr.themes.colors.teal,
    neutral_hue=gr.themes.colors.slate,
    radius_size=gr.themes.sizes.radius_lg,
    font=("system-ui", "sans-serif"),  # installed fonts: the page loads nothing from other sites
    font_mono=("ui-monospace", "monospace"),
)
MOST_TOKENS, STEP = 1024, 16
"""Largest value of the control for the longest answer, until the service has named its own, and the step of the control."""
IDLE: dict[str, Any] = {"submit_btn": True, "stop_btn": False}
BUSY: dict[str, Any] = {"submit_btn": False, "stop_btn": True}


class Handlers:
    """The page's event handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def ask(self, event: gr.EventData, text: str, shown: list[Shown], *options: Any) -> AsyncIterator[tuple[Any, Any]]:
        """Yield the input box and the conversation while the answer grows; the question is the text in the box, or for a retry the last
        question."""
        again = isinstance(event.target, gr.Chatbot)
        before = until_asked(shown) if again else [*shown, asked(text.strip())]
        if not before or not (again or text.strip()):
            yield gr.skip(), gr.skip()
            return
        yield gr.Textbox(**BUSY) if again else gr.Textbox("", **BUSY), before
        async with aclosing(paced(self._service.answer(exchanges(before), _options(*options)))) as answers:
            async for answer in answers:
                yield gr.skip(), [*before, *answered(answer)]

    def rest(self) -> Any:
        """Return the input box after an answer, however the answer ended."""
        return gr.Textbox(**IDLE)

    async def about(self, longest: float) -> tuple[Any, Any]:
        """Return the note about the model, and the control for the longest answer with the service's limit; neither changes if the
        service cannot be reached."""
        try:
            found = await self._service.about()
        except APIError:
            return gr.skip(), gr.skip()
        most = found.max_tokens or MOST_TOKENS
        slider = gr.Slider(most % STEP or STEP, most, min(int(longest), most), step=STEP)
        return gr.Markdown(found.note, visible=bool(found.note)), slider


def _options(system: str, max_tokens: float, temperature: float, top_p: float) -> Options:
    return Options(temperature, top_p, int(max_tokens), system.strip())


def _settings() -> list[gr.components.Component]:
    """Create the controls, in the order of the parameters of `_options`."""
    usual = Options()
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        system = gr.Textbox(usual.system, label="System prompt", placeholder="Instructions before the conversation", max_lines=4)
        with gr.Row():
            longest = gr.Slider(
                STEP, MOST_TOKENS, usual.max_tokens, step=STEP, label="Longest answer (tokens)", min_width=220, elem_id="longest"
            )
            temperature = gr.Slider(0, 1.5, usual.temperature, step=0.1, label="Temperature", min_width=220)
            top_p = gr.Slider(0.05, 1, usual.top_p, step=0.05, label="Top p", min_width=220)
    return [system, longest, temperature, top_p]


def build_page(service: Service) -> gr.Blocks:
    """Create the page; it is not served yet."""
    handlers = Handlers(service)
    with gr.Blocks(title="Leeward", analytics_enabled=False, fill_height=True) as page:
        with gr.Row(elem_id="head"):
            gr.Markdown("# Leeward")
            new = gr.Button("New conversation", size="sm", variant="secondary", scale=0, elem_id="new")
        note = gr.Markdown(visible=False, elem_id="note")
        shown = gr.Chatbot(
            show_label=False, container=False, scale=1, height=160, elem_id="talk", layout="bubble", buttons=["copy"],
            placeholder="Ask something. The conversation goes on when the head of the cluster dies.", allow_tags=False,
        )  # fmt: skip
        box = gr.Textbox(
            show_label=False, container=False, placeholder="Message", max_lines=8, max_length=100_000, autofocus=True, elem_id="box", **IDLE
        )
        options = _settings()
        here = [box, shown]
        answering = gr.on(
            [box.submit, shown.retry], handlers.ask, [*here, *options], here, show_progress="hidden", api_visibility="private"
        )  # one event for both: while it runs, Gradio starts no second one
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        # Also after an answer that was stopped or failed. The model is asked about again because it may have changed since the page was
        # loaded.
        longest = options[1]
        answering.then(handlers.rest, None, box, **quiet).then(handlers.about, longest, [note, longest], **quiet)
        box.stop(None, cancels=[answering]).then(stopped, [shown], shown, **quiet)
        new.click(None, cancels=[answering]).then(list, None, shown, **quiet)
        page.load(handlers.about, longest, [note, longest], **quiet)
    # Gradio's default is one answer at a time for all users together.
    return page.queue(default_concurrency_limit=None)


def application(service: Service) -> FastAPI:
    """Return the page as an ASGI application, which closes the connections to the service when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.aclose()

    return gr.mount_gradio_app(
        FastAPI(openapi_url=None, lifespan=lifespan), build_page(service), "/", footer_links=[], run_history=False, max_file_size="1kb",
        ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False, theme=THEME, css_paths=STYLE,
    )  # fmt: skip

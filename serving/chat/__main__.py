"""Serves the page until killed."""

from __future__ import annotations

import uvicorn

from serving.chat import PORT
from serving.chat.page import application
from serving.chat.service import Address, Service


def main() -> None:
    """Serve the page on PORT of every address."""
    service = Service(Address.from_env())
    # A factory, because Gradio makes event loops and leaves them open when it builds a page outside of one.
    # Open pages keep their connections: a pod that ends does not wait for them.
    uvicorn.run(lambda: application(service), factory=True, host="0.0.0.0", port=PORT, log_level="warning", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    main()

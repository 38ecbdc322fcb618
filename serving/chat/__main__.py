"""Serves the page until killed."""

from __future__ import annotations

import uvicorn

from serving.chat import PORT
from serving.chat.page import application
from serving.chat.service import Address, Service


def main() -> None:
    """Serve the page on PORT of every address."""
    # Open pages keep their connections: a pod that ends does not wait for them.
    uvicorn.run(application(Service(Address.from_env())), host="0.0.0.0", port=PORT, log_level="warning", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    main()

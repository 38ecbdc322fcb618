"""The service as in the cluster, on one node: Serve's proxy, one `api` and one `engine` replica.

    python3 -m benchmarks.served PORT

The engine's settings come from the environment.
"""

from __future__ import annotations

import logging
import signal
import sys

import ray
from ray import serve

from serving.app import app

OBJECTS_BYTES = 100_000_000
"""Ray's store of objects, which the service does not use; the smallest that Ray takes is a little less."""


def node(port: int) -> None:
    """A Ray node is up, with Serve's proxy at that port of the loopback; ended with this process."""
    # Processors as far as Ray counts them; how many threads the engine takes is its own setting.
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=OBJECTS_BYTES, logging_level=logging.WARNING)
    serve.start(http_options={"host": "127.0.0.1", "port": port})


def main() -> None:
    """Serves until it is ended."""
    node(int(sys.argv[1]))
    serve.run(app)
    signal.pause()


if __name__ == "__main__":
    main()

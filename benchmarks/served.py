"""Runs the service as in the cluster, on one node: Serve's proxy, one `api` and one `engine` replica.

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
"""Size of Ray's object store, which the service does not use; Ray's minimum is a little less."""


def start_node(port: int) -> None:
    """Start a Ray node with Serve's proxy at this port of the loopback; it ends with this process."""
    # CPUs that Ray may assign; the number of the engine's threads is its own setting.
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=OBJECTS_BYTES, logging_level=logging.WARNING)
    serve.start(http_options={"host": "127.0.0.1", "port": port})


def main() -> None:
    """Serve until the process is ended."""
    start_node(int(sys.argv[1]))
    serve.run(app)
    signal.pause()


if __name__ == "__main__":
    main()

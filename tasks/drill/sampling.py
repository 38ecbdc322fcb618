"""Samples of everything that scales, taken once a second in the background; every sample is a line on disk."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from blocks.errors import Transient
from blocks.parameters import Service
from drills.kubernetes import node_labels
from drills.kubernetes.api import Api
from drills.runner.observer import Observer
from drills.surge.sample import Sample
from tasks.cluster.karpenter import CLAIMS
from tasks.support.site import Site

EVERY_S = 1.0
STALE_S = 20.0
"""Age in seconds from which on a sample is too old. Samples take longer while the head is away, and fail while the API server is."""
PAUSE_S = 5.0
"""Seconds to wait at the end for a sample that is being taken."""
ENGINE = "engine"
log = logging.getLogger(__name__)


class NoSample(Transient):
    """There has been no sample of the service for a while."""


def take_sample(observer: Observer) -> Sample:
    """Take a sample.

    Raises:
        Unavailable: the API server does not answer.
    """
    snapshot = observer.take_snapshot(ask=False)
    nodes = node_labels.inf2(observer.api)
    claims = [c for c in observer.api.items(CLAIMS) if node_labels.nodepool(c) == node_labels.INF2]
    return Sample(
        t=snapshot.t,
        engines=None if snapshot.replicas is None else len(snapshot.running().get(ENGINE, ())),
        head=snapshot.head,
        workers=snapshot.workers,
        endpoints=snapshot.endpoints,
        nodes=tuple(sorted(n["metadata"]["name"] for n in nodes if node_labels.ready(n))),
        claims=tuple(sorted(c["metadata"]["name"] for c in claims)),
    )


class Sampler:
    """The samples so far. `sampling_of` adds them in its thread."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._lock = file, threading.Lock()
        self._last: Sample | None = None

    def add(self, sample: Sample) -> None:
        """Append a sample to the file."""
        with self._lock, self._file.open("a", encoding="utf-8") as file:
            file.write(f"{sample.model_dump_json()}\n")
            self._last = sample

    def now(self) -> Sample:
        """Return the latest sample.

        Raises:
            NoSample: it is older than STALE_S.
        """
        with self._lock:
            last = self._last
        if last is None or time.time() - last.t > STALE_S:
            raise NoSample("the service could not be observed for a while: the API server does not answer, or is slow")
        return last


@contextmanager
def sampling_of(api: Api, service: Service, file: Path, every_s: float = EVERY_S) -> Iterator[Sampler]:
    """Take samples until the end of the block. One that fails is logged and left out."""
    done, sampler = threading.Event(), Sampler(file)

    def run() -> None:
        with Observer(api, service.subject) as observer:
            while not done.is_set():
                begun = time.monotonic()
                try:
                    sampler.add(take_sample(observer))
                except Exception as error:  # the API server may be unavailable for a moment; `Sampler.now` raises when it is for longer
                    log.warning("the service could not be observed: %s", error)
                done.wait(max(0.05, every_s - (time.monotonic() - begun)))

    thread = threading.Thread(target=run, name="sampler", daemon=True)
    thread.start()
    try:
        yield sampler
    finally:
        done.set()
        thread.join(timeout=PAUSE_S)


def sampled(site: Site, service: Service, file: Path) -> AbstractContextManager[Sampler]:
    """Return `sampling_of` a service on a site."""
    return sampling_of(site.api(), service, file)

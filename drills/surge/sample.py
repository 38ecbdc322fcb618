"""A service at one moment: its engines, workers, nodes and head."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from drills.observed import HeadSeen, Snapshot, WorkerSeen
from drills.value import Seconds, Value

__all__ = ["Sample", "not_at_rest", "read_samples", "surplus"]


class Sample(Value):
    """Everything that scales, at one moment."""

    t: Seconds
    """Seconds since the epoch on the observer's clock."""
    engines: int | None
    """Number of running replicas of the engine; None when Ray could not be asked."""
    head: HeadSeen | None = None
    """None when there is no head pod."""
    workers: tuple[WorkerSeen, ...] = ()
    """All worker pods, also those that wait for a node or are ending."""
    endpoints: tuple[str, ...] = ()
    """Names of the pods that are ready behind the serve service."""
    nodes: tuple[str, ...] = ()
    """Names of the inf2 nodes that are Ready."""
    claims: tuple[str, ...] = ()
    """Names of Karpenter's NodeClaims for inf2 nodes; empty where Karpenter does not manage them."""

    @property
    def head_ready(self) -> bool:
        """Whether there is a head that is ready."""
        return self.head is not None and self.head.ready

    @property
    def ready(self) -> tuple[str, ...]:
        """Names of the workers that are ready."""
        return tuple(w.pod for w in self.workers if w.ready)

    @property
    def answering(self) -> tuple[str, ...]:
        """Names of the workers to which requests are sent."""
        return tuple(w.pod for w in self.workers if w.pod in self.endpoints)

    @property
    def launched(self) -> int:
        """Number of nodes that are Ready or being launched."""
        return max(len(self.nodes), len(self.claims))

    def shows_more_than(self, before: Sample) -> bool:
        """Return whether more workers than before answer, each with an engine."""
        more_engines = self.engines is not None and before.engines is not None and self.engines > before.engines
        return more_engines and len(self.answering) > len(before.answering)

    def new_workers(self, before: Sample) -> tuple[WorkerSeen, ...]:
        """Return the worker pods that were not there before."""
        known = {w.uid for w in before.workers}
        return tuple(w for w in self.workers if w.uid not in known)

    def snapshot(self) -> Snapshot:
        """Return the pods of the sample as a snapshot."""
        return Snapshot(t=self.t, head=self.head, workers=self.workers, endpoints=self.endpoints)


def not_at_rest(sample: Sample, workers: int, nodes: int | None) -> list[str]:
    """Return why the service is not at rest with so many workers; empty when it is. `nodes` is None where nodes do not follow workers."""
    found = []
    if not sample.head_ready:
        found.append("the head is not ready")
    if sample.engines is None:
        found.append("Ray could not be asked for its replicas")
    elif sample.engines != workers:
        found.append(f"{sample.engines} engines run instead of {workers}")
    if len(sample.workers) != workers or len(sample.ready) != workers:
        found.append(f"{len(sample.workers)} workers, {len(sample.ready)} of them ready, instead of {workers}")
    if len(sample.answering) != workers:
        found.append(f"{len(sample.answering)} workers answer instead of {workers}")
    if nodes is not None and (len(sample.nodes) != nodes or sample.launched != nodes):
        found.append(f"{sample.launched} inf2 nodes, {len(sample.nodes)} of them ready, instead of {nodes}")
    return found


def surplus(sample: Sample, before: Sample) -> tuple[str, str]:
    """Return how the workers with their engines differ from before, and how many nodes are too many. Each is empty when it is as before."""
    of_workers = "" if sample.engines in (None, before.engines) else f"{sample.engines} engines run instead of {before.engines}"
    here, wanted = len(sample.workers), len(before.workers)
    if here != wanted or len(sample.answering) != len(before.answering):
        of_workers = f"{here} workers instead of {wanted}, {len(sample.answering)} of which answer"
    of_nodes = f"{sample.launched} inf2 nodes instead of {before.launched}" if sample.launched > before.launched else ""
    return of_workers, of_nodes


def read_samples(file: Path) -> list[Sample]:
    """Return the samples of a file, one per line, in order; none when there is no file. An incomplete last line is left out."""
    if not file.exists():
        return []
    lines: Iterable[str] = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [Sample.model_validate_json(line) for line in lines if line.endswith("\n")]

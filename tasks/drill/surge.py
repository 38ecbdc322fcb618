"""The steps of a surge: loads are started and stopped, and the service must grow and shrink in between."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from blocks.errors import Permanent, PipelineError, TimedOut
from blocks.parameters import Service
from drills.kubernetes.api import Api
from drills.runner import api_key, faults, load_job
from drills.runner import journal as journals
from drills.runner.journal import FaultNote, remove_loads
from drills.runner.waiting import Pending, Until
from drills.runner.watch import NotSteady
from drills.stages import judging
from drills.stages.run import Result
from drills.strikes import Strike
from drills.surge import archive
from drills.surge.judgement import Judgement, LoadResult, Plan, Seen, judge, merge_records
from drills.surge.sample import Sample, not_at_rest, read_samples, surplus
from tasks.drill.sampling import NoSample, Sampler
from tasks.drill.steps import config_of, placement
from tasks.support.progress import Progress
from tasks.support.site import Site
from tasks.support.step import step

LOOK_EVERY_S = 1.0
AT_REST_WITHIN_S = 900.0
"""Seconds to wait for a service at rest, in addition to the time that it must be: the workers and nodes of an earlier load take as long to
go as those of the surge."""
HOLD_S = 5.0
"""Seconds that workers and nodes must be as before to count as back: longer than an endpoint may flicker."""
BETWEEN_S = 900.0
"""Seconds of base load for the time between phases: loads that start and drain, a slow machine."""
METRICS_PORT = 8080
"""Port of the metrics of Ray's agent in every pod; KubeRay sets it."""
METRICS_S = 5.0
"""Seconds that one request for metrics may take."""
COUNTED_WITHIN_S = 30.0
"""Seconds to wait for the counters of new engines: Ray's workers report them to their agent every ten seconds."""
ENGINE = "ray_leeward_slots"
"""A metric that every engine has from its start."""
FINISHED = re.compile(r'^ray_leeward_requests_total\{[^}]*outcome="finished"[^}]*\} ([0-9.e+]+)', re.MULTILINE)
LONGEST_S = 7400
"""Seconds: a little more than the longest wait that the parameters of a surge allow."""

Check = Callable[[], None]
"""A function that raises LockLost once another run has the lock."""


def longest(plan: Plan, *, base: bool) -> float:
    """Return the seconds that a load is needed at most: the base load for the whole run, the others until the surge ends."""
    surge = plan.grow_within_s + plan.surge_s
    return plan.steady_s + AT_REST_WITHIN_S + surge + plan.shrink_within_s + BETWEEN_S if base else surge + BETWEEN_S


def start_and_wait(api: Api, service: Service, plan: Plan, names: Sequence[str], lasts_s: float, progress: Progress) -> float:
    """Start these loads and wait until they send; returns when the first one began, on this machine's clock.

    Raises:
        TimedOut, LoadFailed: one of them does not send.
    """
    loads, where = [load_job.LoadJob(api, service.subject, name) for name in names], placement(api, service)
    for load in loads:
        load.start(where, plan.load, lasts_s)
    for load in loads:
        Until(f"the load {load.name} to send", load.check_sending, load_job.RUNNING_WITHIN_S, LOOK_EVERY_S, progress.show_pending).wait()
    return min(_began(load) for load in loads)


def _began(load: load_job.LoadJob) -> float:
    offset, status = load_job.clock_offset(load), load.status()
    return time.time() if status.started is None else status.started - offset


def wait_at_rest(sampler: Sampler, plan: Plan, check: Check, progress: Progress, within_s: float = AT_REST_WITHIN_S) -> Sample:
    """Wait until the service has been at rest under its base load for `steady_s`; returns the last sample.

    Raises:
        NotSteady: it was not; the message has the reason.
    """
    since: list[float] = []

    def probe() -> Sample | Pending:
        now = sampler.now()
        reasons = not_at_rest(now, plan.workers, plan.workers if plan.nodes_follow else None)
        if reasons:
            since.clear()
            return Pending("; ".join(reasons), 10)
        since.append(now.t)
        held = now.t - since[0]
        return now if held >= plan.steady_s else Pending(f"at rest for {held:.0f} of {plan.steady_s:.0f} s", 20 + 79 * held / plan.steady_s)

    try:
        return Until("the service at rest", probe, within_s + plan.steady_s, LOOK_EVERY_S, progress.checked(check)).wait()
    except TimedOut as error:
        raise NotSteady(f"the service was not at rest under the base load: {error}") from error


def inject(
    api: Api, service: Service, sampler: Sampler, plan: Plan, before: Sample, until: float, check: Check, progress: Progress
) -> FaultNote | None:
    """Do the fault of the plan as soon as a new worker starts; returns the fault. None when no worker was seen starting.

    A second call finds the fault in the journal and does no other one.

    Raises:
        NothingToBreak: the target of the fault is not there.
    """
    drill, journal = plan.drill, journals.read(api, service.subject)
    assert drill is not None, "only a surge with a fault comes here"
    assert journal is not None, "the lock is taken first, with a journal"

    def probe() -> bool | Pending:
        now = sampler.now()
        if any(not worker.ready for worker in now.new_workers(before)):
            return True
        return False if now.shows_more_than(before) else Pending("no worker is on its way yet")

    if journal.fault is None:
        try:
            found = Until("a worker on its way", probe, until - time.time(), LOOK_EVERY_S / 2, progress.checked(check)).wait()
        except TimedOut:
            return None
        if not found:
            return None
    return faults.inject_once(api, service.subject, drill, journal.owner).fault


def wait_until_grown(sampler: Sampler, before: Sample, until: float, check: Check, progress: Progress) -> Sample | None:
    """Wait until more workers answer than before; returns the sample that shows it, None when there is none by `until`."""

    def probe() -> Sample | Pending:
        now = sampler.now()
        return now if now.shows_more_than(before) else Pending(_describe(now), 50)

    try:
        return Until("more workers to answer", probe, until - time.time(), LOOK_EVERY_S, progress.checked(check)).wait()
    except TimedOut as error:
        progress.show(100, str(error))
        return None


def wait_until_shrunk(sampler: Sampler, before: Sample, until: float, check: Check, progress: Progress) -> Sample | None:
    """Wait until workers and nodes have been as before for HOLD_S; returns the last sample, None when they are not by `until`."""
    since: list[float] = []

    def probe() -> Sample | Pending:
        now = sampler.now()
        more = [text for text in surplus(now, before) if text] or (["Ray cannot be asked"] if now.engines is None else [])
        if more:
            since.clear()
            return Pending("; ".join(more), 50)
        since.append(now.t)
        return now if now.t - since[0] >= HOLD_S else Pending("as before", 99)

    try:
        return Until("workers and nodes as before", probe, until - time.time(), LOOK_EVERY_S, progress.checked(check)).wait()
    except TimedOut as error:
        progress.show(100, str(error))
        return None


def keep_surging(sampler: Sampler, grown: Sample, until: float, plan: Plan, check: Check, progress: Progress) -> Sample:
    """Wait until `until`; returns the last sample, or `grown` when there was no other one."""
    latest = grown
    while (left := until - time.time()) > 0:
        check()
        with contextlib.suppress(NoSample):
            latest = sampler.now()
        progress.show(100 * (1 - left / plan.surge_s), f"the surge goes on for {left:.0f} s")
        time.sleep(min(LOOK_EVERY_S, left))
    return latest


def count_answered(
    api: Api, service: Service, pods: Collection[str], on_pending: Callable[[Pending], None], within_s: float = COUNTED_WITHIN_S
) -> dict[str, int]:
    """Return how many requests the engine in each of these pods has finished, as soon as each has finished one, or after `within_s`.

    An engine that finished none has 0. Pods without metrics of an engine are left out.
    """

    def probe() -> dict[str, int] | Pending:
        found = _read_counters(api, service, pods)
        idle = [pod for pod in pods if not found.get(pod)]
        return Pending(f"no requests yet of {', '.join(idle)}", 99) if idle else found

    try:
        return Until("answers of the new engines", probe, within_s, LOOK_EVERY_S, on_pending).wait()
    except TimedOut:
        return _read_counters(api, service, pods)


def _read_counters(api: Api, service: Service, pods: Collection[str]) -> dict[str, int]:
    found = {}
    for pod in pods:
        try:
            text = api.proxy("GET", service.namespace, "pods", pod, METRICS_PORT, "/metrics", METRICS_S).decode(errors="replace")
        except PipelineError:
            continue
        if ENGINE in text:
            found[pod] = round(sum(map(float, FINISHED.findall(text))))  # Ray has no metric for a counter that was never increased
    return found


def stop_loads(
    api: Api, service: Service, plan: Plan, names: Sequence[str], folder: Path, on_pending: Callable[[Pending], None]
) -> list[LoadResult]:
    """Stop these loads, wait for their last requests and read their records into the folder. A result says when they could not be read."""
    for name in names:
        try:
            load_job.LoadJob(api, service.subject, name).stop()
        except PipelineError as error:
            get_run_logger().warning("the load %s could not be stopped: %s", name, error)
    return [_stop_load(load_job.LoadJob(api, service.subject, name), plan, records_of(folder, name), on_pending) for name in names]


def _stop_load(load: load_job.LoadJob, plan: Plan, file: Path, on_pending: Callable[[Pending], None]) -> LoadResult:
    try:
        status, offset = load_job.end_load(load, file, plan.load.patience_s, on_pending)
    except Permanent as error:
        return LoadResult(name=load.name, records=len(list(load_job.records_in(file))), trouble=str(error)[:500])
    return LoadResult(name=load.name, seen=load_job.load_seen(status), clock_offset_s=offset, records=len(list(load_job.records_in(file))))


def records_of(folder: Path, name: str) -> Path:
    """Return the file for the records of that load; its folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.jsonl"


def _describe(now: Sample) -> str:
    engines = "?" if now.engines is None else now.engines
    return (
        f"{len(now.answering)} workers answer, {len(now.workers)} there; {engines} engines; {len(now.nodes)} of {now.launched} nodes Ready"
    )


@step("start loads", deadline_s=1500)
def start_loads(site: Site, service: Service, plan: Plan, names: Sequence[str], lasts_s: float) -> float:
    """These loads send; returns when the first one began."""
    api, progress = site.api(), Progress("surge-load")
    api_key.put(api, service.subject.home, site.block.api_key)
    began = start_and_wait(api, service, plan, names, lasts_s, progress)
    load = plan.load
    progress.show(100, f"{len(names)} × {load.short_per_s:g} requests/s and {load.streams} live streams")
    return began


@step("service at rest", deadline_s=2900)
def wait_until_at_rest(sampler: Sampler, plan: Plan, check: Check) -> Sample:
    """The service was at rest under its base load; returns the last sample.

    Raises:
        NotSteady: it was not.
    """
    progress = Progress("surge-calm")
    before = wait_at_rest(sampler, plan, check, progress)
    progress.show(100, f"at rest for {plan.steady_s:.0f} s under load: {_describe(before)}")
    return before


@step("inject fault in mid growth", deadline_s=LONGEST_S)
def inject_in_growth(
    site: Site, service: Service, sampler: Sampler, plan: Plan, before: Sample, until: float, check: Check
) -> tuple[Strike, ...]:
    """The fault of the plan is done while a new worker starts; returns what was struck, nothing when no worker was seen starting."""
    done = inject(site.api(), service, sampler, plan, before, until, check, Progress("surge-fault"))
    what = "no worker was seen starting, so the fault was not done" if done is None else f"fault {plan.fault}: {done.target}"
    get_run_logger().info(what)
    return done.strikes if done else ()


@step("wait for growth", deadline_s=LONGEST_S)
def wait_for_growth(sampler: Sampler, before: Sample, until: float, check: Check) -> Sample | None:
    """More workers answer than before; returns the sample that shows it, None when there is none by `until`."""
    progress = Progress("surge-growth")
    found = wait_until_grown(sampler, before, until, check, progress)
    if found:
        progress.show(100, _describe(found))
    return found


@step("hold surge", deadline_s=LONGEST_S)
def hold_surge(
    site: Site, service: Service, sampler: Sampler, plan: Plan, before: Sample, grown: Sample, until: float, check: Check
) -> dict[str, int]:
    """The surge went on until `until`, also after retries; returns how many requests the new workers answered, by pod where it is known."""
    progress = Progress("surge-hold")
    latest = keep_surging(sampler, grown, until, plan, check, progress)
    found = count_answered(site.api(), service, [worker.pod for worker in latest.new_workers(before)], progress.checked(check))
    progress.show(100, "; ".join(f"{pod} answered {n} requests" for pod, n in found.items()) or "no new worker reports what it answered")
    return found


@step("end loads", deadline_s=3000)
def end_loads(site: Site, service: Service, plan: Plan, names: Sequence[str], folder: Path) -> list[LoadResult]:
    """These loads have ended properly, and their records are in the folder."""
    progress = Progress("surge-records")
    ended = stop_loads(site.api(), service, plan, names, folder, progress.show_pending)
    progress.show(100, f"{sum(load.records for load in ended)} records of {len(ended)} loads")
    return ended


@step("wait for shrinking", deadline_s=LONGEST_S)
def wait_for_shrinking(sampler: Sampler, before: Sample, until: float, check: Check) -> bool:
    """Wait until workers and nodes are as before; returns whether they were by `until`."""
    progress = Progress("surge-shrinking")
    found = wait_until_shrunk(sampler, before, until, check, progress)
    if found:
        progress.show(100, _describe(found))
    return found is not None


@step("remove loads", deadline_s=60, retries=2)
def remove_run_loads(site: Site, service: Service, owner: str) -> list[str]:
    """No load of the run is left; returns the names of the loads that were removed."""
    return remove_loads(site.api(), service.subject, owner)


@step("judge surge", deadline_s=300)
def judge_surge(site: Site, service: Service, plan: Plan, seen: Seen, raw: Path, folder: Path, run_name: str) -> Result:
    """The surge is judged, and its evidence is written and shown; returns the result.

    Args:
        seen: The observation without the samples, which are read from `raw`, as are the records.
    """
    whole = seen.model_copy(update={"samples": tuple(read_samples(raw / archive.SAMPLES))})
    records = merge_records((list(load_job.records_in(records_of(raw, load.name))), load.clock_offset_s) for load in seen.loads)
    judgement = judge(plan, whole, records)
    found = archive.Evidence(
        target=site.target,
        run=run_name,
        judgement=judgement,
        plan=plan,
        seen=whole,
        versions=judging.versions(site.api(), service.subject),
        config=config_of(site, service),
    )
    picture = archive.write(folder, found, records)
    for file in (raw / archive.SAMPLES, *(records_of(raw, load.name) for load in seen.loads)):
        file.unlink(missing_ok=True)  # the files beside the evidence have the same
    _show(found, picture)
    get_run_logger().info("verdict %s: %s", judgement.verdict, judgement.headline)
    return Result(verdict=judgement.verdict, headline=judgement.headline, folder=folder)


def _show(found: archive.Evidence, picture: Path) -> None:
    judgement = found.judgement
    create_markdown_artifact(key="surge-verdict", markdown=to_markdown(judgement, picture), description=judgement.headline)
    rows = [{"promise": p.name, "limit": p.target, "seen": p.actual, "kept": "yes" if p.passed else "NO"} for p in judgement.promises]
    if rows:
        create_table_artifact(key="surge", table=rows, description=f"{sum(p.passed for p in judgement.promises)} of {len(rows)} kept")


def to_markdown(judgement: Judgement, picture: Path) -> str:
    """Return the verdict as Markdown, with the paths of the picture and its sources."""
    newcomers = [
        (
            f"`{n.pod}`",
            n.node + (" (new)" if n.new_node else ""),
            f"{n.after_s:.0f} s",
            "not known" if n.answered is None else str(n.answered),
        )
        for n in judgement.newcomers
    ]
    phases = [
        (
            p.name,
            f"{p.seconds:.0f} s",
            str(p.requests),
            str(p.failed),
            f"{p.under_way:.1f}",
            "–" if p.p99_ms is None else f"{p.p99_ms:.0f} ms",
        )
        for p in judgement.phases
    ]
    return "\n".join(
        [
            f"# {judgement.verdict}\n\n{judgement.headline}\n",
            *(f"- {reason}" for reason in judgement.why),
            _table(("new worker", "on", "answers after", "requests that it finished"), newcomers),
            _table(("phase", "lasted", "requests", "failed", "under way", "p99 of short ones, not judged"), phases),
            *(f"- `{picture.parent / name}`" for name in (archive.PICTURE, archive.EVIDENCE, archive.SAMPLES, archive.RECORDS)),
        ]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

"""Complete loads against a stand-in for the service: schedule, records, end."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path, PosixPath
from typing import Any

import httpx
import pytest
import virtual_time
from serving_service import TEMPLATE, Service, client, running

from drills.load import __main__ as command
from drills.load import routes
from drills.load.http import Client
from drills.load.run import Load, Plan, due_times
from drills.load.warmup import WarmUpFailed, learn
from drills.records import Record, read_lines
from drills.request import Template


def records_of(path: Path) -> list[Record]:
    with path.open() as lines:
        return list(read_lines(lines))


@asynccontextmanager
async def started(path: Path, patience: float = 60.0, **plan: float) -> AsyncIterator[tuple[Service, Load, asyncio.Task[None]]]:
    """Run a service and a load that sends to it."""
    numbers: Any = {"short_tokens": 2, "stream_tokens": 3, **plan}
    async with running() as service:
        caller = Client(service.url, virtual_time.clock(), patience)
        load = Load(Plan(service.url, TEMPLATE, **numbers), caller, path)
        run = asyncio.ensure_future(load.run(warm_up_s=60, max_duration_s=600))
        try:
            await until(lambda: load.state == "running" or run.done())
            yield service, load, run
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            caller.close()


async def until(true: Callable[[], bool]) -> None:
    """Wait for a condition without a limit of its own (the timeout of the test ends it)."""
    while not true():
        await asyncio.sleep(0.005)


def test_due_times_are_computed_from_numbers_and_not_added_up() -> None:
    due = list(itertools.islice(due_times(1000.0, 10.0), 100_001))
    assert due[-1] == 1000.0 + 100_000 / 10.0


def test_a_multiplied_rate_counts_from_the_last_due_time() -> None:
    factor = [1]
    due = due_times(0.0, 2.0, lambda: factor[0])
    found = [next(due), next(due)]
    factor[0] = 4
    found += itertools.islice(due, 5)
    factor[0] = 1
    found += itertools.islice(due, 2)
    assert found == [0.0, 0.5, 0.625, 0.75, 0.875, 1.0, 1.125, 1.625, 2.125]


def test_streams_are_sent_often_enough_that_never_fewer_than_requested_are_alive() -> None:
    plan = Plan("http://x", TEMPLATE, streams=8)
    interval = 1 / plan.per_s("stream", stream_s=5.0)
    # Streams live five seconds, so at any moment at least eight must have begun in the last five seconds.
    assert int(5.0 / interval) >= 8


def test_a_plan_with_nothing_to_send_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to send"):
        Plan("http://x", TEMPLATE, short_per_s=0, streams=0)


def test_every_request_is_recorded_once_and_finished(tmp_path: Path) -> None:
    async def go() -> Load:
        async with started(tmp_path / "r", short_per_s=50, streams=2) as (_, load, run):
            await until(lambda: load.sent >= 30)
            load.stop()
            await run
            return load

    load = virtual_time.run(go())
    records = records_of(tmp_path / "r")
    assert sorted(r.id for r in records) == list(range(load.sent))
    assert {r.outcome for r in records} == {"finished"}
    assert {(r.kind, r.expected_tokens, len(r.token_times)) for r in records} == {("short", 2, 2), ("stream", 3, 3)}
    assert load.state == "done"


def test_a_load_whose_records_nobody_reads_ends_by_itself(tmp_path: Path) -> None:
    async def go() -> Load:
        async with running() as service:
            caller = Client(service.url, virtual_time.clock(), 60.0)
            load = Load(Plan(service.url, TEMPLATE, short_per_s=50, streams=0, short_tokens=2), caller, tmp_path / "r")
            try:
                await load.run(warm_up_s=60, max_duration_s=600, lease_s=0.2)  # the timeout of the test would end it
                return load
            finally:
                caller.close()

    load = virtual_time.run(go())
    assert load.state == "done"
    assert {r.outcome for r in records_of(tmp_path / "r")} == {"finished"}


def test_only_a_request_for_the_records_counts_as_reading_them(tmp_path: Path) -> None:
    async def go() -> None:
        async with started(tmp_path / "r", short_per_s=50, streams=0) as (_, load, _run):
            before = load.read_at
            routes.answer(load, "GET", "/status")
            assert load.read_at == before, "the readiness probe asks for the status"
            routes.answer(load, "GET", "/records?offset=0")
            assert load.read_at > before

    virtual_time.run(go())


def test_requests_stay_due_on_the_schedule_while_the_service_stalls(tmp_path: Path) -> None:
    async def go() -> float:
        async with started(tmp_path / "r", patience=0.3, short_per_s=100, streams=0) as (service, load, run):
            service.short = "stall"
            await until(lambda: len(service.asked) >= 40)
            load.stop()
            await run
            assert load.started is not None
            return load.started

    began = virtual_time.run(go())
    records = sorted(records_of(tmp_path / "r"), key=lambda r: r.id)
    assert "hung" in {r.outcome for r in records}
    for k, record in enumerate(records):
        assert record.due == pytest.approx(began + k / 100, abs=1e-6)
        assert record.sent >= record.due
        assert record.latency_s >= record.end - record.sent


def test_a_sender_that_stalls_catches_up_and_the_delay_counts_as_latency(tmp_path: Path) -> None:
    async def go() -> None:
        async with started(tmp_path / "r", short_per_s=100, streams=0) as (_, load, run):
            before = load.sent
            virtual_time.loop().stand_still(0.5)
            await until(lambda: load.sent >= before + 50)
            load.stop()
            await run

    virtual_time.run(go())
    records = sorted(records_of(tmp_path / "r"), key=lambda r: r.due)
    gaps = [b.due - a.due for a, b in itertools.pairwise(records)]
    assert max(gaps) == pytest.approx(0.01, abs=1e-6)
    assert max(r.latency_s for r in records) >= 0.4


def test_stop_sends_nothing_more_and_lets_live_requests_end(tmp_path: Path) -> None:
    async def go() -> tuple[int, Load]:
        async with started(tmp_path / "r", short_per_s=0, streams=2) as (service, load, run):
            service.stream, asked = "hold", len(service.asked)
            await until(lambda: len(service.asked) > asked)
            load.stop()
            await until(lambda: load.state == "draining")
            at_stop = load.sent
            assert not run.done()
            service.released.set()
            await run
            return at_stop, load

    at_stop, load = virtual_time.run(go())
    assert load.sent == at_stop == len(records_of(tmp_path / "r"))
    assert load.stopped is not None
    assert {r.outcome for r in records_of(tmp_path / "r")} == {"finished"}


def test_an_answer_that_changes_later_is_wrong(tmp_path: Path) -> None:
    async def go() -> None:
        async with started(tmp_path / "r", short_per_s=50, streams=0) as (service, load, run):
            service.short = "wrong"
            sent = load.sent
            await until(lambda: load.sent >= sent + 5)
            load.stop()
            await run

    virtual_time.run(go())
    assert "wrong" in {r.outcome for r in records_of(tmp_path / "r")}


def test_a_load_ends_when_its_time_is_over(tmp_path: Path) -> None:
    async def go() -> Load:
        async with running() as service:
            with client(service) as session:
                load = Load(Plan(service.url, TEMPLATE, short_tokens=2, stream_tokens=2), session, tmp_path / "r")
                await load.run(warm_up_s=60, max_duration_s=0.2)
                return load

    assert virtual_time.run(go()).state == "done"


def test_a_request_that_could_not_be_recorded_ends_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Record.to_line
    full = iter([OSError("no space left")])

    def to_line(record: Record) -> str:
        for error in full:
            raise error
        return written(record)

    async def go() -> None:
        async with running() as service:
            with client(service) as session:
                load = Load(Plan(service.url, TEMPLATE, short_per_s=100, short_tokens=2, streams=0), session, tmp_path / "r")
                monkeypatch.setattr(Record, "to_line", to_line)
                await load.run(warm_up_s=60, max_duration_s=1)

    with pytest.raises(OSError, match="no space left"):
        virtual_time.run(go())


class Full(PosixPath):
    """A file with room for all of a line but its end, which the kernel does not report as an error."""

    def open(self, *_: Any, **__: Any) -> Any:
        class File(io.FileIO):
            def write(self, line: Any) -> int:
                return super().write(line[:-1])

        return File(self, "xb")


def test_a_record_that_was_written_only_in_part_ends_the_load(tmp_path: Path) -> None:
    async def go() -> None:
        async with running() as service:
            with client(service) as session:
                load = Load(Plan(service.url, TEMPLATE, short_per_s=100, short_tokens=2, streams=0), session, Full(tmp_path / "r"))
                await load.run(warm_up_s=60, max_duration_s=0.2)

    with pytest.raises(OSError, match="no room"):
        virtual_time.run(go())


@pytest.mark.parametrize(("behaviour", "reason"), [("busy", "429"), ("differ", "different answers"), ("stall", "hung")])
def test_a_load_does_not_begin_without_right_answers_and_reports_why(tmp_path: Path, behaviour: str, reason: str) -> None:
    async def go() -> None:
        async with running() as service:
            with client(service, patience=0.2 if behaviour == "stall" else 60) as session:
                service.short = behaviour
                load = Load(Plan(service.url, TEMPLATE, streams=0), session, tmp_path / "r")
                await load.run(warm_up_s=0.3, max_duration_s=1)

    with pytest.raises(WarmUpFailed, match=reason):
        virtual_time.run(go())
    assert records_of(tmp_path / "r") == []


def test_the_warm_up_tries_again_until_the_service_is_ready() -> None:
    async def go() -> tuple[int, ...]:
        async with running() as service:
            with client(service) as session:
                service.short = "busy"
                plan = Plan(service.url, TEMPLATE, short_tokens=2, streams=0)
                learning = asyncio.ensure_future(learn(session, TEMPLATE, plan.tokens, plan.streams, within_s=60, pause_s=0.01))
                await until(lambda: len(service.asked) >= 8)
                service.short = "answer"
                return (await learning).expected("short", TEMPLATE.sentences[0])[0]

    assert virtual_time.run(go()) == (100, 101)


def test_records_are_read_by_offset_in_complete_lines(tmp_path: Path) -> None:
    file = tmp_path / "r"
    file.write_bytes(b'{"a":1}\n{"b":2}\n{"c"')
    assert routes.whole_lines(file, 0) == b'{"a":1}\n{"b":2}\n'
    assert routes.whole_lines(file, 8) == b'{"b":2}\n'
    assert routes.whole_lines(file, 16) == b""
    assert routes.whole_lines(file, 0, most=12) == b'{"a":1}\n'


@pytest.mark.parametrize("offset", [-1, 3, 1000])
def test_an_offset_where_no_record_begins_is_refused(tmp_path: Path, offset: int) -> None:
    (tmp_path / "r").write_bytes(b'{"a":1}\n')
    with pytest.raises(ValueError, match="offset"):
        routes.whole_lines(tmp_path / "r", offset)


def test_a_load_is_watched_and_stopped_and_its_records_read_over_http(tmp_path: Path) -> None:
    async def go() -> tuple[dict[str, object], bytes, list[int]]:
        async with (
            started(tmp_path / "r", short_per_s=50, streams=0) as (_, load, run),
            routes.serve(load, 0) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as api,
        ):
            await until(lambda: (tmp_path / "r").stat().st_size > 0)
            first = (await api.get("/records")).content
            codes = [(await api.post(f"/multiply?factor={n}")).status_code for n in ("3", "x", "0", "-2", "11", "")]
            assert codes == [200, 400, 400, 400, 400, 400]
            assert load.factor == 3
            await api.post("/stop", content=b"{}")
            await run
            rest = (await api.get("/records", params={"offset": str(len(first))})).content
            bad = [(await api.get(path)).status_code for path in ("/records?offset=many", "/stop", "/")]
            return (await api.get("/status")).json(), first + rest, bad

    status, body, bad = asyncio.run(go())
    assert body == (tmp_path / "r").read_bytes()
    assert (status["state"], status["sent"]) == ("done", body.count(b"\n"))
    assert set(status) == {"now", "state", "sent", "started", "stopped", "node", "checks"}
    assert status["checks"] == {"short": "ids"}
    assert bad == [400, 404, 404]


def plan_of(service: Service, records: Path, **more: Any) -> dict[str, Any]:
    """A short load as the command is given it."""
    short = {"short_tokens": 2, "stream_tokens": 3, "max_duration_s": 0.2, "linger_s": 0, "port": 0}
    return {"url": f"{service.url}/", "template": Template.of("leeward").for_load(), "records": str(records), **short, **more}


def test_the_command_runs_a_load_and_exits_with_0(tmp_path: Path) -> None:
    async def go() -> int | str:
        async with running() as service:
            return await command.run(plan_of(service, tmp_path / "r", short_per_s=20))

    assert asyncio.run(go()) == 0
    assert {r.kind for r in records_of(tmp_path / "r")} == {"short", "stream"}


def test_the_key_comes_from_the_environment_and_goes_with_every_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEEWARD_HEADER_1", "sesame")

    async def go() -> list[str | None]:
        async with running() as service:
            assert await command.run(plan_of(service, tmp_path / "r")) == 0
        return service.keys

    assert set(asyncio.run(go())) == {"Bearer sesame"}
    assert "sesame" not in (tmp_path / "r").read_text()


def test_without_a_key_in_the_environment_no_header_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEEWARD_HEADER_1", raising=False)

    async def go() -> list[str | None]:
        async with running() as service:
            assert await command.run(plan_of(service, tmp_path / "r")) == 0
        return service.keys

    assert set(asyncio.run(go())) == {None}


def test_the_command_reports_why_it_could_not_begin(tmp_path: Path) -> None:
    async def go() -> int | str:
        async with running() as service:
            service.short = "busy"
            return await command.run(plan_of(service, tmp_path / "r", warm_up_s=0.1))

    assert "429" in str(asyncio.run(go()))


def test_the_records_of_another_load_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("precious\n")
    assert "not overwritten" in str(asyncio.run(command.run(plan_of(Service(), tmp_path / "r", url="http://127.0.0.1:1"))))
    assert (tmp_path / "r").read_text() == "precious\n"

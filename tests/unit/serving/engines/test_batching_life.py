"""Start, health and stop of a batching engine, and every way in which they can fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from batching_world import LIMITS, Gated, World, on_a_loop, read, read_to_error, running, until

from serving.engines.callbacks import EngineCallbacks, Stats
from serving.engines.contract import GenerationFailed, Logits, NotReady


def engine_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "engine"]


def test_an_engine_is_ready_when_it_has_computed_the_longest_prompt_and_a_token_after_it() -> None:
    async def test() -> None:
        async with running(World()) as world:
            assert await world.engine.ready() == LIMITS
            assert world.exact.calls == [("prefill", (0,)), ("decode", (0,))]
            assert world.engine.stats() == Stats(slots=4)
            world.engine.check()

    on_a_loop(test)


def test_a_starting_engine_answers_nothing_and_is_healthy() -> None:
    async def test() -> None:
        may_build = threading.Event()

        def build() -> Gated:
            may_build.wait()
            return Gated(LIMITS)

        world = World(build=build)
        with pytest.raises(NotReady, match="not started"):
            await world.engine.ready()
        with pytest.raises(NotReady, match="not started"):
            world.engine.check()
        world.engine.start()
        with pytest.raises(NotReady, match="starting"):
            await anext(world.ask())
        world.engine.check()
        assert world.engine.stats() == Stats()
        ready = asyncio.ensure_future(world.engine.ready())
        await asyncio.sleep(0)
        assert not ready.done()
        may_build.set()
        assert await ready == LIMITS
        await world.engine.stop()

    on_a_loop(test)


class NaNs(Gated):
    """An engine with logits that are not numbers."""

    def _answer(self, slots: Sequence[int]) -> Logits:
        self.orders.spoil = set(slots)
        return super()._answer(slots)


def no_engine() -> Gated:
    raise FileNotFoundError("no checkpoint")


@pytest.mark.parametrize(("build", "why"), [(no_engine, "FileNotFoundError"), (lambda: NaNs(LIMITS), "NotFinite")])
def test_an_engine_that_cannot_start_is_never_ready_and_reports_the_cause(build: object, why: str) -> None:
    async def test() -> None:
        world = World(build=build)  # type: ignore[arg-type]
        world.engine.start()
        with pytest.raises(NotReady, match=why):
            await world.engine.ready()
        for ask in (lambda: anext(world.ask()), world.engine.ready):
            with pytest.raises(NotReady, match=why):
                await ask()
        with pytest.raises(NotReady, match=why):
            world.engine.check()
        await world.engine.stop()

    on_a_loop(test)


def test_a_step_that_does_not_end_makes_the_engine_unhealthy_until_it_ends() -> None:
    async def test() -> None:
        async with running(World(stuck_after_s=0.05)) as world:
            (reader,) = await world.together(read(world.ask()), steps=2)
            await until(lambda: _unhealthy(world))
            with pytest.raises(NotReady, match="stuck"):
                await world.engine.ready()
            with pytest.raises(NotReady, match="stuck"):
                world.engine.check()
            world.release()
            await reader
            await until(lambda: not _unhealthy(world))

    on_a_loop(test)


def _unhealthy(world: World) -> bool:
    try:
        world.engine.check()
    except NotReady:
        return True
    return False


def test_an_idle_engine_stays_healthy() -> None:
    async def test() -> None:
        async with running(World(stuck_after_s=0.01)) as world:
            await read(world.ask())
            await asyncio.sleep(0.1)
            world.engine.check()

    on_a_loop(test)


def test_a_broken_engine_is_unhealthy_and_accepts_no_request() -> None:
    async def test() -> None:
        async with running(World()) as world:
            world.exact.orders.fail = 3
            for _ in range(3):
                with pytest.raises(GenerationFailed):
                    await read(world.ask())
            for ask in (lambda: anext(world.ask()), world.engine.ready):
                with pytest.raises(NotReady, match="broken"):
                    await ask()
            with pytest.raises(NotReady, match="broken"):
                world.engine.check()

    on_a_loop(test)


class Quits(EngineCallbacks):
    """Callbacks that end the engine's thread at the first token."""

    def first_token(self, after_s: float) -> None:
        raise SystemExit


def test_when_the_thread_ends_readers_get_an_error_and_the_engine_is_unhealthy() -> None:
    async def test() -> None:
        world = World(callbacks=Quits())
        world.engine.start()
        await world.engine.ready()
        readers = [asyncio.ensure_future(read(world.ask())) for _ in range(3)]
        for outcome in await asyncio.gather(*readers, return_exceptions=True):
            assert isinstance(outcome, NotReady)
        with pytest.raises(NotReady, match="SystemExit"):
            await world.engine.ready()
        await until(lambda: not engine_threads())
        with pytest.raises(NotReady, match="SystemExit"):
            world.engine.check()
        assert world.exact.closed

    on_a_loop(test)


def test_stop_ends_all_readers_with_an_error_and_closes_the_engine_in_its_thread() -> None:
    async def test() -> None:
        async with running(World(max_queue=20)) as world:
            readers = await world.together(*(read(world.ask()) for _ in range(10)), steps=9)
            assert (world.engine.stats().live, world.engine.stats().queued) == (4, 6)
            stopping = asyncio.ensure_future(world.engine.stop())
            for outcome in await asyncio.gather(*readers, return_exceptions=True):
                assert isinstance(outcome, NotReady)
                assert str(outcome) == "the engine was stopped"
            world.release()
            await stopping
            assert world.exact.closed
            assert not engine_threads()
            for ask in (lambda: anext(world.ask()), world.engine.ready):
                with pytest.raises(NotReady, match="stopped"):
                    await ask()
            with pytest.raises(NotReady, match="stopped"):
                world.engine.check()

    on_a_loop(test)


def test_a_reader_gets_the_tokens_before_a_stop_and_then_the_error() -> None:
    async def test() -> None:
        async with running(World()) as world:
            world.hold(after=10)
            pieces = world.ask()
            before = (await anext(pieces)).tokens
            await world.held()
            world.release()
            await world.engine.stop()
            after, error = await read_to_error(pieces)
            assert len(before + after) >= 10
            assert str(error) == "the engine was stopped"

    on_a_loop(test)


def test_stop_gives_up_on_a_step_that_does_not_end_but_readers_get_an_error() -> None:
    async def test() -> None:
        world = World(stuck_after_s=0.05)
        async with running(world):
            world.hold(after=2)
            reader = asyncio.ensure_future(read(world.ask()))
            await world.held()
            with pytest.raises(NotReady, match="stuck"):
                await world.engine.stop()
            with pytest.raises(NotReady, match="stopped"):
                await reader
        assert world.exact.closed

    on_a_loop(test)


def test_an_engine_that_was_never_started_can_be_stopped() -> None:
    on_a_loop(World().engine.stop)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_thread_ends_when_the_loop_is_closed_without_a_stop() -> None:
    world = World()

    async def leave() -> None:
        world.engine.start()
        await world.engine.ready()
        world.hold(after=2)
        pieces = world.ask()
        await anext(pieces)
        await world.held()

    on_a_loop(leave)
    world.release()
    for thread in engine_threads():
        thread.join(60)
    assert not engine_threads()
    assert world.exact.closed

"""The batching engine: real threads, a real event loop, and answers that show any token lost, doubled or crossed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import pytest
from batching_world import GREEDY, LIMITS, Answered, World, on_a_loop, read, read_to_error, running, until
from exact_engine import ENDS, alone

from serving.engines.contract import GenerationFailed, Piece, QueueFull, Request, Sampling, Unfit


def varied(n: int) -> Request:
    """Return the n-th of many different requests."""
    prompt = (2 + n % 60, 2 + n // 60, *range(2, 2 + n % 14))
    sampling = GREEDY if n % 2 else Sampling(1.0, top_p=0.9, seed=n)
    return Request(f"r{n}", prompt, 1 + n % 40, sampling)


async def first(pieces: AsyncIterator[Piece]) -> Answered:
    """Read the first tokens, and leave the rest unread."""
    return (await anext(pieces)).tokens, None


def whole(*prompt: int) -> Answered:
    """Type of the result of `World.ask`."""
    return alone(Request("r", prompt, 40, GREEDY), LIMITS, ())


def test_500_streams_at_once_are_all_complete_and_right() -> None:
    async def test() -> None:
        async with running(World(ENDS, max_queue=500)) as world:
            requests = [varied(n) for n in range(500)]
            answers = await asyncio.gather(*(read(world.engine.generate(r)) for r in requests))
            assert answers == [alone(r, LIMITS) for r in requests]
            stats = world.engine.stats()
            assert (stats.finished, stats.live, stats.queued) == (500, 0, 0)

    on_a_loop(test)


def test_the_results_of_a_step_go_to_the_event_loop_in_one_call() -> None:
    async def test() -> None:
        loop, calls = asyncio.get_running_loop(), 0
        original = loop.call_soon_threadsafe

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            return original(*args, **kwargs)

        async with running(World()) as world:
            loop.call_soon_threadsafe = counted  # type: ignore[method-assign, assignment]
            await asyncio.gather(*(read(world.ask(2, n)) for n in range(2, 6)))
            loop.call_soon_threadsafe = original  # type: ignore[method-assign]
            assert calls == world.engine.stats().steps

    on_a_loop(test)


def test_a_slow_reader_delays_no_other_and_gets_all_that_came_as_one_piece() -> None:
    async def test() -> None:
        async with running(World()) as world:
            world.hold(after=5)
            slow = world.ask(2, 3)
            before, _ = await first(slow)
            world.release()
            assert await read(world.ask(2, 4)) == whole(2, 4)
            await until(lambda: world.engine.stats().finished == 2)
            rest = await anext(slow)
            assert (before + rest.tokens, rest.finish) == whole(2, 3)
            with pytest.raises(StopAsyncIteration):
                await anext(slow)

    on_a_loop(test)


def test_an_answer_requested_as_a_whole_comes_as_one_piece() -> None:
    async def test() -> None:
        async with running(World()) as world:
            world.hold(after=5)
            wanted = world.engine.generate(Request("r", (2, 3), 40, GREEDY, whole=True))
            coming = asyncio.ensure_future(anext(wanted))  # type: ignore[arg-type]
            await world.held()
            assert not coming.done()
            world.release()
            piece = await coming
            assert (piece.tokens, piece.finish) == whole(2, 3)

    on_a_loop(test)


def test_a_reader_that_closes_frees_its_slot_with_the_next_step() -> None:
    async def test() -> None:
        async with running(World()) as world:
            going = world.ask(2, 3)
            began, staying = await world.together(first(going), read(world.ask(2, 4)), steps=6)
            await began
            assert world.exact.calls[-1] == ("decode", (0, 1))
            steps = len(world.exact.calls)
            await cast(AsyncGenerator[Piece, None], going).aclose()
            world.release()
            assert await staying == whole(2, 4)
            assert {slots for _, slots in world.exact.calls[steps:]} == {(1,)}
            assert (world.engine.stats().cancelled, world.engine.stats().finished) == (1, 1)

    on_a_loop(test)


def test_a_cancelled_reader_frees_its_slot_or_its_place_in_the_queue() -> None:
    async def test() -> None:
        async with running(World()) as world:
            readers = await world.together(*(read(world.ask(2, n)) for n in range(2, 8)), steps=10)
            assert (world.engine.stats().live, world.engine.stats().queued) == (4, 2)
            for reader in readers[::2]:
                reader.cancel()
            await asyncio.gather(*readers[::2], return_exceptions=True)
            world.release()
            assert await asyncio.gather(*readers[1::2]) == [whole(2, n) for n in (3, 5, 7)]
            stats = world.engine.stats()
            assert (stats.cancelled, stats.finished, stats.live, stats.queued) == (3, 3, 0, 0)

    on_a_loop(test)


def test_an_answer_is_not_computed_before_its_reader_begins() -> None:
    async def test() -> None:
        async with running(World()) as world:
            world.ask()
            await read(world.ask())
            assert world.engine.stats().prefills == 1

    on_a_loop(test)


def test_a_refusal_comes_at_once_even_during_a_step() -> None:
    async def test() -> None:
        async with running(World(max_queue=1)) as world:
            accepted = await world.together(*(read(world.ask()) for _ in range(LIMITS.slots + 1)), steps=0)
            with pytest.raises(QueueFull):
                await anext(world.ask())
            with pytest.raises(Unfit):
                await anext(world.ask(*[2] * 17))
            world.release()
            assert await asyncio.gather(*accepted) == [whole(2, 3)] * (LIMITS.slots + 1)

    on_a_loop(test)


def test_a_failure_in_the_middle_of_a_stream_is_raised_after_the_tokens_before_it() -> None:
    async def test() -> None:
        async with running(World()) as world:
            world.hold(after=10)
            pieces = world.ask(2, 3)
            before, _ = await first(pieces)
            await world.held()
            world.exact.orders.fail = 1
            world.release()
            await until(lambda: world.engine.stats().failed == 1)
            after, error = await read_to_error(pieces)
            assert before + after == whole(2, 3)[0][:10]
            assert isinstance(error, GenerationFailed)
            assert "10 tokens" in str(error)
            assert await read(world.ask(2, 3)) == whole(2, 3)

    on_a_loop(test)

"""The cpu profile in a process of its own, from its name to an answer."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import prompt, write

from serving.engines.contract import Request, Sampling, TextEngine
from serving.engines.cpu.engine import CpuEngine
from serving.engines.profiles import named
from serving.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("given", "spins"), [({}, "20000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_threads_spin_for_a_short_time_unless_the_environment_sets_another(checkpoint: Path, given: dict[str, str], spins: str) -> None:
    program = (
        "import sys; from pathlib import Path; from serving.engines import profiles; from serving.settings import Settings\n"
        "assert 'torch' not in sys.modules\n"
        "profiles.named('cpu').make_step_engine(Settings(model=Path(sys.argv[1]), slots=2, positions=20)).prefill(0, [1, 2])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | given | {"OMP_DISPLAY_ENV": "VERBOSE"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(checkpoint)], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr


def test_openblas_computes_in_the_calling_thread(checkpoint: Path) -> None:
    openblas = ctypes.CDLL("libopenblas.so.0")
    openblas.openblas_set_num_threads(2)
    named("cpu").make_step_engine(Settings(model=checkpoint, slots=2, positions=20))
    assert openblas.openblas_get_num_threads() == 1


async def tokens_of(text: TextEngine, request: Request) -> list[int]:
    """Return the tokens of an answer that the model ended."""
    pieces = [piece async for piece in text.generate(request)]
    assert pieces[-1].finish == "stop"
    return [token for piece in pieces for token in piece.tokens]


def test_an_answer_ends_at_the_checkpoints_end_token_and_has_the_step_engines_tokens(tmp_path: Path) -> None:
    ids, greedy = prompt(9), []
    engine = CpuEngine(write(tmp_path / "plain"), slots=1, positions=64)
    token = int(engine.prefill(0, ids).argmax())
    for position in range(9, 40):
        greedy.append(token)
        token = int(engine.decode([0], [token], [position])[0].argmax())
    end = next(token for n, token in enumerate(greedy) if n > 3 and token not in greedy[:n])
    folder = write(tmp_path / "ending", eos_token_id=end)

    async def answers(count: int) -> list[list[int]]:
        text = named("cpu").make_text_engine(Settings(model=folder, slots=4, positions=64, threads=1))
        text.start()
        await text.ready()
        found = await asyncio.gather(*(tokens_of(text, Request(str(n), tuple(ids), 30, Sampling(temperature=0))) for n in range(count)))
        await text.stop()
        return found

    assert asyncio.run(answers(6)) == [greedy[: greedy.index(end)]] * 6

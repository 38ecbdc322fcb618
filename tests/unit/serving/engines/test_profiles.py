"""The profiles can be read where no engine can run, and make the engines that they name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.engines import profiles
from serving.engines.profiles import Profile, named
from serving.settings import Settings

ROOT = Path(__file__).parents[4]
NAMES = [profile.name for profile in profiles.PROFILES]


def test_an_unknown_engine_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'gpu'; there are cpu, neuron"):
        named("gpu")


def test_profiles_are_read_with_nothing_but_the_standard_library() -> None:
    program = "import sys; sys.path.insert(0, '.'); from serving.engines import profiles; print(profiles.named('neuron').step_engine)"
    done = subprocess.run([sys.executable, "-S", "-I", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "serving.engines.neuron.engine:build\n"


class Computing:
    """A step engine that keeps the settings it was made with."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings


def test_a_step_engine_is_made_by_its_factory_and_is_paced_if_the_settings_ask_for_it() -> None:
    profile = Profile("test", f"{__name__}:Computing")
    made: Any = profile.make_step_engine(Settings(slots=3))
    assert (type(made).__name__, made.settings.slots) == ("Computing", 3)
    assert type(profile.make_step_engine(Settings(steps_per_s=5.0))).__name__ == "PacedEngine"


def test_a_broken_engine_ends_its_process_even_if_a_thread_hangs() -> None:
    program = (
        "import threading, time\nfrom serving.engines import profiles\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "profiles.named('{}').abandon('a step does not end')\nprint('goes on', flush=True)\n"
        "import os; os._exit(3)"
    )
    started = {
        name: subprocess.Popen(
            [sys.executable, "-c", program.format(name)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name in NAMES
    }
    said = {name: process.communicate(timeout=120) for name, process in started.items()}
    for name in NAMES:
        assert (started[name].returncode, said[name][0]) == (profiles.ABANDONED, "")
        assert "a step does not end" in said[name][1]

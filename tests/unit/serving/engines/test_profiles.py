"""The profiles say what the manifests give, and can be read where no engine can run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.engines import profiles
from serving.engines.profiles import Profile, named
from serving.settings import Settings

ROOT = Path(__file__).parents[4]
NAMES = ["cpu", "neuron"]


def workers(manifest: str) -> Any:
    """The group of workers in a manifest."""
    text = re.sub(r"\$\{\w+\}", "1", (ROOT / "manifests" / manifest).read_text())
    (group,) = yaml.safe_load(text)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    return group


def environment(name: str) -> dict[str, str]:
    """What an engine's manifest tells its workers."""
    (container,) = workers(f"engine-{name}.yaml")["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_names_the_profile_and_gives_its_limits(name: str) -> None:
    given, profile = environment(name), named(name)
    assert given["LEEWARD_ENGINE"] == profile.name == name
    assert (int(given["LEEWARD_SLOTS"]), int(given["LEEWARD_POSITIONS"])) == (profile.slots, profile.positions)


def test_the_workers_have_what_an_engine_with_devices_asks_for() -> None:
    group, neuron = workers("rayservice.yaml"), named("neuron")
    assert json.loads(group["rayStartParams"]["resources"].strip("'").replace('\\"', '"').strip('"')) == neuron.ray_resources
    (container,) = group["template"]["spec"]["containers"]
    assert neuron.kubernetes_resources.items() <= container["resources"]["limits"].items()


def test_the_defaults_of_the_settings_are_the_cpus() -> None:
    settings = Settings()
    assert (settings.engine, settings.slots, settings.positions) == ("cpu", named("cpu").slots, named("cpu").positions)


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'gpu'; there are cpu, neuron"):
        named("gpu")


def test_profiles_are_read_with_nothing_but_the_standard_library() -> None:
    program = "import sys; sys.path.insert(0, '.'); from serving.engines import profiles; print(profiles.named('neuron').packages)"
    done = subprocess.run([sys.executable, "-S", "-I", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "transformers-neuronx==0.13.1216" in done.stdout


class Computing:
    """A step engine that was made with these settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings


def test_an_engine_is_made_by_its_factory_and_paced_when_asked_to() -> None:
    profile = Profile("test", f"{__name__}:Computing", packages=(), slots=1, positions=2)
    made: Any = profile.make(Settings(slots=3))
    assert (type(made).__name__, made.settings.slots) == ("Computing", 3)
    assert type(profile.make(Settings(steps_per_s=5.0))).__name__ == "PacedEngine"


def test_giving_up_an_engine_that_holds_devices_ends_its_process_whatever_hangs_in_it() -> None:
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
    assert (started["neuron"].returncode, said["neuron"][0]) == (profiles.ABANDONED, "")
    assert "a step does not end" in said["neuron"][1]
    assert (started["cpu"].returncode, said["cpu"][0]) == (3, "goes on\n")

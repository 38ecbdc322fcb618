"""The engines by name: which code each one is, and what its process needs. Standard library only; imports no engine.

Image, limits and resources of an engine are in manifests/engine-NAME.yaml and serving/images.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from serving.settings import Settings

if TYPE_CHECKING:
    from serving.engines.artifacts import Store
    from serving.engines.callbacks import EngineCallbacks
    from serving.engines.contract import StepEngine, TextEngine

ABANDONED = 70
"""Exit code of a process that ended because its engine was broken."""


@dataclass(frozen=True)
class Profile:
    """One engine. A factory is written `module:function`, and imported when a replica starts, by the process that computes."""

    name: str
    """The value of LEEWARD_ENGINE, and NAME in manifests/engine-NAME.yaml."""
    step_engine: str = ""
    """Factory of Settings → StepEngine. The scheduler of serving.engines.batching makes a text engine of it."""
    text_engine: str = ""
    """Factory of (Settings, EngineCallbacks | None) → TextEngine, for an engine that batches by itself; used instead of `step_engine`."""
    compiler: str = ""
    """Function of (Settings, Store) → key of what the engine compiles, and whether it was compiled now; empty: it compiles nothing."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that are set before the factory is imported, unless the process has them."""

    def make_step_engine(self, settings: Settings) -> StepEngine:
        """Return the step engine, at the pace that the settings ask for. Takes as long as loading the model does.

        Raises:
            Exception: whatever the engine raises when it cannot start.
        """
        from serving.engines.paced import PacedEngine

        engine: StepEngine = self._call(self.step_engine, settings)
        return PacedEngine(engine, settings.steps_per_s) if settings.steps_per_s else engine

    def make_text_engine(self, settings: Settings, callbacks: EngineCallbacks | None = None) -> TextEngine:
        """Return the text engine, not started yet.

        Raises:
            BadCheckpoint: the model's folder does not say how an answer ends.
        """
        if self.text_engine:
            engine: TextEngine = self._call(self.text_engine, settings, callbacks)
            return engine
        from serving.engines.batching import BatchingEngine
        from serving.engines.checkpoint import ends

        end_tokens = ends(settings.model)
        return BatchingEngine(lambda: self.make_step_engine(settings), end_tokens, settings.max_queue, settings.stuck_after_s, callbacks)

    def compile_ahead(self, settings: Settings, store: Store) -> tuple[str, bool]:
        """Put what the engine compiles into the store, unless it is there; return its key, and whether this call put it there.

        Raises:
            ValueError: the engine compiles nothing.
            Exception: whatever the engine raises when it cannot compile.
        """
        if not self.compiler:
            raise ValueError(f"the engine {self.name} compiles nothing")
        done: tuple[str, bool] = self._call(self.compiler, settings, store)
        return done

    def _call(self, factory: str, *arguments: object) -> Any:
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)
        module, function = factory.split(":")
        return getattr(import_module(module), function)(*arguments)

    def abandon(self, why: object) -> NoReturn:
        """Give up a broken engine, and end its process at once. Serve replaces a replica that says it is ill after three checks, 30 s,
        and sends it requests meanwhile; one whose process has ended it replaces at the next check, and another engine answers. An orderly
        end would also wait for a thread that is stuck, and the next replica would find the devices taken."""
        print(f"leeward: the {self.name} engine is given up, and its process with it: {why}", file=sys.stderr, flush=True)
        os._exit(ABANDONED)


PROFILES = (
    Profile(
        "cpu",
        "serving.engines.cpu.engine:build",
        compiler="serving.engines.cpu.rotary:compile_ahead",
        # How long threads spin while they wait for each other. The default is so long that, where other processes want the cores, the
        # threads take each other's time to compute (on two busy cores a step took seven times as long); not spinning at all costs as
        # much as the step itself (82 ms instead of 47).
        environment={"GOMP_SPINCOUNT": "20000"},
    ),
    Profile(
        "neuron",
        "serving.engines.neuron.engine:build",
        compiler="serving.engines.neuron.engine:compile_ahead",
    ),
)


def named(name: str) -> Profile:
    """Return the profile of that name.

    Raises:
        ValueError: there is none; the message lists the names.
    """
    for profile in PROFILES:
        if profile.name == name:
            return profile
    raise ValueError(f"there is no engine {name!r}; there are {', '.join(profile.name for profile in PROFILES)}")

"""Builds images ahead of the first use: `python -m scripts.image [--bench]`. Needs the locked environment.

The deploy stage would build those of the service itself; done here, it shows its own progress and its time is not the
pipeline's. `--bench` builds the one in which tests and benchmarks compute as well.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from blocks.errors import PipelineError
from blocks.register import image_source
from blocks.target import Images
from scripts.cloud import CloudError, built
from tasks.images.builder import Builder, Recipe
from tasks.images.publish import recipes


def base() -> str:
    """What every image on this machine begins from.

    Raises:
        CloudError: it is not built.
    """
    return image_source(str(built("base_image")))


def build(wanted: Iterable[Recipe]) -> list[str]:
    """Every image is in the builder's store; returns their names there, by which the deploy stage looks for its own.

    Raises:
        PipelineError: one could not be built.
    """
    names, builder = [], Builder.find()
    for recipe in wanted:
        names.append(recipe.local)
        if builder.has(names[-1]):
            print(f"{recipe.kind} image is built", flush=True)
        else:
            builder.build(recipe, names[-1], lambda n, of, what: print(f"step {n} of {of}: {what}", flush=True))
    return names


def main(given: Sequence[str] | None = None) -> int:
    """Exit code 1 with the reason when an image could not be built."""
    parser = argparse.ArgumentParser(prog="python -m scripts.image", description="Build the images that this machine runs.")
    parser.add_argument("--bench", action="store_true", help="also the image of tests and benchmarks")
    options = parser.parse_args(given)
    try:
        wanted = recipes("cpu", Images(base=base()))
        build([*wanted.values(), *([Recipe("bench", base())] if options.bench else [])])
    except (PipelineError, CloudError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Builds images before their first use: `python -m scripts.installed.image [--bench]`.

The deploy stage would build the service's images itself. Built here, they show their own progress and do not count in the
pipeline's time. `--bench` also builds the image of the tests and benchmarks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from blocks.errors import PipelineError
from blocks.register import image_source
from blocks.target import Images
from localcloud.build.artifacts import artifacts
from localcloud.build.command import BuildError
from tasks.images.builder import Builder, Recipe
from tasks.images.publish import recipes


def base_image() -> str:
    """Return the source of the base image of every image on this machine.

    Raises:
        BuildError: the base image is not built.
    """
    return image_source(str(artifacts().base_image))


def build_images(wanted: Iterable[Recipe]) -> list[str]:
    """Build every image that is not in the builder's store; return their names there, under which the deploy stage finds its own.

    Raises:
        PipelineError: an image could not be built.
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
    """Run the command; print the reason and return 1 when an image could not be built."""
    parser = argparse.ArgumentParser(prog="python -m scripts.installed.image", description="Build the images that this machine runs.")
    parser.add_argument("--bench", action="store_true", help="also the image of tests and benchmarks")
    options = parser.parse_args(given)
    try:
        wanted = recipes("cpu", Images(base=base_image()))
        build_images([*wanted.values(), *([Recipe("bench", base_image())] if options.bench else [])])
    except (PipelineError, BuildError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

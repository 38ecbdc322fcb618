"""Builds the images of the service ahead of the first deploy: `python -m scripts.image`. Needs the locked environment.

The deploy stage would build them itself; done here, it shows its own progress and its time is not the pipeline's.
"""

from __future__ import annotations

import sys

from blocks.errors import PipelineError
from blocks.register import image_source
from scripts.cloud import CloudError, built
from tasks._builder import Builder, content_key
from tasks.images import KINDS, local_name


def build_all() -> None:
    """Every image is in the builder's store, under the name by which the deploy stage looks for it."""
    base = image_source(str(built("base_image")))
    key, builder = content_key(base), Builder.found()
    for kind in KINDS:
        name = local_name(kind, key)
        if builder.has(name):
            print(f"{kind} image is built", flush=True)
        else:
            builder.build(kind, base, name, lambda n, of, what: print(f"step {n} of {of}: {what}", flush=True))


def main() -> int:
    """Exit code 1 with the reason when an image could not be built."""
    try:
        build_all()
    except (PipelineError, CloudError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Runs a command inside the bench image on this machine: `python -m scripts.installed.run_in_image -- python3 -m pytest tests/engine`.

For code that needs torch, which no index has without a gigabyte of CUDA. In the container the project is the working directory,
read-only, and the network is loopback only; the exit code is the command's. Needs root and buildah, as the embedded cloud does.

The container is removed in any case: a process in a session of its own creates it, waits until a pipe closes that only this
process holds open, and then removes it, whether this process ended, was interrupted or was killed. The command in the container
ends with this process, because it runs in a pid namespace bound to it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from blocks.errors import PipelineError
from localcloud.build.command import BuildError
from scripts.installed import image
from scripts.support.paths import ROOT
from scripts.support.processes import contained
from tasks.images.builder import Recipe

SOURCE = "/src"
"""Path of the project in the container."""
ENVIRONMENT = {
    "PYTHONPATH": SOURCE,
    "PYTHONDONTWRITEBYTECODE": "1",
    # By default pytest and Hypothesis write to the project's folder, which is read-only.
    "PYTEST_ADDOPTS": "-p no:cacheprovider",
    "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis",
}
END_S = 30.0
"""Seconds that an interrupted command has to print how far it got."""
_KEEPER = """
trap '' PIPE  # the reader of the next line may have ended
buildah from --quiet --pull-never --name "$1" "$2" </dev/null >/dev/null || exit
echo made
cat >/dev/null
exec buildah rm "$1" >/dev/null 2>&1
"""
_LOOPBACK_ONLY = ["unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


@contextmanager
def container(name: str) -> Iterator[str]:
    """Create a container of the image `name` and yield its own name; it is removed however this process ends.

    Raises:
        subprocess.CalledProcessError: there is no such image.
    """
    created = f"leeward-bench-{os.getpid()}"
    argv = ["sh", "-c", _KEEPER, "sh", created, name]
    keeper = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert keeper.stdin
    assert keeper.stdout
    try:
        with keeper.stdout as made:
            if not made.readline():
                raise subprocess.CalledProcessError(keeper.wait(), ["buildah", "from", name])
        yield created
    finally:
        keeper.stdin.close()
        keeper.wait()


def command_in(name: str, argv: Sequence[str]) -> list[str]:
    """Return the command line that runs `argv` in the container `name`."""
    environment = [f"--env={key}={value}" for key, value in ENVIRONMENT.items()]
    folder = [f"--volume={ROOT}:{SOURCE}:ro", f"--workingdir={SOURCE}"]
    buildah = ["buildah", "run", "--isolation=chroot", "--network=host", *folder, *environment, name, "--", *argv]
    return contained([*_LOOPBACK_ONLY, *buildah])


def run_in_image(argv: Sequence[str]) -> int:
    """Run the command in the bench image, which is built if it is missing; return the command's exit code.

    Raises:
        PipelineError, BuildError: the image is missing and could not be built.
    """
    (name,) = image.build_images([Recipe("bench", image.base_image())])
    with container(name) as created:
        popen = subprocess.Popen(command_in(created, argv), stdin=subprocess.DEVNULL)
        try:
            return popen.wait()
        except KeyboardInterrupt:
            return popen.wait(END_S)
        finally:
            popen.kill()
            popen.wait()


def main(given: Sequence[str] | None = None) -> int:
    """Return the command's exit code; print the reason and return 1 when it could not be run."""
    parser = argparse.ArgumentParser(prog="python -m scripts.installed.run_in_image", description="Run a command inside the bench image.")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="after --: the command and its arguments")
    argv = parser.parse_args(given).command
    argv = argv[1:] if argv[:1] == ["--"] else argv
    if not argv:
        parser.error("no command")
    try:
        return run_in_image(argv)
    except (PipelineError, BuildError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Runs a command inside the bench image on this machine: `python -m scripts.installed.run_in_image -- python3 -m pytest tests/engine`.

For what needs torch, which no index has without a gigabyte of CUDA. Inside, the project is the working directory, read-only,
and the network is loopback alone; the exit code is the command's. Needs root and buildah, as the embedded cloud does.

The container goes in any case: a process of its own session makes it, waits for the end of a pipe whose other end only we hold, and
removes it then, whether we ended, were interrupted or were killed. What runs inside ends with us, by its pid namespace.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from blocks.errors import PipelineError
from scripts.cloud import CloudError
from scripts.installed import image
from scripts.support.paths import ROOT
from scripts.support.processes import contained
from tasks.images.builder import Recipe

SOURCE = "/src"
"""Where the project is inside."""
ENVIRONMENT = {
    "PYTHONPATH": SOURCE,
    "PYTHONDONTWRITEBYTECODE": "1",
    # The project cannot be written to, and its folder is where these would.
    "PYTEST_ADDOPTS": "-p no:cacheprovider",
    "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis",
}
END_S = 30.0
"""For which an interrupted command may tell how far it got."""
_KEEPER = """
trap '' PIPE  # nobody may be left to read that it is there
buildah from --quiet --pull-never --name "$1" "$2" </dev/null >/dev/null || exit
echo made
cat >/dev/null
exec buildah rm "$1" >/dev/null 2>&1
"""
_LOOPBACK_ALONE = ["unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


@contextmanager
def container(name: str) -> Iterator[str]:
    """A container of that image while inside; gone afterwards, however this process ends.

    Raises:
        subprocess.CalledProcessError: there is none.
    """
    ours = f"leeward-bench-{os.getpid()}"
    argv = ["sh", "-c", _KEEPER, "sh", ours, name]
    keeper = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert keeper.stdin
    assert keeper.stdout
    try:
        with keeper.stdout as made:
            if not made.readline():
                raise subprocess.CalledProcessError(keeper.wait(), ["buildah", "from", name])
        yield ours
    finally:
        keeper.stdin.close()
        keeper.wait()


def command(ours: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in the container."""
    environment = [f"--env={key}={value}" for key, value in ENVIRONMENT.items()]
    place = [f"--volume={ROOT}:{SOURCE}:ro", f"--workingdir={SOURCE}"]
    inside = ["buildah", "run", "--isolation=chroot", "--network=host", *place, *environment, ours, "--", *argv]
    return contained([*_LOOPBACK_ALONE, *inside])


def run(argv: Sequence[str]) -> int:
    """The command has ended in the bench image, which was built if it was not there; returns its exit code.

    Raises:
        PipelineError, CloudError: there is no such image, and it could not be built.
    """
    (name,) = image.build([Recipe("bench", image.base())])
    with container(name) as ours:
        popen = subprocess.Popen(command(ours, argv), stdin=subprocess.DEVNULL)
        try:
            return popen.wait()
        except KeyboardInterrupt:
            return popen.wait(END_S)
        finally:
            popen.kill()
            popen.wait()


def main(given: Sequence[str] | None = None) -> int:
    """The command's exit code; 1 with the reason when it could not be run."""
    parser = argparse.ArgumentParser(prog="python -m scripts.installed.run_in_image", description="Run a command inside the bench image.")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="after --: the command and its arguments")
    argv = parser.parse_args(given).command
    argv = argv[1:] if argv[:1] == ["--"] else argv
    if not argv:
        parser.error("no command")
    try:
        return run(argv)
    except (PipelineError, CloudError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())

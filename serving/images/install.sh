#!/bin/sh
# Install a locked list of Python packages for the image's Python, in a step of its build.
#   install.sh LIST [DEBIAN PACKAGE …]        LIST: requirements-LIST.txt beside this file
# Debian's Python is installed where the base has none. Reads the two optional secrets of the build (see Containerfile); nothing
# of them stays. REINSTALL: a package to install anew although it is there.
set -eu
build=$(dirname "$0") list=$1
shift
# What is newer than this is what slim.sh may touch: to change a file of a layer below is to have it twice.
touch "$build/began"
if [ -f /run/secrets/build-env ]; then . /run/secrets/build-env; fi
if [ -f /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca; fi
command -v python3 >/dev/null || set -- "$@" python3 python3-venv python3-numpy
if [ $# -gt 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # binutils: slim.sh strips with it, and takes it out.
    apt-get install -y -qq --no-install-recommends "$@" binutils >/dev/null
fi
command -v python >/dev/null || ln -s python3 /usr/bin/python
python=$(python3 -c 'import sys; print("py%d%d" % sys.version_info[:2])')
requirements=$build/requirements-$list-$python.txt
[ -f "$requirements" ] || requirements=$build/requirements-$list.txt
python3 -m venv /tmp/uv
/tmp/uv/bin/pip install --quiet uv==0.9.9
# --no-deps: the list is complete but for what the base provides and what is left out on purpose (overrides.txt).
/tmp/uv/bin/uv pip install --quiet --system --break-system-packages --no-cache --no-deps --require-hashes \
    ${REINSTALL:+--reinstall-package "$REINSTALL"} -r "$requirements"
rm -rf /tmp/uv

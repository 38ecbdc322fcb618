#!/bin/sh
# Install a locked list of Python packages for the image's Python, in a step of its build.
#   install.sh LIST [DEBIAN PACKAGE …]        LIST: requirements-LIST.txt beside this file
# Debian's Python is installed if the base has none. Reads the two optional secrets of the build (see Containerfile), which are not
# stored. REINSTALL: a package to install again although it is there.
set -eu
build=$(dirname "$0") list=$1
shift
# slim.sh changes only files that are newer than this one: a changed file of a lower layer would be in the image twice.
touch "$build/began"
if [ -f /run/secrets/build-env ]; then . /run/secrets/build-env; fi
if [ -f /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca; fi
command -v python3 >/dev/null || set -- "$@" python3 python3-venv python3-numpy
if [ $# -gt 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # binutils: slim.sh strips with it, and then removes it.
    apt-get install -y -qq --no-install-recommends "$@" binutils >/dev/null
fi
command -v python >/dev/null || ln -s python3 /usr/bin/python
python=$(python3 -c 'import sys; print("py%d%d" % sys.version_info[:2])')
requirements=$build/requirements-$list-$python.txt
[ -f "$requirements" ] || requirements=$build/requirements-$list.txt
python3 -m venv /tmp/uv
/tmp/uv/bin/pip install --quiet uv==0.9.9
# --no-deps: the list is complete, except for packages of the base and those that are left out on purpose (overrides.txt).
/tmp/uv/bin/uv pip install --quiet --system --break-system-packages --no-cache --no-deps --require-hashes \
    ${REINSTALL:+--reinstall-package "$REINSTALL"} -r "$requirements"
rm -rf /tmp/uv

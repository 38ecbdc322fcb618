#!/bin/sh
# Remove files that serving never uses from a layer: half of its size, which every node would pull.
# Runs in the layer that installed them (a later layer could hide files, but not make the image smaller), right after install.sh, and
# changes only what that installed. dpkg is not informed: no package is installed afterwards. The rest of the build computes with what is
# left, and the tests on the cloud serve with it.
set -eu
began=$(dirname "$0")/began
pypi=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
debian=/usr/lib/python3/dist-packages
lib=/usr/lib/x86_64-linux-gnu

# Symbols of the compiled parts: 60 MB.
find "$pypi" -type f -cnewer "$began" \( -name '*.so' -o -name gcs_server -o -name raylet \) -exec strip --strip-unneeded {} +
apt-get purge -y -qq --autoremove binutils >/dev/null
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /tmp/* /root/.cache

# Debian's torch: its tests, and the AMD GPU stack that MPI's transport would load for such a card.
rm -rf /usr/lib/libtorch-test $debian/torch/include
if [ -d $debian/torch/bin ]; then find $debian/torch/bin -type f ! -name torch_shm_manager -delete; fi
rm -f $lib/libLLVM* $lib/libamd_comgr* $lib/libamdhip64* $lib/libhiprtc* $lib/libhsa-runtime64* $lib/ucx/*rocm*
rm -rf $debian/networkx $debian/hypothesis $debian/fsspec

# Ray: Java, and reinforcement learning.
rm -rf "$pypi/ray/jars" "$pypi/ray/rllib"
# Architectures other than Mistral; the tokenizers of other Mistral models; country names in all languages.
if [ -d "$pypi/transformers" ]; then
    find "$pypi/transformers/models" -mindepth 1 -maxdepth 1 -type d ! -name auto ! -name mistral -exec rm -rf {} +
    find "$pypi/mistral_common/data" -type f ! -name '*240323.model.v3' -delete
    rm -rf "$pypi/pycountry/locales"
fi

# Tests, except one of numpy's files, which numpy.testing imports.
kept=$debian/numpy/_core/tests
for folder in "$pypi" $debian; do
    if [ -d "$folder" ]; then find "$folder" -type d -name tests ! -path "$kept" -prune -exec rm -rf {} +; fi
done
if [ -d $kept ]; then find $kept -mindepth 1 ! -name __init__.py ! -name _natype.py -delete; fi
find "$pypi" -name '*.map' -delete
find /usr/share/doc -type f ! -name copyright -delete
rm -rf /usr/share/man /usr/share/info /usr/share/locale /usr/share/X11
# No program here needs to change its user.
find / -xdev -type f -perm /6000 -exec chmod a-s {} +
# Compiled once here; otherwise every process of every pod would do it at every start, and could not store the result.
find "$pypi" -name '*.py' -cnewer "$began" | python3 -W ignore -m compileall -q -j 0 --invalidation-mode unchecked-hash -i -

#!/bin/sh
# Take out of the image what serving never touches: half of its size, which every node would pull.
# Runs in the layer that installed it (a later layer could hide, not shrink). Files go without dpkg knowing: nothing is
# installed afterwards. The build then computes, and the tests on the cloud serve, with what is left.
set -eu
debian=/usr/lib/python3/dist-packages
pypi=/usr/local/lib/python3.13/dist-packages
lib=/usr/lib/x86_64-linux-gnu

# Symbols of the compiled parts: 60 MB.
find $pypi -type f \( -name '*.so' -o -name gcs_server -o -name raylet \) -exec strip --strip-unneeded {} +
apt-get purge -y -qq --autoremove binutils >/dev/null
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /tmp/* /root/.cache

# Debian's torch: its own tests, and the AMD GPU stack that MPI's transport would load if it found such a card.
rm -rf /usr/lib/libtorch-test $debian/torch/include
find $debian/torch/bin -type f ! -name torch_shm_manager -delete
rm -f $lib/libLLVM* $lib/libamd_comgr* $lib/libamdhip64* $lib/libhiprtc* $lib/libhsa-runtime64* $lib/ucx/*rocm*
rm -rf $debian/networkx $debian/hypothesis $debian/fsspec

# Ray: Java, and reinforcement learning.
rm -rf $pypi/ray/jars $pypi/ray/rllib
# Architectures other than Mistral; the tokenizers of other Mistral models; country names in all languages.
find $pypi/transformers/models -mindepth 1 -maxdepth 1 -type d ! -name auto ! -name mistral -exec rm -rf {} +
find $pypi/mistral_common/data -type f ! -name '*240323.model.v3' -delete
rm -rf $pypi/pycountry/locales

find $pypi $debian -type d \( -name tests -o -name __pycache__ -path "$pypi/*" \) -prune -exec rm -rf {} +
find $pypi -name '*.map' -delete
find /usr/share/doc -type f ! -name copyright -delete
rm -rf /usr/share/man /usr/share/info /usr/share/locale /usr/share/X11
# Nothing here becomes another user.
find / -xdev -type f -perm /6000 -exec chmod a-s {} +
# Compiled once here, or every process of every pod would do it again at every start, and could not keep it.
python3 -W ignore -m compileall -q -j 0 --invalidation-mode unchecked-hash $pypi

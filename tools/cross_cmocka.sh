#!/bin/sh
# cross_cmocka.sh FOLDER CC AR - builds cmocka for another system into FOLDER, from the
# source package of this machine's distribution, without touching its package state.
set -eu
cc=$2
ar=$3
mkdir -p "$1/apt/lists/partial" "$1/apt/parts" "$1/source" "$1/include" "$1/lib"
cd "$1"
root=$PWD
: >apt/status
# The machine's own sources, asked for source packages.
for list in /etc/apt/sources.list.d/*.sources; do
    [ ! -f "$list" ] || sed 's/^Types:.*/Types: deb-src/' "$list" >"apt/parts/${list##*/}"
done
[ ! -f /etc/apt/sources.list ] ||
    sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >apt/parts/main.list
apt() {
    apt-get -qq \
        -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$root/apt/parts" \
        -o Dir::State="$root/apt" -o Dir::State::Lists="$root/apt/lists" \
        -o Dir::State::status="$root/apt/status" -o Dir::Cache="$root/apt" \
        -o APT::Sandbox::User="$(id -un)" "$@"
}
apt update
apt source --download-only cmocka
tar -xJf cmocka_*.orig.tar.xz -C source --strip-components=1

"$cc" -O2 -g -DHAVE_INTTYPES_H -DHAVE_MALLOC_H -DHAVE_SIGNAL_H -DHAVE_STRUCT_TIMESPEC \
    -DHAVE_GCC_THREAD_LOCAL_STORAGE -D__USE_MINGW_ANSI_STDIO \
    -Isource/include -c source/src/cmocka.c -o cmocka.o
"$ar" rcs lib/libcmocka.a cmocka.o
cp source/include/cmocka.h include/

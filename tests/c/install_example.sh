#!/bin/sh
# install_example.sh SOURCE BUILD CC... - installs the library into an empty
# folder and builds the examples against that copy the way a user would:
# through pkg-config, once shared and once static.
# shellcheck disable=SC2046,SC2086 # flags are words
set -eu
source=$1
build=$2
shift 2

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
DESTDIR=$stage "$MESON" install -C "$build" --no-rebuild --quiet

pc=$(find "$stage" -name ruvector.pc)
lib=$(dirname "$(dirname "$pc")")
export PKG_CONFIG_PATH="${pc%/*}" PKG_CONFIG_SYSROOT_DIR="$stage"
cflags="-std=c11 -Wall -Wextra -Werror $(pkg-config --cflags ruvector)"

static="$lib/libruvector.a
    $(pkg-config --static --libs-only-other --libs-only-l ruvector | sed 's/-lruvector//')"
for example in search lake; do
    echo "== $example, shared"
    "$@" $cflags "$source/examples/$example.c" $(pkg-config --libs ruvector) -o "$stage/shared"
    LD_LIBRARY_PATH=$lib "$stage/shared" "$stage/$example-shared"

    echo "== $example, static"
    "$@" $cflags "$source/examples/$example.c" $static -o "$stage/static"
    "$stage/static" "$stage/$example-static"

    diff -r "$stage/$example-shared" "$stage/$example-static"
done

if command -v c++ >/dev/null; then
    echo "== headers as C++"
    echo '#include <ruvector/lake.h>' |
        c++ -x c++ -Wall -Wextra -Werror -fsyntax-only $(pkg-config --cflags ruvector) -
fi

#!/bin/sh
# install_example.sh SOURCE BUILD CC... - installs the library into an empty
# folder and builds examples/search.c against that copy the way a user would:
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

echo "== shared"
"$@" $cflags "$source/examples/search.c" $(pkg-config --libs ruvector) -o "$stage/shared"
LD_LIBRARY_PATH=$lib "$stage/shared" "$stage/shared.rbpx"

echo "== static"
"$@" $cflags "$source/examples/search.c" "$lib/libruvector.a" \
    $(pkg-config --static --libs-only-other --libs-only-l ruvector | sed 's/-lruvector//') \
    -o "$stage/static"
"$stage/static" "$stage/static.rbpx"

cmp "$stage/shared.rbpx" "$stage/static.rbpx"

if command -v c++ >/dev/null; then
    echo "== headers as C++"
    echo '#include <ruvector/index.h>' |
        c++ -x c++ -Wall -Wextra -Werror -fsyntax-only $(pkg-config --cflags ruvector) -
fi

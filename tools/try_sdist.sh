#!/bin/sh
# try_sdist.sh SDIST FOLDER - installs the source package into a fresh environment that
# holds the build's Python packages, with no network, no program but a C compiler and
# its tools (and rm, which ninja calls), and searches once.
set -eu
once=$(realpath "$(dirname "$0")/search_once.py")
sdist=$(realpath "$1")
rm -rf "$2"
mkdir -p "$2/programs"
folder=$(cd "$2" && pwd)
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'meson-python>=0.18' 'meson>=1.3' ninja 'numpy>=2.0' wheel
for program in cc as ld ar strip rm; do
    ln -s "$(command -v $program)" "$folder/programs/$program"
done
offline=
unshare --user --net true 2>/dev/null && offline='unshare --user --map-root-user --net'
[ -n "$offline" ] || echo 'unshare is not allowed here: only pip is kept from the network'
cd "$folder"
$offline env -i PATH="$folder/venv/bin:$folder/programs" HOME="$folder" \
    venv/bin/pip install --no-build-isolation --no-index --no-cache-dir "$sdist"
env -i venv/bin/python "$once"

#!/bin/sh
# try_pythons.sh WHEEL FOLDER - installs the wheel into a fresh environment of
# every Python from 3.9 on that is on this machine, and searches once in each.
set -u
wheel=$1
folder=$2
failed=0
for minor in 9 10 11 12 13 14 15; do
    python=
    for candidate in "$HOME/.pyenv/versions/3.$minor."*/bin/python "$(command -v python3.$minor)"; do
        if [ -x "$candidate" ] && "$candidate" -c 'import venv' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || continue
    rm -rf "$folder/3.$minor"
    if "$python" -m venv "$folder/3.$minor" &&
        "$folder/3.$minor/bin/python" -m pip install --quiet "$wheel" &&
        "$folder/3.$minor/bin/python" "$(dirname "$0")/search_once.py"; then :; else
        echo "Python 3.$minor: FAILED"
        failed=1
    fi
done
exit $failed

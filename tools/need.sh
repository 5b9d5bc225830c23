#!/bin/sh
# need.sh CHECK PACKAGE... - makes sure the system has what the command CHECK
# looks for: installs the Debian packages named if this user may, and otherwise
# says what to install.
set -u
check=$1
shift
sh -c "$check" >/dev/null 2>&1 && exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=
else
    as_root="sudo -n"
fi
if command -v apt-get >/dev/null && $as_root true 2>/dev/null; then
    echo "== Installing system packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    $as_root apt-get install -qq -y --no-install-recommends "$@" >/dev/null 2>&1 ||
        { $as_root apt-get update -qq &&
            $as_root apt-get install -qq -y --no-install-recommends "$@" >/dev/null; }
    sh -c "$check" >/dev/null 2>&1 && exit 0
fi
echo "Missing on this system. Debian and Ubuntu call it: $*" >&2
echo "Install that, or your system's equivalent, and run make again." >&2
exit 1

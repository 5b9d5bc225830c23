#!/bin/sh
# arm64_cmocka.sh FOLDER - unpacks cmocka for 64-bit ARM into FOLDER, from
# Debian's packages, without touching the system's own package state.
set -eu
mkdir -p "$1/apt/lists/partial" "$1/apt/cache/archives/partial"
root=$(cd "$1" && pwd)
: >"$root/apt/status"
apt() {
    apt-get -qq \
        -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
        -o Dir::State="$root/apt" -o Dir::State::Lists="$root/apt/lists" \
        -o Dir::State::status="$root/apt/status" -o Dir::Cache="$root/apt/cache" \
        -o APT::Sandbox::User="$(id -un)" "$@"
}
apt update
cd "$root/apt"
apt download libcmocka-dev libcmocka0
for package in *.deb; do dpkg-deb -x "$package" "$root"; done

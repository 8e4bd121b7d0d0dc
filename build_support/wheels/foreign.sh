#!/bin/bash
# Runs a program with an aarch64 wheel on another processor, with QEMU. Used by tests/packaging/test_manylinux.py.
#
#   bash build_support/wheels/foreign.sh FOLDER PROGRAM
#
# FOLDER has the wheels. QEMU and a CPython for arm64 are Debian's packages, which are unpacked to build/foreign and not
# installed. Where they cannot be had, it says so in one line, and ends with status 0.
#
# QEMU does not emulate all that the kernel does, so this is a proof that the wheel loads and its code runs, no more.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$1 program=$2 work=$PWD/build/foreign

refuse() {
    echo "aarch64 wheels: not run, $*" >&2
    exit 0
}

[ "$(uname -m)" != aarch64 ] || refuse "as this machine runs them as its own"
command -v apt-get >/dev/null || refuse "as what runs them is got from Debian, with apt-get"

if [ ! -e "$work/done" ]; then
    rm -rf "$work"
    mkdir -p "$work"/{lists/partial,archives/partial,root,host}
    : >"$work/status"
    foreign=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State=$work" -o "Dir::State::lists=$work/lists"
        -o "Dir::State::status=$work/status" -o "Dir::Cache=$work" -o "Dir::Cache::archives=$work/archives"
        -o APT::Sandbox::User=root)
    {
        apt-get "${foreign[@]}" update -qq &&
            apt-get "${foreign[@]}" -y -qq --no-install-recommends --download-only install python3 &&
            (cd "$work/host" && apt-get -o APT::Sandbox::User=root download -qq qemu-user-static) &&
            for package in "$work"/archives/*.deb; do dpkg-deb -x "$package" "$work/root" || exit; done &&
            dpkg-deb -x "$work"/host/*.deb "$work/host"
    } >"$work/log" 2>&1 </dev/null || refuse "as Debian's packages could not be had: $(tail -n 1 "$work/log")"
    : >"$work/done"
fi

python=("$work/host/usr/bin/qemu-aarch64-static" -L "$work/root" "$work/root/usr/bin/python3")
tag=$("${python[@]}" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
wheel=$(echo "$folder"/goproc-*-"$tag"-manylinux_*_aarch64.whl)
[ -e "$wheel" ] || refuse "as there is none for Debian's CPython ($tag)"
rm -rf "$work/site"
"${python[@]}" -m zipfile -e "$wheel" "$work/site"
# Processes of spawn and forkserver are new interpreters, in QEMU as well.
GOPROC_PYTHON=$(printf '%q ' "${python[@]}")
export GOPROC_PYTHON PYTHONPATH="$work/site"
"${python[@]}" "$program"

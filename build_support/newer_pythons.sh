#!/bin/bash
# Makes a folder with Debian unstable: CPython 3.14 and 3.15, the newest glibc and gcc. Runs commands in it.
# Used by .ci/run and each_python.sh, for the versions that the machine itself does not have.
#
#   bash build_support/newer_pythons.sh make           make the folder, unless it is there; needs root, apt and 2 GB
#   bash build_support/newer_pythons.sh list           print the versions that the folder has and the machine lacks
#   bash build_support/newer_pythons.sh run COMMAND    run a command in it, in the current folder, with this machine's Go
#
# If the folder cannot be made, or no command can run in it, `make` prints one line, and exits with status 1.
# GOPROC_NEWER_PYTHONS names the folder (default ~/.cache/goproc-unstable). <folder>.failed.log has the errors.
#
# `run` uses chroot in a mount namespace of its own, so its mounts vanish when it ends.
set -euo pipefail
support=$(cd "$(dirname "$0")" && pwd)
root=${GOPROC_NEWER_PYTHONS:-$HOME/.cache/goproc-unstable}
versions="3.14 3.15"
tools=ca-certificates,gcc,g++,libc6-dev,make,git,binutils,procps

refuse() {
    echo "newer Pythons: not tested, $*" >&2
    exit 1
}

. "$support/debian.sh"

make_root() {
    local version package
    if ! command -v debootstrap >/dev/null; then
        quietly apt-get update -qq || return
        DEBIAN_FRONTEND=noninteractive quietly apt-get install -y -qq debootstrap || return
    fi
    # In a mount namespace of its own, so that no mount is left if debootstrap fails.
    quietly unshare --mount debootstrap --variant=minbase --include="$tools" unstable "$new" $(mirror) || return
    # Copy the machine's settings for reaching packages (proxies). A mirror may serve an expired index, which is
    # accepted; its signature is still checked.
    apt-config dump | grep -E '^Acquire::(http|https)::' >"$new/etc/apt/apt.conf.d/90machine" || true
    echo 'Acquire::Check-Valid-Until "false";' >>"$new/etc/apt/apt.conf.d/90machine"
    [ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$new/etc/pip.conf"
    quietly in_root "$new" / apt-get update -qq || return
    for version in $versions; do
        for package in "python$version" "python$version-dev" "python$version-venv" "libpython$version-testsuite"; do
            quietly in_root "$new" / env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -qq --no-install-recommends "$package" || echo "no $package" >>"$log"
        done
    done
    quietly in_root "$new" / apt-get clean
}

# in_root ROOT FOLDER COMMAND...: run COMMAND in ROOT. FOLDER, Go and Go's modules have the same paths as outside.
in_root() {
    export NEWER_ROOT=$1 NEWER_FOLDER=$2 NEWER_GOROOT='' NEWER_MODULES=''
    shift 2
    if command -v go >/dev/null; then
        NEWER_GOROOT=$(go env GOROOT)
        NEWER_MODULES=$(go env GOMODCACHE)
    fi
    # shellcheck disable=SC2016
    unshare --mount bash -c '
        bind() { # FOLDER...: to the same path
            local folder
            for folder in "$@"; do
                if [ -d "$folder" ] && [ "$folder" != / ]; then
                    mkdir -p "$NEWER_ROOT$folder"
                    mount --bind "$folder" "$NEWER_ROOT$folder"
                fi
            done
        }
        set -e
        mount --make-rprivate /
        for folder in proc dev sys; do mount --rbind /$folder "$NEWER_ROOT/$folder"; done
        [ -z "$NEWER_MODULES" ] || mkdir -p "$NEWER_MODULES"
        bind "$NEWER_FOLDER" "$NEWER_GOROOT" "$NEWER_MODULES" "${PIP_FIND_LINKS:-}" /etc/ssl/certs
        # In some distributions GOROOT contains links to other folders: bind these, too.
        for link in "$NEWER_GOROOT"/*; do if [ -L "$link" ]; then bind "$(readlink -f "$link")"; fi; done
        for file in /etc/resolv.conf /etc/hosts; do if [ -e $file ]; then cp $file "$NEWER_ROOT$file"; fi; done
        exec chroot "$NEWER_ROOT" env HOME=/root PATH="$NEWER_GOROOT/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" \
            GOTOOLCHAIN=local GOFLAGS="-buildvcs=false" ${NEWER_MODULES:+"GOMODCACHE=$NEWER_MODULES"} \
            sh -c '"'"'cd "$1" && shift && exec "$@"'"'"' sh "$NEWER_FOLDER" "$@"' bash "$@"
}

has() { [ -x "$root/usr/bin/python$1" ] && [ -d "$root/usr/include/python$1" ]; }

case ${1:-} in
make)
    [ "$(id -u)" = 0 ] || refuse "as making the folder for them needs root"
    unshare --mount true 2>/dev/null || refuse "as this machine does not allow mount namespaces"
    if ! has 3.15; then
        command -v apt-get >/dev/null || refuse "as they are got from Debian, with apt-get"
        make_whole
    fi
    for version in $versions; do has "$version" || echo "newer Pythons: Debian has no python$version today" >&2; done
    ;;
list)
    [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null || exit 0
    found=$(sh "$support/find_pythons.sh" | while IFS= read -r python; do
        "$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'
    done)
    for version in $versions; do
        case " $(echo $found) " in *" $version "*) continue ;; esac
        if has "$version"; then echo "$version"; fi
    done
    ;;
run)
    shift
    [ $# -gt 0 ] || set -- bash
    in_root "$root" "$PWD" "$@"
    ;;
*)
    sed -n 2,13p "$0"
    exit 2
    ;;
esac

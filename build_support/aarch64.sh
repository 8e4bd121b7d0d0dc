#!/bin/bash
# Runs tests of goproc on an emulated aarch64 machine; `make test-aarch64` calls this.
#
#   bash build_support/aarch64.sh make            make the folder with Debian for arm64, unless it is there
#   bash build_support/aarch64.sh test [ARG...]   boot it with the wheel of dist/, and run pytest with the ARGs; without
#                                                 them the quick tests, and those of the hand-overs
#   bash build_support/aarch64.sh run COMMAND     boot it, and run a command in it, in a copy of the project
#
# Debian's packages are unpacked (debootstrap), not installed: no program of arm64 runs outside the emulator. `make` needs
# root, apt, and 1 GB. QEMU emulates the whole machine, with Debian's kernel for arm64. QEMU's emulation of single
# programs (qemu-user) would be simpler, but it refuses clone(CLONE_PARENT), which forks siblings, and prctl(2) and
# signals differ.
#
# The machine has no disk: its files are the kernel's first file system, in memory. It has no network but the loopback.
#
# What it proves: goproc's machine code for arm64, made by the compilers of a release, and a kernel for arm64 behave as the
# tests want. What it does not: QEMU runs on this machine's processor, whose order of memory is the stronger one, if it is
# an x86-64. So an order that only a real arm64 would show does not occur. tests/models is for that.
#
# Variables:
#   PYTHON           an interpreter of this machine that has pip, by default python3
#   GOPROC_AARCH64   the folder, by default ~/.cache/goproc-aarch64; <folder>.failed.log has the errors
#   CPU              the processor, as QEMU calls it: neoverse-n1 (default) has the atomic instructions of arm64 v8.1,
#                    cortex-a72 has not, so the same library makes them of exclusive loads and stores
#   TESTS_TIME       how many minutes the tests may take, by default 300
#
# If the folder cannot be made, `make` prints one line, and exits with status 1.
set -euo pipefail
support=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$support")
root=${GOPROC_AARCH64:-$HOME/.cache/goproc-aarch64}
suite=bookworm python=python3.11
packages=python3,libpython3-stdlib,iproute2,procps,linux-image-arm64
# The test tools of pyproject.toml that have no program for this machine's processor in them.
tools="pytest pytest-timeout numpy cloudpickle"

refuse() {
    echo "test-aarch64: not run, $*" >&2
    exit 1
}

. "$support/debian.sh"

make_root() {
    local command lacking="" archive found
    for command in debootstrap qemu-system-aarch64:qemu-system-arm cpio; do
        command -v "${command%:*}" >/dev/null || lacking="$lacking ${command#*:}"
    done
    if [ -n "$lacking" ]; then
        quietly apt-get update -qq || return
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive quietly apt-get install -y -qq --no-install-recommends $lacking || return
    fi
    # --foreign: the packages are downloaded, and the essential ones unpacked. Their scripts would need the processor.
    quietly debootstrap --arch=arm64 --foreign --variant=minbase --include="$packages" $suite "$new/root" $(mirror) || return
    for archive in "$new"/root/var/cache/apt/archives/*.deb; do
        quietly dpkg-deb -x "$archive" "$new/unpacked" || return
    done
    # debootstrap may have made links to this machine's own.
    for found in proc sys dev; do if [ -L "$new/root/$found" ]; then rm "$new/root/$found"; fi; done
    # Not through the links of / to /usr, which dpkg-deb would replace by folders.
    for found in bin sbin lib; do
        if [ -d "$new/unpacked/$found" ]; then
            quietly cp -a "$new/unpacked/$found/." "$new/root/usr/$found/" || return
            rm -rf "${new:?}/unpacked/$found"
        fi
    done
    quietly cp -a "$new/unpacked/." "$new/root/" || return
    mv "$new"/root/boot/vmlinuz-* "$new/kernel" || return
    # What the scripts of the packages would have made.
    cp "$new/root/usr/share/base-passwd/passwd.master" "$new/root/etc/passwd"
    cp "$new/root/usr/share/base-passwd/group.master" "$new/root/etc/group"
    rm -rf "$new/unpacked" "${new:?}"/root/{boot,lib/modules,usr/lib/modules,debootstrap,var/cache/apt,usr/share/doc,usr/share/man,usr/share/locale}
    mkdir -p "$new"/root/{proc,sys,dev,tmp,root,run} "$new/root/usr/local/lib/$python/dist-packages"
    cat >"$new/root/init" <<'INIT'
#!/bin/sh
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts && mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs /tmp
for link in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -sfn "/proc/self/${link#*:}" "/dev/${link%:*}"; done
ip link set lo up
cd /project
sh /command
echo "emulated-status=$?"
echo o >/proc/sysrq-trigger
while :; do sleep 1; done
INIT
    chmod +x "$new/root/init"
}

# Prints the requirements of pyproject.toml for the tools, with their versions.
requirements() {
    local tool
    for tool in $tools; do
        sed -n '/^\[project.optional-dependencies\]/,$p' "$project/pyproject.toml" |
            grep -oE "\"$tool==[^\";]*" | head -n 1 | tr -d '"'
    done
}

# boot WHERE: boots the machine with the project and the wheel, runs the commands in WHERE/command, and ends with their
# status.
boot() {
    local where=$1 site=$1/layer/usr/local/lib/$python/dist-packages wheel status
    wheel=$(echo "$project"/dist/goproc-*-cp311-cp311-manylinux_*_aarch64.whl)
    [ -e "$wheel" ] || refuse "as dist/ has no wheel for aarch64 and CPython 3.11, or several: make wheels-of-python MACHINES=aarch64"
    mkdir -p "$site" "$where/layer/project"
    # shellcheck disable=SC2046
    "${PYTHON:-python3}" -m pip install --quiet --root-user-action=ignore --target "$site" --implementation cp --python-version 3.11 --only-binary=:all: \
        --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 $(requirements) "$wheel"
    git -C "$project" ls-files -z | tar -C "$project" --null -T - -cf - | tar -xf - -C "$where/layer/project"
    mv "$where/command" "$where/layer/command"
    for folder in "$root/root" "$where/layer"; do
        (cd "$folder" && find . -print0 | cpio --null --create --format=newc --quiet)
    done >"$where/files"
    timeout $((60 * ${TESTS_TIME:-300}))s qemu-system-aarch64 -M virt -cpu "${CPU:-neoverse-n1}" -smp 2 -m 4G \
        -accel tcg,thread=multi -nic none -nographic -no-reboot -kernel "$root/kernel" -initrd "$where/files" \
        -append "console=ttyAMA0 quiet panic=-1" </dev/null | stdbuf -oL tr -d '\r' | tee "$where/output" || true
    status=$(sed -n 's/^emulated-status=\([0-9]*\)$/\1/p' "$where/output" | tail -n 1)
    [ -n "$status" ] || { echo "test-aarch64: the emulated machine has not come to the end" >&2; exit 1; }
    return "$status"
}

# Prints the options of pytest that deselect what cannot run there: tests/aarch64.txt has the reasons.
deselected() {
    sed -n 's/^\(tests\/[^ ]*\).*/--deselect=\1/p' "$project/tests/aarch64.txt"
}

case ${1:-} in
make)
    if [ ! -e "$root/kernel" ]; then
        [ "$(id -u)" = 0 ] || refuse "as making the folder for it needs root"
        command -v apt-get >/dev/null || refuse "as Debian's packages are got with apt-get"
        make_whole
    fi
    ;;
test | run)
    [ -e "$root/kernel" ] || refuse "as there is no folder $root: bash $0 make"
    where=$(mktemp -d)
    trap 'rm -rf "$where"' EXIT
    what=$1
    shift
    if [ "$what" = run ]; then
        printf '%q ' "$@" >"$where/command"
    else
        # shellcheck disable=SC2207
        pytest=(env HAND_OVER_ROUNDS=1 python3 -m pytest -p no:cacheprovider --color=no -v $(deselected))
        if [ $# -gt 0 ]; then
            printf '%q ' "${pytest[@]}" "$@"
        else
            printf '%q ' "${pytest[@]}" tests/unit/test_hand_overs.py
            printf '; status=$?; '
            printf '%q ' "${pytest[@]}" -m 'not slow' --one-variant tests/unit tests/examples
            printf '&& exit $status'
        fi >"$where/command"
    fi
    boot "$where"
    ;;
*)
    sed -n '2,/^set /{/^set /!p}' "$0"
    exit 2
    ;;
esac

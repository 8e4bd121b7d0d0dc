#!/bin/bash
# Tests the wheels where users have them: in Debian 11 and 12, without Go and without a compiler.
# Used by `make test-wheels-debian`.
#
#   bash build_support/wheels/debian_roots.sh FOLDER TEST...
#
# FOLDER has the wheels; each for this processor is tested in both systems. A wheel is installed into a fresh
# environment, which runs README.md's first program and all examples. Then pytest joins it, and runs the TESTs. Dask is
# not installed, so what needs it is skipped.
# The last lines, which are in build/wheels-debian.txt as well, say how each test ended. If one failed, the exit status
# is 1. If this machine can test none, it prints one line, and exits with status 3.
#
# The problem. Debian 12 has one version of Python, and that of Debian 11 is too old for goproc.
# The solution. Debian has the sources of the others: those of the newer releases are compiled in a folder with Debian 11
# and a compiler. They then run in all newer systems, with the folder's libffi beside them. OpenSSL is left out: nothing
# is downloaded inside.
# Its limits. No Debian has the sources of 3.10 and 3.12. These wheels are tested in Debian 12 with this machine's own
# interpreter, if that runs there, and not in Debian 11.
#
# The systems are made by debootstrap, once, in ~/.cache/goproc-debian (GOPROC_DEBIAN names another folder): 1.5 GB.
# Making them needs root, apt, and 15 minutes. <folder>/log has what the commands print.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=${GOPROC_DEBIAN:-$HOME/.cache/goproc-debian}
log=$cache/log
report=build/wheels-debian.txt
. build_support/debian.sh
archive=$(mirror)
archive=${archive:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg # Ubuntu's debootstrap does not look for it
# The suites with the sources of each version.
declare -A suites=([3.11]=bookworm [3.13]=trixie [3.14]=unstable [3.15]=unstable)
declare -A systems=([builder]=bullseye [11]=bullseye [12]=bookworm)
declare -A packages=([builder]=gcc,libc6-dev,make,pkg-config,libffi-dev,zlib1g-dev [11]=procps [12]=procps,python3,python3-venv)

refuse() {
    echo "wheels in Debian: not tested, $*" >&2
    exit 3
}

# in_root ROOT COMMAND...: run COMMAND in ROOT, with /proc, /dev and /sys. READ_ONLY is a folder that it sees as well.
in_root() {
    ROOT=$1 unshare --mount bash -c '
        set -e
        mount --make-rprivate /
        for folder in proc dev sys; do mount --rbind /$folder "$ROOT/$folder"; done
        if [ -n "${READ_ONLY:-}" ]; then
            mkdir -p "$ROOT$READ_ONLY"
            mount --bind "$READ_ONLY" "$ROOT$READ_ONLY"
            mount -o remount,bind,ro "$ROOT$READ_ONLY"
        fi
        exec chroot "$@"' bash "$1" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
        PYTHONDONTWRITEBYTECODE=1 "${@:2}"
}

make_system() { # NAME
    local root=$cache/$1
    [ ! -d "$root" ] || return 0
    rm -rf --one-file-system "$root.new"
    if ! quietly unshare --mount debootstrap --variant=minbase --keyring="$keyring" \
        --include="${packages[$1]}" "${systems[$1]}" "$root.new" "$archive"; then
        rm -rf --one-file-system "$root.new"
        return 1
    fi
    mv "$root.new" "$root"
}

# Compiles the sources of CPython VERSION. The interpreter is then in /opt/pythonVERSION of each system.
make_python() { # VERSION
    local version=$1 state=$cache/apt-${suites[$1]} prefix=/opt/python$1 name
    [ ! -d "$cache/python$version" ] || return 0
    rm -rf "$state" "$cache/builder/src/python$version" "$cache/builder$prefix"
    mkdir -p "$state/lists/partial" "$state/archives/partial" "$state/source" "$cache/builder/src/python$version"
    echo "deb-src [signed-by=$keyring] $archive ${suites[$version]} main" >"$state/sources.list"
    local apt=(apt-get -o "Dir::State::lists=$state/lists" -o "Dir::Etc::SourceList=$state/sources.list"
        -o Dir::Etc::SourceParts=- -o "Dir::Cache=$state" -o APT::Sandbox::User=root -o Acquire::Check-Valid-Until=false)
    quietly "${apt[@]}" update -qq || return
    (cd "$state/source" && quietly "${apt[@]}" source -qq --download-only "python$version") || return
    quietly tar -xf "$state/source/python$version"_*.orig.tar.?z -C "$cache/builder/src/python$version" --strip-components=1 || return
    # shellcheck disable=SC2016
    quietly in_root "$cache/builder" sh -c '
        set -e
        cd "$1"
        ./configure --quiet --prefix="$2" --with-ensurepip=no --disable-test-modules LDFLAGS="-Wl,-rpath,$2/lib"
        make --silent -j"$(nproc)"
        make --silent install
        cp -L /usr/lib/*-linux-gnu/libffi.so.? "$2/lib"
        "$2/bin/python3" -c "import ctypes, zlib, _posixshmem, _multiprocessing"' sh "/src/python$version" "$prefix" || return
    rm -rf "$cache/builder/src" "$state" "$cache/builder$prefix/lib/python$version/config-"*
    mv "$cache/builder$prefix" "$cache/python$version"
}

# Downloads what the tests take, with this machine's pip, for CPython VERSION; and pip itself.
download() { # VERSION
    local folder=$cache/packages-$1
    [ ! -d "$folder" ] || return 0
    rm -rf "$folder.new"
    # The requirements stand only in pyproject.toml. mypy and the like take no part in the tests. pip decides by its own
    # interpreter which requirements a version has: so this does it for numpy, and adds what pytest needs for 3.10.
    python3 - "$1" >"$cache/requirements.txt" <<'END'
import re, sys
text = re.search(r"(?ms)^test = \[\n(.*?)^\]", open("pyproject.toml").read())[1]
version = tuple(map(int, sys.argv[1].split(".")))
for requirement in re.findall(r'"((?:pytest|numpy|cloudpickle|joblib).*?)",', text):
    name, _, marker = requirement.partition("; ")
    limit = re.fullmatch(r"python_version(<|==|>=)'3\.(\d+)'", marker)
    other = (3, int(limit[2])) if limit else version
    if {"<": version < other, "==": version == other, ">=": version >= other}[limit[1] if limit else "=="]:
        print(name)
print("exceptiongroup", "tomli", "typing_extensions", sep="\n")
END
    local glibc platforms=()
    for glibc in 2_31 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${glibc}_$machine"); done
    quietly python3 -m pip download --only-binary=:all: --python-version "$1" "${platforms[@]}" --platform "manylinux2014_$machine" \
        --dest "$folder.new" --requirement "$cache/requirements.txt" pip && mv "$folder.new" "$folder"
}

# Puts the interpreter for VERSION into the system, and prints its path there. If there is none, it prints nothing.
provide() { # SYSTEM VERSION
    local path
    if [ -x "$cache/$1/usr/bin/python$2" ]; then
        echo "/usr/bin/python$2"
        return
    fi
    if [ -d "$cache/python$2" ]; then
        mkdir -p "$cache/$1/opt"
        [ -d "$cache/$1/opt/python$2" ] || cp -a "$cache/python$2" "$cache/$1/opt/"
        echo "/opt/python$2/bin/python3"
        return
    fi
    path=$(sh build_support/find_pythons.sh | while IFS= read -r python; do
        "$python" -c "import sys; sys.version_info[:2] == tuple(map(int, '$2'.split('.'))) and print(sys.base_prefix)"
    done)
    if [ -n "$path" ] && [ "$path" != /usr ] && READ_ONLY=$path quietly in_root "$cache/$1" "$path/bin/python$2" -c "import ctypes, zlib"; then
        echo "$path/bin/python$2"
    fi
}

# Tests a wheel in a system with an interpreter that is there. Prints one line.
try() { # SYSTEM VERSION WHEEL PYTHON TEST...
    local root=$cache/$1 work=$cache/$1/goproc version=$2 wheel=$3 python=$4 prefix=
    case $python in /opt/* | /usr/*) ;; *) prefix=${python%/bin/*} ;; esac
    shift 4
    rm -rf "$work" "$root/tmp"/*
    mkdir -p "$work/packages"
    cp "$cache/packages-$version"/*.whl "$wheel" "$work/packages"
    # The files of the repository as they are here, without what is built.
    git ls-files -z --cached --others --exclude-standard | grep -zvE '^benchmarks/' | tar --null -T - -cf - |
        tar -xf - -C "$work"
    sed -n '/^```python/,/^```/{/^```python/n;/^```/q;p}' README.md >"$work/readme.py"
    READ_ONLY=$prefix in_root "$root" sh -c '
        set -e
        cd /goproc
        for command in go gcc cc clang make ld; do
            ! command -v $command || { echo "there is $command here"; exit 1; }
        done
        python=$1
        shift
        "$python" -m venv --without-pip venv
        pip="venv/bin/python $(echo packages/pip-*.whl)/pip"
        options="--quiet --no-index --no-cache-dir --disable-pip-version-check --root-user-action=ignore --find-links=packages"
        $pip install $options packages/goproc-*.whl
        echo "=== README.md"
        (cd /tmp && env PATH=/nonexistent /goproc/venv/bin/python -W error /goproc/readme.py)
        echo "=== examples"
        venv/bin/python examples/demo.py
        $pip install $options pytest pytest-timeout numpy cloudpickle joblib
        echo "=== tests"
        venv/bin/python -m pytest -p no:cacheprovider -q -m "not slow" "$@"' sh "$python" "$@"
}

[ $# -gt 1 ] || { sed -n 2,10p "$0"; exit 2; }
machine=$(uname -m)
folder=$1
shift
[ "$(id -u)" = 0 ] || refuse "as this needs root"
command -v apt-get >/dev/null || refuse "as the systems are got from Debian, with apt-get"
unshare --mount true 2>/dev/null || refuse "as this machine does not allow mount namespaces"
wheels=("$folder"/goproc-*-manylinux_*_"$machine".whl)
[ -e "${wheels[0]}" ] || refuse "as $folder has no wheel for $machine"
mkdir -p "$cache" build
: >"$log"
if ! command -v debootstrap >/dev/null || [ ! -e "$keyring" ]; then
    quietly apt-get update -qq && quietly apt-get install -y -qq debootstrap debian-archive-keyring ||
        refuse "as debootstrap could not be installed: $(tail -n 1 "$log") (see $log)"
fi
for system in 11 12 builder; do
    make_system $system || refuse "as Debian's packages could not be had: $(tail -n 1 "$log") (see $log)"
done

failed=
: >"$report"
for wheel in "${wheels[@]}"; do
    version=$(basename "$wheel" | sed 's/.*-cp3\([0-9]*\)-cp3.*/3.\1/')
    if [ -n "${suites[$version]:-}" ] && ! make_python "$version"; then
        echo "CPython $version could not be compiled: $(tail -n 1 "$log") (see $log)" >&2
    fi
    if ! download "$version"; then
        echo "CPython $version: FAILED, no packages: $(tail -n 1 "$log")" | tee -a "$report"
        failed=1
        continue
    fi
    for system in 11 12; do
        python=$(provide $system "$version")
        if [ -z "$python" ]; then
            echo "Debian $system, CPython $version: not tested, there is no interpreter" | tee -a "$report"
            continue
        fi
        echo "=== Debian $system: $(basename "$wheel") with $python"
        output=build/wheels-debian-$system-$version.log
        begin=$SECONDS
        ending=passed
        try $system "$version" "$wheel" "$python" "$@" 2>&1 </dev/null | tee "$output" || ending=FAILED failed=1
        tests=$(grep -E '^[0-9]+ (passed|failed)' "$output" | tail -n 1) || tests="no tests ran"
        echo "Debian $system, CPython $version: $ending; ${tests% in *}; $((SECONDS - begin)) s" | tee -a "$report"
    done
done
echo
cat "$report"
[ -z "$failed" ]

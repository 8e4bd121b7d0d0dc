#!/bin/sh
# Prints everything that this machine lacks for building goproc, at once, and how to get it.
#
#   sh build_support/check_prerequisites.sh all|build [PYTHON]
#
# "build": checks what compiling needs; setup.py calls it so, in the Makefile's and in pip's builds. "all": also checks
# what the Makefile needs to make its environments. PYTHON: the interpreter to build for (default python3). If nothing
# is missing, prints nothing, and exits with status 0. Else lists on stderr what is missing, and exits with status 1.
#
# This is a shell script, because the interpreter itself may be missing.

scope=${1:-all}
python=${2:-python3}
root=$(cd "${0%/*}/.." && pwd)
missing=
packages=

# lacking WHAT HOW [PACKAGE...]: note that WHAT is missing, and HOW to get it; PACKAGEs: the distribution's packages.
lacking() {
    missing="$missing  - $1
    $2
"
    shift 2
    packages="$packages $*"
}

# at_least HAVE WANT: whether the dotted version number HAVE is WANT or newer.
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# distribution DEBIAN FEDORA: prints the package's name in this distribution; nothing if the distribution is unknown.
distribution() {
    case $family in
    debian) echo "$1" ;;
    fedora) echo "$2" ;;
    esac
}

if [ "$(uname -s)" != Linux ]; then
    echo "goproc runs on Linux only: it is made of pidfds, memfds and SIGIO lifelines, which $(uname -s) does not have." >&2
    exit 1
fi

family=
if [ -r /etc/os-release ]; then
    case " $(. /etc/os-release && echo "$ID $ID_LIKE") " in
    *" debian "* | *" ubuntu "*) family=debian ;;
    *" fedora "* | *" rhel "* | *" centos "*) family=fedora ;;
    esac
fi

kernel=$(uname -r | sed 's/[^0-9.].*//')
at_least "$kernel" 5.4 ||
    lacking "Linux 5.4 or newer (this is $kernel)" "waiting for a process through its pidfd needs it: update the kernel"

# --- Go: the version that go.mod requires. Asked inside the project, because go may switch to another toolchain there.
go_wanted=$(sed -n 's/^go \([0-9.]*\).*/\1/p' "$root/go.mod")
go_how="from go.dev/dl, or the distribution's package where it is new enough"
if ! command -v go >/dev/null 2>&1; then
    lacking "Go $go_wanted or newer (no go command on PATH)" "$go_how" "$(distribution golang-go golang)"
else
    go_found=$(cd "$root" && GOWORK=off go env GOVERSION 2>/dev/null | sed 's/^go\([0-9.]*\).*/\1/')
    [ -n "$go_found" ] || go_found=$(cd / && go version 2>/dev/null | sed 's/^go version go\([0-9.]*\).*/\1/')
    at_least "${go_found:-0}" "$go_wanted" ||
        lacking "Go $go_wanted or newer (found ${go_found:-one that does not run}: $(command -v go))" "$go_how"
fi

# --- A C compiler that can also link: often a compiler is installed without the C library's headers.
compiler=${CC:-}
for candidate in gcc cc clang; do
    [ -n "$compiler" ] || ! command -v "$candidate" >/dev/null 2>&1 || compiler=$candidate
done
if [ -z "$compiler" ]; then
    lacking "a C compiler (no gcc, cc or clang on PATH)" "gcc, or name another in the variable CC" \
        gcc "$(distribution libc6-dev glibc-devel)"
else
    scratch=$(mktemp -d)
    printf '#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n' >"$scratch/probe.c"
    # shellcheck disable=SC2086 # CC may carry options
    $compiler -o "$scratch/probe" "$scratch/probe.c" >/dev/null 2>"$scratch/errors" ||
        lacking "a C compiler that works ($compiler cannot build a program: $(head -n 1 "$scratch/errors"))" \
            "the C library's headers, or name another compiler in the variable CC" "$(distribution libc6-dev glibc-devel)"
    rm -rf "$scratch"
fi

# --- CPython, its headers, and the modules for an environment. One start answers all questions, one line for each.
probe='
import platform, sys, sysconfig
print(platform.python_implementation())
print("%d.%d" % sys.version_info[:2])
print(sysconfig.get_config_var("SOABI") or "")
print(sysconfig.get_path("include"))
try:
    import ensurepip, venv
    print("venv")
except ImportError:
    print("")
'
if ! command -v "$python" >/dev/null 2>&1; then
    lacking "CPython 3.10 or newer (no command $python)" "install it, or name another one: make PYTHON=/path/to/python" \
        python3 "$(distribution python3-dev python3-devel)" "$(distribution python3-venv '')"
else
    answers=$("$python" -c "$probe" 2>/dev/null)
    answer() { printf '%s\n' "$answers" | sed -n "$1p"; }
    version=$(answer 2)
    if [ "$(answer 1)" != CPython ] || ! at_least "${version:-0}" 3.10; then
        found="$(answer 1) $version"
        [ -n "$answers" ] || found="something that does not run"
        lacking "CPython 3.10 or newer ($python is $found)" \
            "install it, or name another one: make PYTHON=/path/to/python"
    else
        [ -r "$(answer 4)/Python.h" ] ||
            lacking "the C headers of CPython $version (no $(answer 4)/Python.h)" \
                "the development package that belongs to $python" "$(distribution "python$version-dev" python3-devel)"
        [ "$scope" != all ] || [ "$(answer 5)" = venv ] ||
            lacking "the venv module of CPython $version" "the venv package that belongs to $python" \
                "$(distribution "python$version-venv" python3-libs)"
        case $(answer 3) in
        *musl*) lacking "an interpreter linked with glibc ($python uses musl)" \
            "Go's shared libraries do not load under musl: use a glibc system" ;;
        cpython-3[0-9]*t-*) lacking "an interpreter with the GIL ($python is a free-threaded build of CPython $version)" \
            "goproc's C code relies on the GIL: use the ordinary build, python$version" ;;
        esac
    fi
fi

[ -n "$missing" ] || exit 0
{
    echo "goproc cannot be built on this machine yet. Missing:"
    printf '%s' "$missing"
    # shellcheck disable=SC2086 # a list of names
    set -- $packages
    case $family in
    debian) [ $# -eq 0 ] || echo "On this system: apt-get install $*" ;;
    fedora) [ $# -eq 0 ] || echo "On this system: dnf install $*" ;;
    esac
} >&2
exit 1

#!/bin/sh
# Runs make targets for every CPython that find_pythons.sh finds, and for the newer ones that newer_pythons.sh obtains,
# each with its own environment (.venv-3.X). Prints at the end which versions failed. Used by `make test-all`, `make
# conformance-all`, `make wheels` and `make test-wheels`.
#
#   sh build_support/each_python.sh TARGET...

support=${0%/*}
list=$(mktemp)
trap 'rm -f "$list"' EXIT
sh "$support/find_pythons.sh" >"$list"
[ -s "$list" ] || { echo "no CPython 3.10 to 3.15 on this machine" >&2; exit 1; }

failed=
while IFS= read -r python <&3; do
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "=== CPython $version ($python): make $*"
    "${MAKE:-make}" "$@" PYTHON="$python" VENV=".venv-$version" 3<&- || failed="$failed $version"
done 3<"$list"

# If the newer versions cannot be obtained, newer_pythons.sh has printed the reason.
if bash "$support/newer_pythons.sh" make; then
    for version in $(bash "$support/newer_pythons.sh" list); do
        echo "=== CPython $version of Debian unstable: make $*"
        bash "$support/newer_pythons.sh" run make "$@" PYTHON="python$version" VENV=".venv-$version" ||
            failed="$failed $version"
    done
fi

[ -z "$failed" ] || { echo "failed for CPython$failed" >&2; exit 1; }

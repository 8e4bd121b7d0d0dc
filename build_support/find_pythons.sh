#!/bin/sh
# For each version that goproc supports, prints the path of one CPython if this machine has one, the oldest version
# first: pythonX.Y on PATH, else pyenv's newest X.Y. Used by each_python.sh and .ci/run.

supported="3.10 3.11 3.12 3.13 3.14 3.15"

# path_if VERSION COMMAND: prints the interpreter's own path, if COMMAND runs and is that version (pyenv's shims may not
# run).
path_if() {
    "$2" -c "
import platform, sys
if '%d.%d' % sys.version_info[:2] == '$1' and platform.python_implementation() == 'CPython' and not sys.abiflags:
    print(sys.executable)" 2>/dev/null
}

for version in $supported; do
    found=$(path_if "$version" "python$version")
    if [ -z "$found" ]; then
        for candidate in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
            [ ! -x "$candidate" ] || found=$(path_if "$version" "$candidate")
        done
    fi
    [ -z "$found" ] || echo "$found"
done

# Runs tests with _native built under the address and the undefined behaviour sanitizer:
#
#   sh build_support/sanitize.sh PYTHON [PYTEST-ARGUMENT ...]
#
# PYTHON: an interpreter with goproc and the requirements of its tests. A copy of the package with the sanitized _native
# comes first on its path. When a sanitizer finds an error, it ends the process, parent or worker, and the test fails.
set -eu
python=$1
shift
[ $# -gt 0 ] || set -- -m "not slow" tests/unit/test_native.py tests/unit/test_process.py \
    tests/unit/test_fork.py tests/unit/test_spawn_server.py tests/unit/test_nursery.py tests/unit/test_pool*.py \
    tests/unit/test_queues.py tests/unit/test_queue_ends.py tests/unit/test_locks.py tests/unit/test_dump.py

compiler=${CC:-gcc}
folder=$PWD/build/sanitize
rm -rf "$folder"
mkdir -p "$folder"
cp -R "$("$python" -c 'import goproc; print(goproc.__path__[0])')" "$folder/goproc"
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
module=$("$python" -c 'import sysconfig; print("_native" + sysconfig.get_config_var("EXT_SUFFIX"))')
"$compiler" -std=c11 -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
    -fPIC -shared -fvisibility=hidden -Wall -Wextra -isystem "$include" -Icapi capi/native/*.c capi/native/*/*.c \
    -o "$folder/goproc/$module" -pthread -ldl

preload=
for library in libasan.so libubsan.so; do
    file=$("$compiler" -print-file-name=$library)
    [ -e "$file" ] || { echo "$compiler has no $library" >&2; exit 1; }
    preload="$preload $file"
done
sanitized() {
    env LD_PRELOAD="${preload# }" PYTHONPATH="$folder${PYTHONPATH:+:$PYTHONPATH}" \
        ASAN_OPTIONS=detect_leaks=0:handle_segv=0:allocator_may_return_null=1:quarantine_size_mb=16 UBSAN_OPTIONS=print_stacktrace=1 "$@"
}
# PYTHONMALLOC=malloc: the sanitizers then check Python's objects, too. Memory that is kept until the end is not
# reported as a leak. With this allocator no bytes object is placed in an extent, so the tests of placed bytes run again
# with the usual allocator.
sanitized PYTHONMALLOC=malloc "$python" -m pytest "$@"
sanitized "$python" -m pytest -m "not slow" tests/unit/test_native.py tests/unit/test_pool_large.py

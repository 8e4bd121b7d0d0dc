# Runs every Fuzz function of the engine, one after the other: sh build_support/fuzz.sh TIME
# go keeps an input that fails under testdata/fuzz, beside the test. Commit it with the fix.
set -eu
time=$1
for package in $(go list ./core/... ./capi/...); do
    for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
        echo "fuzz $package $target for $time"
        go test -run='^$' -fuzz="^$target\$" -fuzztime="$time" "$package"
    done
done

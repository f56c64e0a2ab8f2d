#!/bin/sh
# Plants bugs, one at a time, in a copy of the tree and shows that the tests see them.
#
#   tests/mutants/run.sh [name...]
#
# A mutant is a file `tests/mutants/NAME.patch`; its first lines say what is broken. A line `tests: FILTER...` names the
# tests that must see it, and a line `features: ...` what they are built with. Prints `caught`, and by what, or
# `not caught` for each, and ends non-zero when one was not caught. A test that hangs has caught nothing.
#
# The tree is copied once and built incrementally (MUTANTS_TARGET_DIR, default target/mutants). First the tests that
# take no time are run, then the simulation, POLOS_SIM_SEEDS stories at most (default 60): it stops at the first that
# breaks a promise.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
export CARGO_TARGET_DIR="${MUTANTS_TARGET_DIR:-$root/target/mutants}"
export POLOS_SIM_SEEDS="${POLOS_SIM_SEEDS:-60}" RUST_BACKTRACE=0 CARGO_INCREMENTAL=1
tree="$CARGO_TARGET_DIR/tree"
log="$CARGO_TARGET_DIR/log"
quick="engine:: hung:: plan:: store::conformance::memory"

if [ $# -eq 0 ]; then
    set -- $(cd "$root/tests/mutants" && ls ./*.patch | sed 's|^\./||; s|\.patch$||')
fi

rm -rf "$tree"
mkdir -p "$tree"
# With the time of now (-m): or cargo would take what an earlier run built, with a bug in it, for up to date.
(cd "$root" && git ls-files -z -- Cargo.toml Cargo.lock benches/Cargo.toml benches/micro src tests/it \
    scripts/postgres-for-tests | tar --null -T - -cf -) | tar -xmf - -C "$tree"

features=
named=

build() {
    (cd "$tree" && cargo test --quiet --no-default-features --features "$features" --test it --no-run) >"$log" 2>&1
}

# Ends with 0 when all pass, 124 when they hang.
tests() {
    (cd "$tree" && timeout 900 cargo test --quiet --no-default-features --features "$features" --test it -- "$@") \
        >"$log" 2>&1
}

judge() {
    if ! build; then
        tail -n 20 "$log"
        verdict="does not build"
        return 1
    fi
    # shellcheck disable=SC2086
    for group in "${named:-$quick}" "${named:-sim::}"; do
        code=0
        tests $group || code=$?
        if [ "$code" -eq 124 ]; then
            verdict="not caught: the tests hang"
            return 1
        elif [ "$code" -ne 0 ]; then
            verdict="caught by $(sed -n 's/^    \([a-z]*::[a-z_:]*\)$/\1/p' "$log" | sort -u | tr '\n' ' ')"
            return 0
        fi
    done
    verdict="not caught"
    return 1
}

# What fails without a planted bug catches none.
if judge; then
    echo "the tree as it is: $verdict"
    exit 1
elif [ "$verdict" != "not caught" ]; then
    echo "the tree as it is: $verdict"
    exit 1
fi

missed=0
for name in "$@"; do
    began=$(date +%s)
    patch_file="$root/tests/mutants/$name.patch"
    features=$(sed -n 's/^features: //p' "$patch_file")
    named=$(sed -n 's/^tests: //p' "$patch_file")
    if ! patch --quiet --batch -p1 -d "$tree" <"$patch_file" >"$log" 2>&1; then
        verdict="does not apply"
        missed=$((missed + 1))
    elif ! judge; then
        missed=$((missed + 1))
    fi
    echo "$name: $verdict($(($(date +%s) - began)) s)" | sed 's/\([a-z]\)(/\1 (/'
    # Back to what it was, and newer than what was built from the mutant.
    for file in $(sed -n 's|^+++ b/\([^[:space:]]*\).*|\1|p' "$patch_file"); do
        cp "$root/$file" "$tree/$file"
        rm -f "$tree/$file.orig" "$tree/$file.rej"
    done
done
[ "$missed" -eq 0 ]

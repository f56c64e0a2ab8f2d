#!/bin/sh
# Plants bugs, one at a time, in a copy of the tree and shows that the tests see them.
#
#   tests/mutants/run.sh [name...]
#
# A mutant is a file `tests/mutants/NAME.patch`; its first lines say what is broken. Prints `caught` or `not caught`
# for each, and ends non-zero when one was not caught. POLOS_SIM_SEEDS (default 60) bounds the simulation.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR="${MUTANTS_TARGET_DIR:-$root/target/mutants}"
export POLOS_SIM_SEEDS="${POLOS_SIM_SEEDS:-60}" RUST_BACKTRACE=0

if [ $# -eq 0 ]; then
    set -- $(cd "$root/tests/mutants" && ls ./*.patch | sed 's|^\./||; s|\.patch$||')
fi

missed=0
for name in "$@"; do
    rm -rf "$work/tree"
    mkdir "$work/tree"
    (cd "$root" && git ls-files -z -- Cargo.toml Cargo.lock src tests | tar --null -T - -cf -) | tar -xf - -C "$work/tree"
    patch --quiet -p1 -d "$work/tree" <"$root/tests/mutants/$name.patch"
    log="$work/$name.log"
    if ! (cd "$work/tree" && cargo build --quiet --no-default-features --tests) >"$log" 2>&1; then
        tail -n 20 "$log"
        echo "$name: does not build"
        missed=$((missed + 1))
    elif (cd "$work/tree" && timeout 600 cargo test --quiet --no-default-features --test it -- \
        sim:: engine:: plan::) >"$log" 2>&1; then
        echo "$name: not caught"
        missed=$((missed + 1))
    else
        echo "$name: caught by $(sed -n 's/^    \([a-z]*::[a-z_]*\)$/\1/p' "$log" | sort -u | tr '\n' ' ')"
    fi
done
[ "$missed" -eq 0 ]

#!/usr/bin/env python3
"""Plants the bugs that cargo-mutants generates in the pure layers of the core.

    tests/mutants/generated.py [--every N] [--first K] [--only FILE] [PATH...]

cargo-mutants (`cargo install cargo-mutants`) only lists the bugs here. It would build each of them
separately, which takes weeks for four thousand. Here all are switches of one build, like the bugs
that people planted (run.py). `--every 20 --first 3` takes the third of each twenty.

A bug is tried with the quick tests of its layer, then with all tests of its layer and other quick
tests, and if it survives them, with the rest of those in Rust. Tests that hang count as caught
here, since many of these bugs never end. equivalent.txt lists those that are none, each with the
reason; they are left out.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import patches
from patches import Bug

import run

# The layers, and the tests that are about each.
IN_MEMORY = "store::conformance::memory_conforms"
LAYERS = {
    "src/cron": ["cron::", "compiled_spec::"],
    "src/calendar": ["calendar::", "compiled_spec::"],
    "src/plan": ["plan::", "values::"],
    "src/model": ["values::", "plan::", "compiled_spec::", "ids::", IN_MEMORY],
    "src/store/tables": [IN_MEMORY],
}

NOT_CAUGHT = "  not caught: "

# Takes more than all other tests of the layers together. Most bugs are caught by another.
SLOW = "calendar::transitions::around_changes_of_the_clocks"

EQUIVALENT = Path(__file__).with_name("equivalent.txt")

QUICK = [
    "cron::",
    "compiled_spec::",
    "plan::",
    "values::",
    "ids::",
    "engine::",
    "service::",
    "store::encoding",
    IN_MEMORY,
]
STORES = [
    "store::conformance::",
    "store::older_release",
    "store::model",
    "store::transfer",
    "group_commit::",
]
REST = ["store::rows_read", "protocol::", "sim::"]


def listed(paths: list[str]) -> list[Bug]:
    """Ask cargo-mutants for the bugs of these folders and files."""
    globs = [path if path.endswith(".rs") else f"{path}/**" for path in paths]
    files = [argument for glob in globs for argument in ("--file", glob)]
    command = ["cargo", "mutants", "--list", "--json", "--diff", "--package", "polos", *files]
    try:
        done = subprocess.run(command, cwd=run.ROOT, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.stderr}\ninstall it with `cargo install cargo-mutants`")
    bugs = []
    for found in json.loads(done.stdout):
        where = found["span"]["start"]
        about = found["name"]
        key = f"{found['file']} {where['line']} {where['column']} {found['replacement']}"
        name = re.sub(r"\W+", "_", key) + f"_{len(bugs)}"
        # Its header names the replacement instead of the file.
        diff = re.sub(r"^\+\+\+ .*", f"+++ b/{found['file']}", found["diff"], flags=re.MULTILINE)
        bugs.append(patches.parse(name, f"{about}\n{diff}"))
    return bugs


def signature(bug: Bug) -> str:
    """Return what names a bug wherever its line is: what is replaced, and the line that results."""
    file, hunks = next(iter(bug.files.items()))
    about = re.sub(r"^\S+?:\d+:\d+: ", "", bug.about.splitlines()[0])
    added = [text for hunk in hunks for sign, text in hunk.lines if sign == "+"]
    line = " ".join(added[0].replace("/* ~ changed by cargo-mutants ~ */", "").split())
    return f"{file}: {about}: {line}".rstrip()


def equivalent() -> set[str]:
    """Return the signatures of the bugs that change nothing."""
    lines = EQUIVALENT.read_text().splitlines()
    return {line.rstrip() for line in lines if line and not line.startswith("#")}


def of_its_layer(bug: Bug) -> list[str]:
    """Return the quick tests that are about the layer of a bug."""
    file = next(iter(bug.files))
    tests = next(tests for layer, tests in LAYERS.items() if file.startswith(layer))
    return [*tests, f"--skip={SLOW}"]


def of_others(bug: Bug) -> list[str]:
    """Return the quick tests of the layers above, and the slow one."""
    is_below = next(iter(bug.files)).startswith(("src/cron", "src/calendar"))
    return [*QUICK, SLOW] if is_below else QUICK


# What the tests are, which, and the seconds after which they hang: many times what they take.
STAGES: list[tuple[str, Callable[[Bug], list[str]], float]] = [
    ("the quick tests of their layer", of_its_layer, 40),
    ("the other quick tests", of_others, 120),
    ("the tests of the stores", lambda _: STORES, 600),
    ("the rest", lambda _: REST, 1_800),
]


def survivors(
    bugs: list[Bug], programs: list[Path], tests: Callable[[Bug], list[str]], limit: float
) -> list[Bug]:
    """Return the bugs that these tests don't catch. A switch that no program has does nothing."""
    run.LIMIT = limit
    wanted = [replace(bug, tests=tests(bug)) for bug in bugs]
    left = []
    with ThreadPoolExecutor(run.JOBS) as pool:
        verdicts = pool.map(lambda bug: run.check_bug(bug, programs, bug.name), wanted)
        for bug, verdict in zip(bugs, verdicts, strict=True):
            sys.stdout.write(f"{bug.about}: {verdict.message} ({verdict.seconds:.0f} s)\n")
            sys.stdout.flush()
            if verdict.message == "not caught":
                left.append(bug)
    return left


# Only the tests of the pure layers: a build of some seconds. All bugs in constants are there.
PURE = (
    *("--package=polos", "--test=optimized", "--no-default-features"),
    "--config=profile.dev.package.polos.opt-level=0",
)


def in_own_builds(bugs: list[Bug]) -> list[Bug]:
    """Return the bugs that survive of those that can't be switches: each is built separately."""
    left = []
    for bug in bugs:
        run.copy_tree(run.patched(bug, {}, ".rs"))
        try:
            programs = run.build_tests(*PURE)
        except run.BuildError:
            sys.stdout.write(f"{bug.about}: does not compile\n")
            continue
        left += survivors([bug], programs, of_its_layer, 60)
    return left


def main() -> int:
    """Plant the bugs; return 1 if any survives."""
    parser = argparse.ArgumentParser(description="Plant the bugs that cargo-mutants generates.")
    parser.add_argument("paths", nargs="*", metavar="PATH", default=[*LAYERS])
    parser.add_argument("--every", type=int, default=1, metavar="N", help="one of each N")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="the first of them")
    parser.add_argument(
        "--only", metavar="FILE", help="those whose lines FILE has, as printed here"
    )
    options = parser.parse_args()
    found = listed(options.paths)
    known = equivalent()
    chosen = [bug for bug in found[options.first :: options.every] if signature(bug) not in known]
    if options.only:
        only = {
            line.removeprefix(NOT_CAUGHT).rstrip()
            for line in Path(options.only).read_text().splitlines()
        }
        chosen = [bug for bug in chosen if signature(bug) in only]
    run.TARGET.mkdir(parents=True, exist_ok=True)
    programs, _, left_out = run.build_all(chosen)
    planted = [bug for bug in chosen if bug.name not in left_out]
    sys.stdout.write(f"{len(planted)} bugs are planted\n")
    for reason, count in Counter(left_out.values()).items():
        sys.stdout.write(f"{count} are not: {reason}\n")
    sys.stdout.flush()
    left = planted
    for what, tests, limit in STAGES:
        left = survivors(left, programs, tests, limit)
        sys.stdout.write(f"{len(left)} survive {what}\n")
    alone = [bug for bug in chosen if left_out.get(bug.name) == run.OUTSIDE]
    left += in_own_builds(alone)
    tried = len(planted) + len(alone)
    sys.stdout.write(f"{tried - len(left)} of {tried} caught\n")
    for bug in left:
        sys.stdout.write(f"{NOT_CAUGHT}{signature(bug)}\n")
    # Of all bugs, so that the list doesn't keep what the code no longer has.
    stale = known - {signature(bug) for bug in found} if options.paths == [*LAYERS] else set()
    for line in sorted(stale):
        sys.stdout.write(f"  equivalent.txt lists what is not generated: {line}\n")
    return 1 if left or stale else 0


if __name__ == "__main__":
    sys.exit(main())

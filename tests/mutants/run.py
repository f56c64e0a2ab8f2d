#!/usr/bin/env python3
"""Plants bugs in a copy of the tree and shows that the tests catch each of them.

    tests/mutants/run.py [NAME...]

A planted bug is a patch, `tests/mutants/NAME.patch`. README.md describes its format.

All bugs in functions of Rust are compiled into one build, and an environment variable selects one
when the tests run (rust_switches.py). Bugs that can't be selected this way, such as a constant, are
built separately afterwards. A bug in Python gets a copy of the Python files. First, all named tests
run without a bug: a test that fails anyway catches nothing.

Environment: MUTANTS_TARGET_DIR (default: target/mutants) is where the copy is. MUTANTS_JOBS
(default: 2) says how many bugs are tested at once. MUTANTS_LIMIT (default: 300) is the time in
seconds after which tests hang; tests that hang have caught nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import patches
import rust_switches
from patches import Bug, PatchError

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("MUTANTS_TARGET_DIR", ROOT / "target" / "mutants")).resolve()
TREE = TARGET / "tree"
# Not where the tree itself is built: for cargo, the copy is the same package, and it would later
# reuse what it has built from the copy, with the bugs.
BUILD = TARGET / "build"
TREE_BUILD = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
JOBS = int(os.environ.get("MUTANTS_JOBS", "2"))
LIMIT = float(os.environ.get("MUTANTS_LIMIT", "300"))
# How many seconds one test of pytest may take. Many planted bugs make a test wait for ever.
PYTEST_LIMIT = 120

# Left out of the copy: they are neither built nor tested, and tests that search files for words
# would find the patches.
LEFT_OUT = ("benches/", "tests/mutants/", ".ci/", ".github/")
KEPT = ("benches/Cargo.toml", "benches/micro/")


# Why a bug can't be a switch.
OUTSIDE = "a change outside of a function"


class BuildError(Exception):
    """The copy doesn't build. The argument is the compiler's message."""


@dataclass
class Verdict:
    """The result for a planted bug."""

    bug: Bug
    is_caught: bool
    message: str
    seconds: float = 0.0


# --- the copy of the tree ----------------------------------------------------------------------


def tracked_files() -> list[str]:
    """Return the files of the tree that belong in the copy."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    names = sorted(set(listed.stdout.split("\0")) - {""})
    return [
        name
        for name in names
        if (not name.startswith(LEFT_OUT) or name.startswith(KEPT)) and (ROOT / name).is_file()
    ]


def write_if_changed(path: Path, content: bytes) -> None:
    """Write a file unless it is equal, since cargo rebuilds what is newer."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def copy_tree(replaced: dict[str, str]) -> None:
    """Update the copy, with other contents for some of its files."""
    names = tracked_files()
    for name in names:
        content = replaced[name].encode() if name in replaced else (ROOT / name).read_bytes()
        write_if_changed(TREE / name, content)
        if os.access(ROOT / name, os.X_OK):
            (TREE / name).chmod(0o755)
    kept = set(names)
    for path in TREE.rglob("*"):
        name = path.relative_to(TREE).as_posix()
        is_ours = name.startswith((".venv", "target")) or path.suffix in (".so", ".pyd", ".pyc")
        if path.is_file() and name not in kept and not is_ours:
            path.unlink()
    with contextlib.suppress(FileExistsError):
        (TREE / ".venv").symlink_to(ROOT / ".venv")


def crate_roots() -> list[str]:
    """Return the roots of crates: each needs the function that reads the switch."""
    return [name for name in tracked_files() if re.search(r"(^|/)src/(.*/)?lib\.rs$", name)] + [
        "tests/it/main.rs",
        "tests/optimized/main.rs",
    ]


def plant(bugs: Iterable[Bug]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the Rust files with all switches, and the reasons of bugs that can't be switches."""
    by_file: dict[str, dict[str, list[rust_switches.Change]]] = {}
    refused: dict[str, str] = {}
    for bug in bugs:
        for name, hunks in bug.files.items():
            if not name.endswith(".rs"):
                continue
            found = patches.changes((ROOT / name).read_text(), hunks, is_rust=True)
            by_file.setdefault(name, {})[bug.name] = found
    files = {}
    for name, changed in by_file.items():
        _, others = rust_switches.switched((ROOT / name).read_text(), changed)
        refused |= dict.fromkeys(others, OUTSIDE)
    for name, changed in by_file.items():
        wanted = {bug: found for bug, found in changed.items() if bug not in refused}
        files[name], _ = rust_switches.switched((ROOT / name).read_text(), wanted)
    for name in crate_roots():
        source = files.get(name, (ROOT / name).read_text())
        files[name] = rust_switches.HEAD + source + rust_switches.PLANTED
    return files, refused


def patched(bug: Bug, files: dict[str, str], suffix: str) -> dict[str, str]:
    """Return the files with this suffix that a bug changes, with the change."""
    result = {}
    for name, hunks in bug.files.items():
        if name.endswith(suffix):
            source = files.get(name) or (ROOT / name).read_text()
            found = patches.changes(source, hunks, is_rust=suffix == ".rs")
            result[name] = rust_switches.replaced(source, found)
    return result


# --- building ----------------------------------------------------------------------------------


def copy_dependencies() -> None:
    """Copy the compiled dependencies of the tree's build, unless that was done before."""
    if BUILD.exists():
        return
    unfinished = TARGET / "build.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    ours = re.compile(r"(lib)?(_?polos|it-|optimized-|micro)")
    for name in ("debug/.fingerprint", "debug/build", "debug/deps"):
        if (TREE_BUILD / name).is_dir():
            shutil.copytree(
                TREE_BUILD / name,
                unfinished / name,
                ignore=lambda _, names: [name for name in names if ours.match(name)],
            )
    unfinished.rename(BUILD)


def cargo(*arguments: str) -> list[dict[str, Any]]:
    """Run cargo in the copy; return its messages."""
    copy_dependencies()
    environment = os.environ | {
        "CARGO_TARGET_DIR": str(BUILD),
        "CARGO_INCREMENTAL": "1",
        "PYO3_PYTHON": str(ROOT / ".venv" / "bin" / "python"),
    }
    done = subprocess.run(
        ["cargo", *arguments, "--locked", "--message-format=json"],
        cwd=TREE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0:
        errors = [
            message["message"]["rendered"]
            for message in messages
            if message["reason"] == "compiler-message" and message["message"]["level"] == "error"
        ]
        raise BuildError("\n".join(errors) or done.stderr)
    return messages


def build_tests(*arguments: str) -> list[Path]:
    """Build the Rust tests; return the programs that contain them."""
    messages = cargo("test", "--quiet", "--no-run", *arguments)
    return [Path(message["executable"]) for message in messages if message.get("executable")]


def build_extension() -> None:
    """Build the extension module into the Python files of the copy."""
    arguments = ("rustc", "--quiet", "--package", "polos-python", "--lib")
    for message in cargo(*arguments):
        for name in message.get("filenames") or ():
            path = Path(name)
            if path.name == "lib_polos.so":
                place = TREE / "python" / "polos" / "_polos.abi3.so"
                place.unlink(missing_ok=True)
                shutil.copy2(path, place)


def build_all(bugs: list[Bug]) -> tuple[list[Path], dict[str, str], dict[str, str]]:
    """Build the copy with all bugs that can be switches.

    Returns the programs with tests, the Rust files as built, and the bugs that aren't in them with
    the reason. A bug with which the copy doesn't build is left out, and the rest is built again.
    """
    left_out: dict[str, str] = {}
    while True:
        files, refused = plant(bug for bug in bugs if bug.name not in left_out)
        copy_tree(files)
        try:
            programs = build_tests()
            if any(bug.pytest for bug in bugs):
                build_extension()
        except BuildError as error:
            guilty = blamed(str(error)) - left_out.keys()
            if not guilty:
                raise
            left_out |= dict.fromkeys(guilty, "the switch doesn't compile")
            continue
        return programs, files, left_out | refused


def blamed(errors: str) -> set[str]:
    """Return the bugs in whose switches the compiler found errors."""
    names = set()
    for file, line in re.findall(r"--> ([^\s:]+):(\d+):", errors):
        if Path(file).is_absolute():  # the standard library, which it mentions
            continue
        above = (TREE / file).read_text().splitlines()[: int(line)]
        for text in reversed(above):
            if found := re.search(r"// planted (\w+)$", text):
                names.add(found[1])
                break
    return names


# --- running tests -----------------------------------------------------------------------------


class Hung(Exception):
    """Tests didn't end in time."""


def run(
    command: list[str], cwd: Path, environment: dict[str, str], *, failed: re.Pattern[str]
) -> tuple[int, list[str], str]:
    """Run tests until the first that fails. Returns the code, what failed, and the output."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    hung = threading.Event()

    def end(*, as_hung: bool) -> None:
        if as_hung:
            hung.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(LIMIT, end, kwargs={"as_hung": True})
    timer.start()
    output, names = [], []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            if found := failed.search(line):
                names.append(found[1])
                break
        if names:
            end(as_hung=False)
        code = process.wait()
    finally:
        timer.cancel()
        end(as_hung=False)
        if process.stdout is not None:
            process.stdout.close()
    if hung.is_set() and not names:
        raise Hung
    return code, names, "".join(output[-60:])


RUST_FAILED = re.compile(r"^test (\S+).* \.\.\. FAILED")
# A test that aborts the program prints nothing else.
PYTEST_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)")


def rust_tests(programs: list[Path], filters: list[str], name: str) -> tuple[int, list[str], str]:
    """Run the Rust tests of these filters with a planted bug; "" is none."""
    environment = os.environ | {
        "POLOS_PLANTED": name,
        "RUST_BACKTRACE": "0",
        "CARGO_MANIFEST_DIR": str(TREE),
    }
    cases = [case for _, slash, case in (wanted.partition("/") for wanted in filters) if slash]
    if cases and name:
        environment["POLOS_TEST_CASE"] = cases[0]
    filters = [wanted.partition("/")[0] for wanted in filters]
    for program in programs:
        if not listed(program, filters):
            continue
        command = [str(program), *filters]
        code, names, output = run(command, TREE, environment, failed=RUST_FAILED)
        if code != 0:
            return code, names, output
    return 0, [], ""


def listed(program: Path, filters: Iterable[str]) -> list[str]:
    """Return the names of a program's tests that match one of the filters."""
    if program not in NAMES:
        done = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
        NAMES[program] = re.findall(r"^(.*): test$", done.stdout, re.MULTILINE)
    wanted = [name.partition("/")[0] for name in filters]
    return [name for name in NAMES[program] if any(part in name for part in wanted)]


NAMES: dict[Path, list[str]] = {}


def python_tests(tree: Path, arguments: list[str], name: str) -> tuple[int, list[str], str]:
    """Run pytest in a copy of the tree."""
    environment = os.environ | {
        "POLOS_PLANTED": name,
        "PYTHONPATH": str(tree / "python"),
        "VIRTUAL_ENV": str(ROOT / ".venv"),
    }
    command = [str(ROOT / ".venv" / "bin" / "python"), "-m", "pytest", "-x", "-q", "-rfE"]
    command += ["--no-header", "-p", "no:cacheprovider", f"--timeout={PYTEST_LIMIT}", *arguments]
    # A folder of its own: one that ends while another looks through theirs makes that one fail.
    with tempfile.TemporaryDirectory() as folder:
        command += ["--basetemp", f"{folder}/tests"]
        return run(command, tree, environment, failed=PYTEST_FAILED)


def link_tree(source: Path, place: Path, replaced: dict[str, str]) -> None:
    """Make a copy of the tree whose equal files are links."""
    shutil.rmtree(place, ignore_errors=True)
    skipped = {"src", "target", ".venv", "it", "optimized", "__pycache__", ".git"}
    shutil.copytree(
        source,
        place,
        copy_function=os.link,
        ignore=lambda _, names: [name for name in names if name in skipped],
    )
    (place / ".venv").symlink_to(ROOT / ".venv")
    for name, text in replaced.items():
        (place / name).unlink(missing_ok=True)
        (place / name).write_text(text)


def check_bug(bug: Bug, programs: list[Path], switch: str) -> Verdict:
    """Run the tests that have to catch a bug."""
    began = time.monotonic()
    is_caught, message = False, "not caught"
    place = TARGET / "python" / bug.name
    try:
        tree = TREE
        if python := patched(bug, {}, ".py"):
            link_tree(TREE, place, python)
            tree = place
        for arguments in [None, *bug.pytest]:
            if arguments is not None:
                code, names, output = python_tests(tree, arguments, switch)
            elif bug.tests:
                code, names, output = rust_tests(programs, bug.tests, switch)
            else:
                continue
            if code == 0:
                continue
            is_caught = bool(names)
            message = f"caught by {names[0]}" if names else f"broke off ({code}):\n{output}"
            break
    except Hung:
        message = "not caught: hangs"
    except PatchError as error:
        message = f"does not apply: {error}"
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return Verdict(bug, is_caught, message, time.monotonic() - began)


def check_without_bugs(bugs: list[Bug], programs: list[Path]) -> list[str]:
    """Run all named tests without a bug; return the failures."""
    wrong = []
    filters = sorted({name for bug in bugs for name in bug.tests})
    for bug in bugs:
        if not bug.tests and not bug.pytest:
            wrong.append(f"{bug.name} names no tests")
        wrong += [
            f"{bug.name}: no test matches `{wanted}`"
            for wanted in bug.tests
            if not any(listed(program, [wanted]) for program in programs)
        ]
    if wrong:
        return wrong

    def rust() -> list[str]:
        code, names, output = rust_tests(programs, filters, "") if filters else (0, [], "")
        return [f"fails without a bug: {' '.join(names)}\n{output}"] if code else []

    def python() -> list[str]:
        found = []
        tree = TARGET / "python" / "none"
        if any(bug.pytest for bug in bugs):
            link_tree(TREE, tree, {})
        for arguments in sorted({tuple(arguments) for bug in bugs for arguments in bug.pytest}):
            code, names, output = python_tests(tree, list(arguments), "")
            if code:
                what = " ".join(names) or " ".join(arguments)
                found.append(f"fails without a bug: {what}\n{output}")
        return found

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(rust), pool.submit(python)]
        try:
            return [line for one in both for line in one.result()]
        except Hung:
            return ["tests hang without a bug"]


# --- all of it ---------------------------------------------------------------------------------


def show(verdict: Verdict) -> None:
    sys.stdout.write(f"{verdict.bug.name}: {verdict.message} ({verdict.seconds:.0f} s)\n")
    sys.stdout.flush()


def load(names: list[str]) -> tuple[list[Bug], list[str]]:
    """Return the bugs, and the errors of patches that don't fit any more."""
    folder = ROOT / "tests" / "mutants"
    chosen = names or sorted(path.stem for path in folder.glob("*.patch"))
    bugs: list[Bug] = []
    wrong: list[str] = []
    for name in chosen:
        try:
            bug = patches.read(folder / f"{name}.patch")
            for file, hunks in bug.files.items():
                source = (ROOT / file).read_text()
                patches.changes(source, hunks, is_rust=file.endswith(".rs"))
        except (PatchError, OSError) as error:
            wrong.append(f"{name}: does not apply: {error}")
        else:
            bugs.append(bug)
    return bugs, wrong


def main() -> int:
    """Test all bugs, or the named ones; return the exit code."""
    parser = argparse.ArgumentParser(description="Plant bugs and show that the tests catch them.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    bugs, unfit = load(parser.parse_args().names)
    for line in unfit:
        sys.stdout.write(f"{line}\n")
    began = time.monotonic()
    TARGET.mkdir(parents=True, exist_ok=True)
    try:
        programs, files, alone = build_all(bugs)
    except BuildError as error:
        sys.exit(f"the copy of the tree doesn't build:\n{error}")
    built = time.monotonic()
    sys.stdout.write(f"{len(bugs)} planted bugs built in {built - began:.0f} s\n")
    sys.stdout.flush()
    if wrong := check_without_bugs(bugs, programs):
        sys.exit("\n".join(wrong))
    sys.stdout.write(f"their tests pass without them ({time.monotonic() - built:.0f} s)\n")
    sys.stdout.flush()

    verdicts = []
    # Copied, since bugs that are built separately replace them.
    with ThreadPoolExecutor(JOBS) as pool:
        switches = [bug for bug in bugs if bug.name not in alone]
        for verdict in pool.map(lambda bug: check_bug(bug, programs, bug.name), switches):
            show(verdict)
            verdicts.append(verdict)
    for bug in bugs:
        if bug.name in alone:
            verdict = check_separately(bug, files)
            show(verdict)
            verdicts.append(verdict)
    caught = sum(verdict.is_caught for verdict in verdicts)
    minutes = (time.monotonic() - began) / 60
    total = len(bugs) + len(unfit)
    sys.stdout.write(f"{caught} of {total} planted bugs caught, in {minutes:.1f} minutes\n")
    for verdict in verdicts:
        if not verdict.is_caught:
            sys.stdout.write(f"  not caught: {verdict.bug.name}\n")
    for line in unfit:
        sys.stdout.write(f"  {line}\n")
    return 0 if caught == total else 1


def check_separately(bug: Bug, files: dict[str, str]) -> Verdict:
    """Build a bug that isn't a switch, and run its tests."""
    began = time.monotonic()
    try:
        # In the unchanged files: switches may have split the lines around it.
        plain = {name: text for name, text in files.items() if name not in bug.files}
        copy_tree(plain | patched(bug, {}, ".rs"))
        programs = build_tests()
        if bug.pytest:
            build_extension()
        verdict = check_bug(bug, programs, "")
    except BuildError as error:
        verdict = Verdict(bug, False, f"does not build:\n{error}")
    except PatchError as error:
        verdict = Verdict(bug, False, f"does not apply: {error}")
    verdict.seconds = time.monotonic() - began
    return verdict


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Rewrites planted bugs whose surroundings have changed, with the source as it is now.

    tests/mutants/refresh.py [NAME...]

A patch is found with fewer lines of context than it has, and white space doesn't count in Rust
files, so it survives most changes around it. After many of them it may fit elsewhere. Look at what
this program changes: it trusts the place that is found.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import patches
from patches import Bug
from rust_switches import Change, replaced

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]


def is_current(bug: Bug) -> bool:
    """Return whether all lines of a patch are in the source, wherever they are."""
    for name, hunks in bug.files.items():
        source = (ROOT / name).read_text()
        for hunk in hunks:
            old = "\n".join(line for sign, line in hunk.lines if sign in " -")
            if old not in source:
                return False
    return True


def whole_lines(source: str, change: Change) -> Change:
    """Return a change of Rust code as one of lines, where nothing else is on them."""
    start = source.rfind("\n", 0, change.start) + 1
    end = source.find("\n", change.end) + 1 or len(source)
    begins = not source[start : change.start].strip()
    ends = not source[change.end : end].strip()
    if change.start == change.end and begins:
        return Change(start, start, change.text.removeprefix("\n"))
    if begins and ends:
        return Change(start, end, change.text)
    return Change(change.start, change.end, change.text.strip())


def rewritten(text: str, bug: Bug) -> str:
    """Return the text of a patch file with its hunks as they are now."""
    head = []
    for line in text.splitlines():
        if line.startswith(("diff --git ", "--- ")):
            break
        head.append(line)
    result = "\n".join(head).rstrip("\n") + "\n\n"
    for name, hunks in bug.files.items():
        source = (ROOT / name).read_text()
        is_rust = name.endswith(".rs")
        found = patches.changes(source, hunks, is_rust=is_rust)
        if is_rust:
            found = [whole_lines(source, change) for change in found]
        changed = replaced(source, found)
        result += "".join(
            difflib.unified_diff(
                source.splitlines(keepends=True),
                changed.splitlines(keepends=True),
                f"a/{name}",
                f"b/{name}",
            )
        )
    return result


def main() -> None:
    names = sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.patch"))
    for name in names:
        path = FOLDER / f"{name}.patch"
        bug = patches.read(path)
        if not is_current(bug):
            path.write_text(rewritten(path.read_text(), bug))
            sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()

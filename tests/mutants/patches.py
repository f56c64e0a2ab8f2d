"""Reads the patch files of planted bugs and finds the text that they change.

The text is found by its content, not by its line number, and white space doesn't matter in Rust
files. So a patch survives most other changes to its file, and reformatting.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from rust_switches import Change


class PatchError(Exception):
    """A patch can't be read, or doesn't fit its file."""


@dataclass
class Hunk:
    """Some lines of a file and their replacement."""

    # The line at which the hunk began when the patch was written.
    line: int
    # The prefix of each line (" ", "-" or "+") and the line.
    lines: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Bug:
    """A planted bug: one file of `tests/mutants`."""

    name: str
    about: str
    tests: list[str]
    pytest: list[list[str]]
    files: dict[str, list[Hunk]]


def read(path: Path) -> Bug:
    """Read the bug of a patch file."""
    return parse(path.stem, path.read_text())


def parse(name: str, patch: str) -> Bug:
    """Read a bug from the text of a patch file."""
    about: list[str] = []
    tests: list[str] = []
    pytest: list[list[str]] = []
    files: dict[str, list[Hunk]] = {}
    hunks: list[Hunk] | None = None
    for line in patch.splitlines():
        if line.startswith("+++ "):
            hunks = files.setdefault(re.sub(r"^b/", "", line[4:].split("\t")[0].strip()), [])
        elif line.startswith(("diff --git ", "index ", "--- ")) and (not hunks or is_header(line)):
            continue
        elif (found := re.match(r"@@ -(\d+)", line)) and hunks is not None:
            hunks.append(Hunk(int(found[1])))
        elif hunks:
            hunks[-1].lines.append((line[:1] or " ", line[1:]))
        elif line.startswith("tests: "):
            tests += line[7:].split()
        elif line.startswith("pytest: "):
            pytest.append(shlex.split(line[8:]))
        elif line and hunks is None:
            about.append(line)
    if not about or not files or not all(files.values()):
        raise PatchError("it doesn't describe the bug, or changes nothing")
    for changed in files.values():
        for hunk in changed:
            # Blank lines between two files, or at the end.
            while hunk.lines and hunk.lines[-1] == (" ", ""):
                hunk.lines.pop()
    return Bug(name, " ".join(about), tests, pytest, files)


def is_header(line: str) -> bool:
    return line.startswith(("diff --git a/", "index ", "--- a/", "--- /dev/null"))


def changes(source: str, hunks: list[Hunk], *, is_rust: bool) -> list[Change]:
    """Return the changes of a patch to a file."""
    found = []
    for hunk in hunks:
        lines = hunk.lines
        change = None
        # With fewer and fewer context lines, like `patch --fuzz`, but not with none at all.
        while change is None:
            change = locate(source, Hunk(hunk.line, lines), is_rust=is_rust)
            shorter = lines[1:] if lines[0][0] == " " else lines
            shorter = shorter[:-1] if shorter[-1][0] == " " else shorter
            if len(shorter) == len(lines) or not any(is_context(line) for line in shorter):
                break
            lines = shorter
        if change is None:
            raise PatchError(f"the hunk of line {hunk.line} doesn't fit")
        found.append(change)
    return found


def is_context(line: tuple[str, str]) -> bool:
    """Return whether a line distinguishes one place from another."""
    sign, text = line
    return sign == " " and text.strip(" })];,") != ""


def locate(source: str, hunk: Hunk, *, is_rust: bool) -> Change | None:
    """Find the old lines of a hunk; if there are several matches, the nearest to its line."""
    lines = hunk.lines
    head = next((n for n, (sign, _) in enumerate(lines) if sign != " "), len(lines))
    tail = next((n for n, (sign, _) in enumerate(reversed(lines)) if sign != " "), 0)
    middle = lines[head : len(lines) - tail]

    def pattern(part: list[tuple[str, str]]) -> str:
        old = [line for sign, line in part if sign in " -"]
        if is_rust:
            letters = re.sub(r"\s", "", "".join(old))
            return r"\s*".join(re.escape(letter) for letter in letters)
        return "".join(re.escape(line) + r"(?:\n|\Z)" for line in old)

    join = r"\s*" if is_rust else ""
    parts = (lines[:head], middle, lines[len(lines) - tail :])
    whole = join.join(f"({pattern(part)})" for part in parts)
    if not is_rust:
        whole = "^" + whole
    places = list(re.finditer(whole, source, re.MULTILINE))
    if not places:
        return None
    place = min(places, key=lambda at: abs(source.count("\n", 0, at.start()) + 1 - hunk.line))
    new = "".join(line + "\n" for sign, line in middle if sign in " +")
    start, end = place.span(2)
    # A pure insertion begins on a new line.
    return Change(start, end, "\n" + new if is_rust and start == end else new)

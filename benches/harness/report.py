"""``RESULTS.md``: a section for each row. A row that is run alone replaces its own section."""

from __future__ import annotations

import os
import platform
import re
import sys
from datetime import datetime, timezone
from pathlib import Path

from harness.environments import Environments
from harness.measured import CaseResult, Results, Summary, met
from harness.model import BENCHES, Case, Figure, Goal, Row

RESULTS = BENCHES / "RESULTS.md"

INTRODUCTION = """\
# Results

Written by `make bench`; [README.md](README.md) says how it is measured. All goals are ratios of
what ran in turns on one machine: absolute times mean little elsewhere. Medians of the rounds, and
in brackets the least and the most.
"""


def merged(existing: str, sections: dict[str, str], order: list[str]) -> str:
    """Replace the sections of the same names in a report; others stay."""
    known = dict(re.findall(r"<!-- row: (\S+) -->\n(.*?)<!-- end -->", existing, re.DOTALL))
    known.update(sections)
    rows = [name for name in order if name in known]
    text = INTRODUCTION + "\n" + overview({name: known[name] for name in rows})
    for name in rows:
        text += f"\n<!-- row: {name} -->\n{known[name]}<!-- end -->\n"
    return text


def overview(sections: dict[str, str]) -> str:
    """Count the reached goals of each row, from the sections' tables."""
    lines = ["| row | goals met | not met |", "| --- | --- | --- |"]
    for name, text in sections.items():
        title = text.partition("\n")[0].removeprefix("## ")
        good, bad = text.count("| met |\n"), text.count("| **not met** |\n")
        if good or bad:
            lines.append(
                f"| [{title}](#{anchor(title)}) (`make bench ROW={name}`) | {good} | {bad} |"
            )
    return "\n".join(lines) + "\n"


def anchor(title: str) -> str:
    """Return the anchor of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def section(row: Row, results: Results, environments: Environments, rounds: int) -> str:
    """Write the section of one row."""
    parts = [f"## {row.title}", row.what]
    if row.goals:
        parts.append(goal_table(row, results))
    parts += [case_table(row, case, results) for case in row.cases if case.name in results.cases]
    parts.append("\n".join(f"- {line}" for line in row.fairness))
    for name in row.plots:
        if results.cases:
            parts.append(f"![{row.title}](../docs/plots/{name})")
    parts.append(conditions(row, results, environments, rounds))
    return "\n\n".join(parts) + "\n"


def goal_table(row: Row, results: Results) -> str:
    """Write the table of goals and results."""
    lines = ["| goal | found | |", "| --- | --- | --- |"]
    for goal in row.goals:
        if goal.value.split("/")[0] in results.cases:
            found = results.value_of(goal)
            lines.append(f"| {goal.text} | {shown(goal, found)} | {verdict(goal, found)} |")
    return "\n".join(lines)


def shown(goal: Goal, found: Summary | None) -> str:
    """Format a ratio, difference, or value, with its spread."""
    if found is None:
        return ""
    unit = " x" if goal.over else f" {goal.unit}" if goal.unit else ""
    return f"{number(found.median)}{unit} ({number(found.least)} to {number(found.most)})"


def verdict(goal: Goal, found: Summary | None) -> str:
    """Return whether the goal is met."""
    return {True: "met", False: "**not met**", None: "not measured"}[met(goal, found)]


def case_table(row: Row, case: Case, results: Results) -> str:
    """Write a table of sides and figures, or a list for one side with many figures (criterion)."""
    result = results.cases[case.name]
    notes = [f"{side} failed: `{why.splitlines()[-1]}`" for side, why in result.failures.items()]
    if not result.rounds:
        table = "No round without a change of the disk: nothing was measured."
    elif len(case.sides) == 1:
        table = single_side(row, case, results)
    else:
        table = side_table(row.figures, case, results)
    return "\n\n".join([f"**{case.name}**{disk(result)}", table, *notes])


def disk(result: CaseResult) -> str:
    """Describe the results of the disk probe."""
    output = []
    if result.probes_ms:
        low, high = min(result.probes_ms), max(result.probes_ms)
        output.append(f"a synced write of 4 KiB took {low:.2g} to {high:.2g} ms")
    if result.thrown:
        output.append(f"{result.thrown} rounds thrown away, in which that changed twofold")
    return f" ({'; '.join(output)})" if output else ""


def side_table(figures: tuple[Figure, ...], case: Case, results: Results) -> str:
    """Write a line for each side and a column for each figure."""
    columns = [
        figure
        for figure in figures
        if any(results.summary(f"{case.name}/{side.name}/{figure.key}") for side in case.sides)
    ]
    heads = [f"{figure.title}{f', {figure.unit}' if figure.unit else ''}" for figure in columns]
    lines = [f"| | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}"]
    for side in case.sides:
        cells = [cell(results.summary(f"{case.name}/{side.name}/{f.key}")) for f in columns]
        lines.append(f"| {side.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def single_side(row: Row, case: Case, results: Results) -> str:
    """Write a line for each figure."""
    side = case.sides[0].name
    lines = ["| | |", "| --- | --- |"]
    for figure in row.figures:
        found = results.summary(f"{case.name}/{side}/{figure.key}")
        if found is not None:
            lines.append(f"| {figure.title} | {cell(found)} {figure.unit} |")
    return "\n".join(lines)


def cell(found: Summary | None) -> str:
    """Format median and spread."""
    if found is None:
        return ""
    if found.least == found.most:
        return number(found.median)
    return f"{number(found.median)} ({number(found.least)} to {number(found.most)})"


def number(value: float) -> str:
    """Format a number with three significant digits."""
    if value and abs(value) < 0.01:
        return f"{value:.1e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def conditions(row: Row, results: Results, environments: Environments, rounds: int) -> str:
    """Describe date, machine, and versions."""
    names = dict.fromkeys(side.env for case in row.cases for side in case.sides)
    versions = [text for name in names if (text := environments.get(name).versions)]
    counts = {len(result.rounds) for result in results.cases.values()}
    done = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(max(counts, default=0))
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return f"{done} of {rounds} rounds, {today}; {machine()}; {'; '.join(versions)}."


def machine() -> str:
    """Describe the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.release().split('-')[0]}, load {load:.1f} at the end; Python "
        f"{platform.python_version()} ({sys.implementation.name})"
    )


def processor() -> str:
    """Return the name of the processor if the system has it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()

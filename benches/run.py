"""Runs the benchmark: every row, or the named ones; writes ``RESULTS.md`` and the plots.

make bench                       # everything, about half an hour
make bench ROW=herd              # one row; ROW='herd steps' runs two
make bench ROW=herd ROUNDS=7     # more rounds than 5
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from pathlib import Path

from cases import ROWS
from harness import report
from harness.environments import Environments, say
from harness.measured import Results
from harness.model import ROOT, WORK, Row
from harness.rounds import Runner

PLOTS = ROOT / "docs" / "plots"
ROUNDS = 5


def main() -> int:
    """Run what the command line says; 1 if a side failed."""
    options = arguments()
    rows = [row for row in ROWS if row.name in options.rows] if options.rows else list(ROWS)
    WORK.mkdir(parents=True, exist_ok=True)
    # Like Ctrl-C: the running program is ended, and its folder is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    environments = Environments(upgrade=options.upgrade)
    runner = Runner(environments, options.rounds)
    begun, failed = time.monotonic(), False
    with contextlib.closing(runner):
        for number, row in enumerate(rows):
            left = sum(each.minutes for each in rows[number:]) * options.rounds / ROUNDS
            say(f"{row.title} ({number + 1} of {len(rows)}; about {left:.0f} minutes to go)")
            results = measured(row, runner, options.store)
            failed |= any(case.failures for case in results.cases.values())
            written = report.section(row, results, environments, options.rounds)
            say("\n" + report.goal_table(row, results) + "\n" if row.goals else "")
            publish(row, results, written, options)
    say(f"{(time.monotonic() - begun) / 60:.1f} minutes; see {options.results}")
    return int(failed)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [row.name for row in ROWS]
    parser.add_argument("rows", nargs="*", metavar="row", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often sides take turns")
    parser.add_argument("--store", choices=["sqlite", "postgres"], help="only cases on this one")
    parser.add_argument("--upgrade", action="store_true", help="look for newer peers")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="where to write")
    parser.add_argument("--plots", type=Path, default=PLOTS, help="where to draw")
    options = parser.parse_args()
    unknown = set(options.rows) - set(names)
    if unknown:
        parser.error(f"unknown row `{unknown.pop()}`; there are: {', '.join(names)}")
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds} given, expected 1 or more")
    return options


def measured(row: Row, runner: Runner, store: str | None) -> Results:
    """Measure all cases of the row, or those on this store."""
    results = Results()
    for case in row.cases:
        if store in (None, case.store):
            results.cases[case.name] = runner.run(case)
    return results


def publish(row: Row, results: Results, written: str, options: argparse.Namespace) -> None:
    """Write the report and the plots after each row, so that an interrupted run has results."""
    existing = options.results.read_text() if options.results.exists() else ""
    order = [each.name for each in ROWS]
    options.results.write_text(report.merged(existing, {row.name: written}, order))
    for name, draw in row.plots.items():
        drawn = draw(results)
        if drawn:
            options.plots.mkdir(parents=True, exist_ok=True)
            (options.plots / name).write_text(drawn)


if __name__ == "__main__":
    sys.exit(main())

"""Injects faults into workers, and checks the invariants afterwards.

``python tests/torture/run.py [F1 F4 ...] [--scale short|full|0.2] [--seed N]
[--store sqlite|postgres] [--server URL] [--keep FOLDER]``

Without ``--store``: all faults on SQLite, and those that concern both stores on PostgreSQL too.
Without ``--server``: on a new server that syncs its commits.

The return code is 1 if an invariant is violated, and 3 if none is violated and a fault couldn't be
injected here.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "python"), str(HERE)]

import faults  # noqa: E402
from checker import Verdict  # noqa: E402

from harness import Bench, NotRunError  # noqa: E402
from polos import PolosError  # noqa: E402

SHORT = 0.04

# Faults without their own server that may behave differently on PostgreSQL.
ON_SERVERS = ["F1", "F4", "F5", "F5b", "F6", "F6b", "F7", "F7b", "F8", "F11", "F24", "F31"]
ON_SERVERS += ["F41", "F42", "F42b", "F50", "F51", "F52", "F61", "F70", "F70b", "F71", "F72", "F73"]
ON_SERVERS += ["F75", "F75b", "F76"]
NOT_RUN = 3


def by_number(name: str) -> tuple[int, str]:
    """Sort F7b between F7 and F8."""
    digits = name[1:].rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(digits), name


FAULTS: dict[str, Callable[[Bench], None]] = {}
for found in pkgutil.iter_modules(faults.__path__):
    FAULTS.update(importlib.import_module(f"faults.{found.name}").FAULTS)
NAMES = sorted(FAULTS, key=by_number)


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a PostgreSQL server that syncs its commits; yield its URL."""
    script = HERE.parents[1] / "scripts" / "postgres-for-tests"
    with subprocess.Popen(
        [sys.executable, str(script), "--durable"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit("there is no PostgreSQL server, see above")
        yield url
        process.stdin.close()


def torture(
    name: str, scale: float, seed: int, ticks: int, keep: Path | None, database: str | None
) -> tuple[Bench, str | None]:
    """Inject one fault in its own folder; return why it was not run, if so."""
    verdict = Verdict()
    folder = Path(tempfile.mkdtemp(prefix=f"polos-{name}-", dir=keep))
    not_run = None
    with Bench(folder, scale, seed, verdict, database) as bench:
        bench.ticks = ticks
        try:
            FAULTS[name](bench)
        except NotRunError as error:
            not_run = str(error)
        except (AssertionError, PolosError) as error:
            verdict.violations.append(f"{name} could not be carried out: {error!r}")
    if verdict.violations:
        print(f"{name}: see {folder}")  # noqa: T201
    elif keep is None:
        shutil.rmtree(folder)
    return bench, not_run


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--scale", default="short", help="short, full, or a factor of full")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--ticks", type=int, default=4, help="schedules declared by the workers")
    parser.add_argument("--store", choices=["sqlite", "postgres"], help="only on this one")
    parser.add_argument("--server", metavar="URL", help="use this PostgreSQL server")
    parser.add_argument("--keep", type=Path, help="keep all folders, in this one")
    options = parser.parse_args()
    if unknown := set(options.faults) - set(FAULTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options


def heed_signals() -> None:
    """Continue under nohup and in the background of a shell script.

    The programs that this one starts must react to SIGHUP and SIGINT. They would inherit that
    a signal is ignored, but not a handler.
    """
    for name in ("SIGHUP", "SIGINT"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def main() -> int:
    options = arguments()
    heed_signals()
    names = options.faults or NAMES
    # Faults that were asked for by name are tried on any store; most others are about files.
    is_asked_for = options.faults and options.store
    on_servers = names if is_asked_for else [name for name in names if name in ON_SERVERS]
    codes = set()
    if options.store != "postgres":
        codes.add(run(options, names, None))
    if options.store != "sqlite" and on_servers:
        with nullcontext(options.server) if options.server else postgres_server() as url:
            codes.add(run(options, on_servers, url))
    return next((code for code in (1, NOT_RUN) if code in codes), 0)


def run(options: argparse.Namespace, names: Sequence[str], url: str | None) -> int:
    """Inject these faults, on SQLite or on this server."""
    named = {"short": SHORT, "full": 1.0}
    scale = named[options.scale] if options.scale in named else float(options.scale)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)

    def say(text: str) -> None:
        print(text, flush=True)  # noqa: T201

    say(f"{'PostgreSQL' if url else 'SQLite'}, seed {seed}, scale {scale:g}")
    say("| fault | injections | invariants (checks) | violations | seconds |")
    say("| --- | --- | --- | --- | --- |")
    remarks: list[str] = []
    is_violated = is_incomplete = False
    for name in names:
        start = time.monotonic()
        database = url and f"{url}{'&' if '?' in url else '?'}schema=torture_{name.lower()}"
        bench, not_run = torture(name, scale, seed, options.ticks, options.keep, database)
        invariants = ", ".join(
            f"{invariant} ({count})"
            for invariant, count in sorted(
                bench.verdict.checked.items(), key=lambda item: by_number(item[0])
            )
        )
        found = bench.verdict.violations
        seconds = time.monotonic() - start
        if not_run is not None:
            invariants = f"NOT RUN: {not_run}"
            is_incomplete = True
        say(f"| {name} | {bench.injections} | {invariants} | {len(found)} | {seconds:.0f} |")
        remarks += [f"{name}: {text}" for text in bench.remarks]
        remarks += [f"{name} {text}" for text in found[:20]]
        is_violated = is_violated or bool(found)
    for text in remarks:
        say(text)
    return 1 if is_violated else NOT_RUN if is_incomplete else 0


if __name__ == "__main__":
    sys.exit(main())

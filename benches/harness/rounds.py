"""Runs the sides of a case in turns, and discards rounds in which the disk changed."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import probe
from harness.environments import Environment, Environments, say
from harness.measured import CaseResult
from harness.model import BENCHES, WORK, Case, Side
from harness.server import Server
from harness.stored import Stored

RAM = Path("/dev/shm")


# How often a side that was not ready in time gets twice the time to prepare.
LONGER_LEADS = 3


class SideError(Exception):
    """A side had no result; the message is the end of its output."""


class TooLateError(SideError):
    """The side was still preparing when its schedules came due."""


class Runner:
    """Runs cases."""

    def __init__(self, environments: Environments, rounds: int) -> None:
        self._environments = environments
        self._rounds = rounds
        self._stored = Stored(self.once)
        self._longer: dict[str, float] = {}
        self._server = Server()

    def close(self) -> None:
        """Stop the server."""
        self._server.close()

    def run(self, case: Case) -> CaseResult:
        """Run all rounds of the case; at most twice as many as required are begun."""
        result = CaseResult()
        for side in case.sides:
            self._environments.get(side.env)
        with self._stored.copies(self._environments, case) as folders:
            for _ in range(self._rounds * 2):
                if len(result.rounds) == self._rounds:
                    break
                self._round(case, folders, result)
        return result

    def _round(self, case: Case, folders: dict[str, Path], result: CaseResult) -> None:
        before = probe.sync_ms(WORK) if case.on_disk else 0.0
        figures: dict[str, dict[str, Any]] = {}
        # The order changes from round to round, so that no side always follows the same one.
        turn = (len(result.rounds) + result.thrown) % len(case.sides)
        for side in case.sides[turn:] + case.sides[:turn]:
            if side.name in result.failures:
                continue
            try:
                with self._database(case) as url:
                    place = {"url": url} if url else {}
                    asked = replace(side, options={**side.options, **place})
                    figures[side.name] = self._side(asked, folders.get(side.name))
            except SideError as error:
                result.failures[side.name] = str(error)
                say(f"    {side.name} failed: {error}")
        after = probe.sync_ms(WORK) if case.on_disk else 0.0
        label = f"  {case.name}, round {len(result.rounds) + 1} of {self._rounds}"
        if case.on_disk and probe.differ(before, after):
            result.thrown += 1
            say(f"{label}: thrown away, synced writes took {before:.2f} ms, then {after:.2f}")
            return
        result.rounds.append(figures)
        if case.on_disk:
            result.probes_ms += [before, after]
            label += f" (synced write {before:.2f} ms)"
        say(label)

    def _database(self, case: Case) -> AbstractContextManager[str]:
        """Yield an empty database on a server if the case needs one."""
        return self._server.database() if case.store == "postgres" else nullcontext("")

    def _side(self, side: Side, folder: Path | None) -> dict[str, Any]:
        environment = self._environments.get(side.env)
        found = [self._in_time(environment, side, folder) for _ in range(side.repeats)]
        if side.repeats == 1:
            return found[0]
        return {key: statistics.median(each[key] for each in found) for key in found[0]}

    def _in_time(self, environment: Environment, side: Side, folder: Path | None) -> dict[str, Any]:
        """Run one process; give it more time to prepare if it needs that."""
        longer = f"{side.script} {side.options.get('count')}"
        while True:
            factor = self._longer.get(longer, 1)
            slower = side
            if factor > 1:
                slower = replace(
                    side, options={**side.options, "lead": side.options["lead"] * factor}
                )
            try:
                return self.once(environment, slower, folder)
            except TooLateError:
                if factor >= 2**LONGER_LEADS:
                    raise
                self._longer[longer] = factor * 2
                say(f"    {side.name} was not prepared in time; it gets {factor * 2} x the time")

    def once(self, environment: Environment, side: Side, folder: Path | None) -> dict[str, Any]:
        """Run one process in an empty or in the given folder."""
        if folder is not None:
            return launch(environment, side, folder)
        with _empty_folder(on_ram=side.on_ram) as place:
            return launch(environment, side, place)


@contextmanager
def _empty_folder(*, on_ram: bool) -> Iterator[Path]:
    if on_ram and not RAM.is_dir():
        raise SideError(f"there is no RAM disk at {RAM}")
    folder = Path(tempfile.mkdtemp(prefix="polos-bench-", dir=RAM if on_ram else WORK))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def launch(environment: Environment, side: Side, folder: Path) -> dict[str, Any]:
    """Run the side's program; return the JSON of its last line."""
    command = [str(environment.interpreter), str(BENCHES / side.script), "--folder", str(folder)]
    for name, value in side.options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    # The caller's settings for Python or polos must not affect only some of the sides.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "POLOS_", "VIRTUAL_ENV"))
    }
    own = {"PYTHONPATH": str(BENCHES / "common"), "BENCH_STARTED": repr(time.time())}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**inherited, **environment.variables, **own},
            capture_output=True,
            text=True,
            timeout=side.timeout,
        )
    except subprocess.TimeoutExpired:
        raise SideError(f"no result within {side.timeout:.0f} s") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        output = (done.stderr.strip() or f"code {done.returncode}")[-1500:]
        raise (TooLateError if "--lead" in output else SideError)(output)
    figures: dict[str, Any] = json.loads(lines[-1])
    return figures

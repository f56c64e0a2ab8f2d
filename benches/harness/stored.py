"""Databases that hold many schedules: made once, kept for the next time, used as copies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.environments import Environment, Environments, say, wheel_mark
from harness.model import WORK, Case, Side

Launch = Callable[[Environment, Side, Path], dict[str, Any]]


class Stored:
    """The databases, below ``target/bench/stored``."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch

    @contextmanager
    def copies(self, environments: Environments, case: Case) -> Iterator[dict[str, Path]]:
        """A folder with a copy for each side that wants one, by the side's name."""
        folders: dict[str, Path] = {}
        for side in case.sides:
            if side.stored:
                made = self._made(environments.get(side.env), side)
                folders[side.name] = WORK / "copies" / f"{side.env}-{side.stored}"
                shutil.rmtree(folders[side.name], ignore_errors=True)
                shutil.copytree(made, folders[side.name])
        # What the copies left to be written must not be written while something is measured.
        os.sync()
        yield folders
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)

    def _made(self, environment: Environment, side: Side) -> Path:
        folder = WORK / "stored" / f"{side.env}-{side.stored}"
        mark = wheel_mark() if side.env == "polos" else environment.versions
        marked = folder.with_suffix(".made-by")
        if not marked.exists() or marked.read_text() != mark:
            say(f"  storing {side.stored:,} schedules with {side.env}")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            script = str(Path(side.script).parent / "store.py")
            store = Side(side.name, script, side.env, {"count": side.stored}, timeout=900)
            self._launch(environment, store, folder)
            marked.write_text(mark)
        return folder

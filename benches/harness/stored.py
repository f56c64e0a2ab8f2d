"""Databases with many schedules: made once, kept, and copied for each use."""

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
    """The databases in ``target/bench/stored``."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch

    @contextmanager
    def copies(self, environments: Environments, case: Case) -> Iterator[dict[str, Path]]:
        """Yield a folder with a copy for each side that needs one, by the side's name."""
        folders: dict[str, Path] = {}
        for side in case.sides:
            if side.stored:
                made = self._made(environments.get(side.env), side)
                folders[side.name] = WORK / "copies" / f"{side.env}-{side.stored}"
                shutil.rmtree(folders[side.name], ignore_errors=True)
                shutil.copytree(made, folders[side.name])
        # Dirty pages of the copies must not be written during the measurement.
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

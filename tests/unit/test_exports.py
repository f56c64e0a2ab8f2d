"""The names of `import polos`, and what is imported lazily."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import polos

# What `import polos` may load. Each further module makes every program start later, so one that
# only a worker or few programs need is imported where it is needed.
EARLY = {
    "polos": "_polos _setup client exceptions runs schedules workflow",
    "polos._codec": "class_refs codec format known_classes",
    "polos._core": "addressing blocking bridge drafts fork_safety instants location own_thread "
    "per_loop real_datetime requests safe_logging specs",
    "polos._display": "notebook",
    "polos._runtime": "backoff current_run registry threads waiting_notice",
    "polos._validate": "arguments formatting limits payloads retry_on run_starts schedule_options "
    "signature",
}
# It takes a third of a millisecond to create one: the module dataclasses compiles its methods.
EARLY_DATACLASSES = {"Backoff", "Explanation", "PutResult"}

# asyncio itself imports modules, such as `pathlib` on Python 3.15.
IMPORT = """
import sys
import asyncio
of_asyncio = set(sys.modules)
import polos
from dataclasses import is_dataclass
from typing import is_typeddict

mine = {name: module for name, module in sys.modules.items() if name.startswith("polos")}
classes = [item for module in mine.values() for item in vars(module).values()
           if isinstance(item, type) and item.__module__ == module.__name__]
print(*mine)
print(*{item.__name__ for item in classes if is_dataclass(item)})
print(*[item.__name__ for item in classes if is_typeddict(item)])
later = {"pydantic", "concurrent.futures.thread"}
later |= {"hashlib", "html", "pathlib", "platform", "sqlite3", "uuid"}
print(*(later & sys.modules.keys()) - of_asyncio)
"""


def test_the_import_loads_only_what_every_program_needs() -> None:
    command = [sys.executable, "-I", "-c", IMPORT]
    answer = subprocess.run(command, check=True, timeout=60, stdout=subprocess.PIPE, text=True)
    modules, dataclasses, typed_dicts, later = map(str.split, answer.stdout.split("\n")[:4])
    allowed = {*EARLY}
    for package, names in EARLY.items():
        allowed |= {f"{package}.{name}" for name in names.split()}
    assert sorted(set(modules) - allowed) == []
    assert sorted(allowed - set(modules)) == [], "no longer loaded: take it off the list"
    assert set(dataclasses) == EARLY_DATACLASSES
    assert typed_dicts == []
    assert later == []


LATER = """
import sys
import polos
assert polos.Worker.__module__ == "polos.worker"
assert "polos._runtime.executor" not in sys.modules
assert polos.calendars.__name__ == "polos.calendars"
assert polos.payload.SchedulePayload is polos.SchedulePayload
assert "pydantic.main" in sys.modules
assert polos.Run.__module__ == "polos.models"
"""


def test_other_modules_are_loaded_when_a_name_is_first_used() -> None:
    subprocess.run([sys.executable, "-I", "-c", LATER], check=True, timeout=60)


WORKER = """
import asyncio, sys
from datetime import datetime
import polos

@polos.workflow
async def following(ctx: polos.WorkflowContext, day: datetime) -> datetime:
    return await ctx.step.run("add", next_day, day)

async def next_day(day: datetime) -> datetime:
    return day.replace(day=2)

async def main() -> None:
    async with polos.PolosClient() as client:
        async with polos.Worker(client):
            started = set(sys.modules)
            await following.run(client, datetime(2026, 1, 1))
            loaded = sorted(sys.modules.keys() - started)
            print(*[name for name in loaded if name.startswith(("polos", "pydantic"))])

asyncio.run(main())
"""


@pytest.mark.files
def test_a_first_run_imports_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-c", WORKER]
    answer = subprocess.run(
        command, check=True, timeout=60, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert answer.stdout.split() == []


@pytest.mark.parametrize("name", polos.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(polos, name) is not None
    assert name in dir(polos)


def test_a_name_that_isnt_there_is_said_to_be_missing() -> None:
    with pytest.raises(AttributeError, match="'polos' has no attribute 'sheduler'"):
        polos.sheduler  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Sheduler' from 'polos'"):
        from polos import Sheduler  # type: ignore[attr-defined]  # noqa: F401

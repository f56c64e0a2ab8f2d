"""What README, docs and examples say is what happens."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import re
import subprocess
import sys
import types
from collections.abc import Callable
from datetime import datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import polos.testing
from polos import PolosClient, Worker, schedules
from polos.workflow import registry

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CHANGES = ROOT / "docs" / "clock-changes.md"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def blocks(path: Path) -> list[Any]:
    """The Python blocks of a document, each as (first line's number, code)."""
    text = path.read_text()
    found = re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    places = [(text.count("\n", 0, match.start(1)) + 1, match.group(1)) for match in found]
    return [pytest.param(line, code, id=f"line-{line}") for line, code in places]


def rows(path: Path, header: str) -> list[list[str]]:
    """The cells of the table that begins with ``header``."""
    after = path.read_text().partition(f"\n{header}")[2]
    assert after, f"{path.name} has no table `{header}`"
    table = after.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


class WebApplication:
    """As much of FastAPI as the documents use."""

    def __init__(self, lifespan: Any = None) -> None:
        self.lifespan = lifespan

    def put(self, path: str) -> Callable[[Any], Any]:
        return lambda handler: handler

    get = put


@pytest.fixture(autouse=True)
def _web_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI is no dependency: a stand-in, whether it is installed or not."""
    web = types.ModuleType("fastapi")
    web.FastAPI = WebApplication  # type: ignore[attr-defined]
    web.HTTPException = RuntimeError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fastapi", web)


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], types.ModuleType]:
    """Executes a block as a module of its own, with the document's line numbers."""

    def call(line: int, code: str) -> types.ModuleType:
        module = types.ModuleType("readme_block")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile("\n" * (line - 1) + code, str(README), "exec"), module.__dict__)
        return module

    return call


async def live_through_some_days() -> dict[str, int]:
    """Have all that is declared run from a Friday over the first of a month; how often it ran."""
    async with polos.testing.clock("2026-11-27T00:00:00+00:00") as clock:
        await clock.advance(days=5)
        ended = await clock.runs()
        assert [run for run in ended if run.status != "succeeded"] == []
    counts = dict.fromkeys(registry(), 0)
    for run in ended:
        counts[run.workflow] += 1
    return counts


@pytest.mark.parametrize(("line", "code"), blocks(README))
def test_every_block_of_the_readme_runs(
    line: int, code: str, execute: Callable[[int, str], types.ModuleType]
) -> None:
    execute(line, code)
    declared = [w.id for w in registry().values() if w.schedule not in (None, True)]
    if declared:
        counts = asyncio.run(live_through_some_days())
        assert all(counts[id] for id in declared)


def test_the_first_example_prints_what_it_promises(
    execute: Callable[[int, str], types.ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    execute(*blocks(README)[0].values)
    asyncio.run(live_through_some_days())
    assert capsys.readouterr().out.splitlines() == [
        "Friday: 200, next on Monday",
        "Monday: 200, next on Tuesday",
        "Tuesday: 200, next on Wednesday",
    ]


def test_the_web_application_subscribes_and_works(
    execute: Callable[[int, str], types.ModuleType],
) -> None:
    (block,) = [b for b in blocks(README) if "fastapi" in b.values[1]]
    module = execute(*block.values)

    async def serve() -> str:
        async with module.app.lifespan(module.app):
            id = await module.subscribe("ada", hour=8, timezone="Europe/London")
            handle = await schedules.trigger(module.client, id)
            await handle.result(timeout=30)
            return (await schedules.get(module.client, id)).key

    assert asyncio.run(serve()) == "ada"


def test_the_table_of_policies_names_arguments_of_create() -> None:
    parameters = inspect.signature(schedules.create).parameters
    for names, *_ in rows(README, "| policy |"):
        for name in re.findall(r"`(\w+)`", names):
            assert name in parameters


def test_the_table_of_the_payload_names_its_fields() -> None:
    told = [
        name for cells in rows(README, "| field |") for name in re.findall(r"`(\w+)`", cells[0])
    ]
    assert sorted(told) == sorted(polos.SchedulePayload.model_fields)


def test_links_lead_to_files() -> None:
    for document in (README, ROOT / "CONTRIBUTING.md", CHANGES):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize(("cron", "zone", "day", "expected"), rows(CHANGES, "| cron | zone |"))
def test_the_table_of_clock_changes_is_true(cron: str, zone: str, day: str, expected: str) -> None:
    cron, zone = cron.strip("`"), zone.strip("`")
    start = datetime.combine(datetime.fromisoformat(day), time(0), ZoneInfo(zone))
    before = start.astimezone(timezone.utc) - timedelta(minutes=1)
    slots = schedules.preview(cron, zone, count=60, after=before)
    that_day = [slot for slot in slots if f"{slot:%Y-%m-%d}" == day]
    told = expected.split(", ") if expected else []
    assert [f"{s:%H:%M %Z}"[: len(t)] for s, t in zip(that_day, told, strict=True)] == told


# --- examples --------------------------------------------------------------------------------


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], types.ModuleType]:
    """Imports an example, as ``polos run`` does."""

    def call(name: str) -> types.ModuleType:
        spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return call


@pytest.mark.parametrize("name", [path.stem for path in EXAMPLES])
def test_examples_register_workflows(name: str, load: Callable[[str], types.ModuleType]) -> None:
    load(name)
    assert registry()


def test_every_30_seconds_is_just_that(
    load: Callable[[str], types.ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    load("every_30_seconds")

    async def minutes() -> None:
        async with polos.testing.clock("2026-11-23T12:00:10+00:00") as clock:
            await clock.advance(minutes=1)

    asyncio.run(minutes())
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("12:00:30  load ")
    assert second.startswith("12:01:00  load ")


def test_digests_go_to_each_user_at_eight(
    load: Callable[[str], types.ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("per_user_digest")
    asyncio.run(module.main())
    asyncio.run(module.main())
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == 6
    assert all(" 08:00 " in line for line in listed)

    async def triggered() -> None:
        async with PolosClient() as client, Worker(client):
            for schedule in await schedules.list(client, workflow=module.daily_digest):
                await (await schedules.trigger(client, schedule.id)).result(timeout=30)

    asyncio.run(triggered())
    assert sorted(line[:12] for line in capsys.readouterr().out.splitlines()) == [
        "to ada@examp", "to bob@examp", "to eve@examp",
    ]  # fmt: skip


def test_an_order_is_charged_once_however_often_it_is_started(
    load: Callable[[str], types.ModuleType],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = load("durable_steps")

    packed: list[int] = []

    async def pack(box: int) -> None:
        packed.append(box)

    monkeypatch.setattr(module, "pack", pack)
    asyncio.run(module.main())
    asyncio.run(module.main())
    charged, done, again = capsys.readouterr().out.splitlines()
    assert packed == [1, 2, 3, 4, 5]
    assert charged == "charging 49.50"
    assert "Decimal('49.50')" in done
    assert again == done


@pytest.mark.timeout(150)
def test_the_demo_shows_what_it_says() -> None:
    played = subprocess.run(
        [sys.executable, "-m", "polos", "demo", "--seconds", "15"], capture_output=True, text=True
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stderr == ""
    assert played.stdout.count("  ok  ") == 6

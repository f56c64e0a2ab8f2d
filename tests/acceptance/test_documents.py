"""README, docs, and examples do what they say."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import typer

import polos.testing
from polos import PolosClient, Worker, limits, schedules
from polos.cli import typer_app
from polos.workflow import registry

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
CHANGES = DOCS / "clock-changes.md"
DOCUMENTS = [
    README,
    *sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "decisions"),
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@dataclass(frozen=True)
class Block:
    """An executable block of a document."""

    path: Path
    line: int
    language: str
    code: str
    title: str = ""

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def compiled(self) -> types.CodeType:
        """Compile the block with the document's line numbers."""
        return compile("\n" * (self.line - 1) + self.code, str(self.path), "exec")


def blocks(*paths: Path, language: str = "python") -> list[Block]:
    """Return the blocks of some documents in order."""
    found = []
    for path in paths:
        text = path.read_text()
        for match in re.finditer(r"^```(\w+)(.*)\n((?:.*\n)*?)^```$", text, re.MULTILINE):
            line = text.count("\n", 0, match.start(3)) + 1
            title = match.group(2).strip().removeprefix("title=").strip('"')
            found.append(Block(path, line, match.group(1), match.group(3), title))
    return [block for block in found if block.language == language]


def rows(path: Path, header: str) -> list[list[str]]:
    """Return the cells of the table that begins with ``header``."""
    after = path.read_text().partition(f"\n{header}")[2]
    assert after, f"{path.name} has no table `{header}`"
    table = after.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


class WebApplication:
    """The part of FastAPI that the documents use."""

    def __init__(self, lifespan: Any = None) -> None:
        self.lifespan = lifespan

    def put(self, path: str) -> Callable[[Any], Any]:
        return lambda handler: handler

    get = put

    def mount(self, path: str, app: Any) -> None:
        self.mounted = (path, app)


@pytest.fixture(autouse=True)
def _web_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace FastAPI, which is not a dependency, by a stand-in."""
    web = types.ModuleType("fastapi")
    web.FastAPI = WebApplication  # type: ignore[attr-defined]
    web.HTTPException = RuntimeError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fastapi", web)


Execute = Callable[[Block], types.ModuleType]


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Execute:
    """Execute a block as a separate module that processes of steps can import."""

    def call(block: Block) -> types.ModuleType:
        module = types.ModuleType("block_of_a_document")
        module.__file__ = str(tmp_path / f"{module.__name__}.py")
        Path(module.__file__).write_text(block.code)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(block.compiled, module.__dict__)
        return module

    return call


SOME_DAYS = timedelta(days=5)


def time_for(code: str) -> timedelta:
    """Return how long the schedules of a block run: not for days if they fire very often."""
    if re.search(r'"\* \* \* \* \*"|seconds=5\)', code):
        return timedelta(minutes=5)
    return timedelta(days=1) if "seconds=30)" in code else SOME_DAYS


async def run_declared(time: timedelta = SOME_DAYS) -> dict[str, int]:
    """Let declared schedules run for some days, from a Friday past the first of a month.

    Returns how often they ran.
    """
    async with polos.testing.clock("2026-11-27T00:00:00+00:00") as clock:
        await clock.advance(time)
        ended = await clock.runs()
        assert [run for run in ended if run.status in ("failed", "cancelled")] == []
    counts = dict.fromkeys(registry(), 0)
    for run in ended:
        counts[run.workflow] += 1
    return counts


PYTHON_BLOCKS = blocks(*DOCUMENTS)
OURS = [block for block in PYTHON_BLOCKS if not block.title]
OTHERS = [block for block in PYTHON_BLOCKS if block.title]


@pytest.mark.usefixtures("own_database")
@pytest.mark.parametrize("block", OURS, ids=str)
def test_every_block_runs(block: Block, execute: Execute) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", polos.ScheduleFrequencyWarning)  # described in the document
        module = execute(block)
    if hasattr(module, "asyncio"):
        # Waits of a second take no time here.
        module.asyncio = types.SimpleNamespace(sleep=lambda _: asyncio.sleep(0), run=asyncio.run)
    declared = [w.id for w in registry().values() if w.schedule not in (None, True)]
    if declared:
        counts = asyncio.run(run_declared(time_for(block.code)))
        assert all(counts[id] for id in declared)


# Each block is a program of its own, so its tests see no workflows of others.
ONLY_ITS_OWN = """
import pytest
from polos._runtime.registry import RegisteredWorkflow, isolated_registry, register

@pytest.fixture(autouse=True)
def only_its_own(request):
    with isolated_registry():
        for made in vars(request.module).values():
            if isinstance(made, RegisteredWorkflow):
                register(made)
        yield
"""


def test_the_tests_of_the_documents_pass(tmp_path: Path) -> None:
    # Those of two pages have tests of their own, which know more about them.
    elsewhere = ("testing.md", "isolated-steps.md")
    tests = [b for b in OURS if "def test_" in b.code and b.path.name not in elsewhere]
    assert {block.path.stem for block in tests} >= {"events", "limits", "retries", "typed-input"}
    for block in tests:
        name = block.path.stem.replace("-", "_")
        (tmp_path / f"test_{name}_{block.line}.py").write_text(block.code)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    (tmp_path / "conftest.py").write_text(ONLY_ITS_OWN)
    completed = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "pytest_polos", "-W", "error",
         "-p", "no:cacheprovider", "--import-mode=importlib", tmp_path],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stdout
    expected = sum(block.code.count("def test_") for block in tests)
    assert f"{expected} passed" in completed.stdout


@pytest.mark.parametrize("block", OTHERS, ids=str)
def test_blocks_of_other_projects_are_python(block: Block) -> None:
    """Blocks with a title show other projects, which are not installed for tests."""
    assert block.compiled


def test_the_first_example_prints_what_it_promises(
    execute: Execute, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(blocks(README)[0])
    asyncio.run(run_declared())
    assert capsys.readouterr().out.splitlines() == [
        "Friday: 200, next on Monday",
        "Monday: 200, next on Tuesday",
        "Tuesday: 200, next on Wednesday",
    ]


@pytest.mark.usefixtures("own_database")
def test_the_web_application_subscribes_and_works(execute: Execute) -> None:
    (block,) = [block for block in blocks(README) if "fastapi" in block.code]
    module = execute(block)

    async def serve() -> str:
        async with module.app.lifespan(module.app):
            id = await module.subscribe("ada", hour=8, timezone="Europe/London")
            handle = await schedules.trigger(module.client, id)
            await handle.result(timeout=30)
            return (await schedules.get(module.client, id)).key

    assert asyncio.run(serve()) == "ada"


COMMANDS = [
    pytest.param(shlex.split(part, comments=True), id=f"{block}:{number}")
    for block in blocks(*DOCUMENTS, language="sh")
    for number, line in enumerate(block.code.splitlines())
    for part in line.split(" | ")
    if part.startswith("polos ")
]


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_exist_with_the_options_that_are_given(words: list[str]) -> None:
    """Commands are parsed, not executed."""
    command: Any = typer_app.command()
    with suppress(typer.Exit):  # after `--help` and the like
        context = command.make_context("polos", words[1:])
        while hasattr(command, "resolve_command"):  # groups, whichever click typer uses
            rest = [*context._protected_args, *context.args]
            name, command, rest = command.resolve_command(context, rest)
            context = command.make_context(name, rest, parent=context)


def test_the_pictures_show_what_happens() -> None:
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "scripts" / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    pictures = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = pictures
    spec.loader.exec_module(pictures)
    for name, drawn in asyncio.run(pictures.pictures()).items():
        told = (DOCS / "images" / name).read_text()
        assert drawn == told, f"{name} is out of date: python scripts/pictures.py"


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
    for document in (*DOCUMENTS, ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("document", [DOCS / "architecture.md", ROOT / "CONTRIBUTING.md"], ids=str)
def test_files_that_documents_name_exist(document: Path) -> None:
    named = re.findall(r"`((?:src|tests|python|scripts|docs)/[\w./-]+)`", document.read_text())
    assert named
    missing = sorted({path for path in named if not (ROOT / path).exists()})
    assert not missing, f"{document.name} names files that do not exist: {missing}"


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
    """Import an example like ``polos run``."""

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


async def test_two_workflows_share_a_limit(
    load: Callable[[str], types.ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("shared_limit")
    in_progress: list[int] = []
    most: list[int] = []

    async def sleep(seconds: float) -> None:
        in_progress.append(1)
        for _ in range(5):
            await asyncio.sleep(0)
            most.append(len(in_progress))
        in_progress.pop()

    monkeypatch.setattr(module, "asyncio", types.SimpleNamespace(sleep=sleep))
    async with polos.testing.clock("2026-11-23T12:00:00+00:00") as clock:
        await clock.advance(seconds=3)
        assert max(most) == 2
        await limits.set(clock.client, "api", 1)
        most.clear()
        await clock.advance(seconds=3)
        assert max(most) == 1
        ended = await clock.runs(status="succeeded")
    assert {run.workflow for run in ended} == {"fetch-orders", "fetch-stock"}
    assert len(ended) >= 8


@pytest.mark.usefixtures("own_database")
async def test_a_number_that_crashes_its_process_harms_no_other(
    load: Callable[[str], types.ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("isolated_steps")
    async with PolosClient() as client, Worker(client):
        lines = await module.all_factors.run(client, timeout=60)
    assert lines[0] == "600851475143 = 71 * 839 * 1471 * 6857"
    assert lines[1].startswith("13: ")
    assert "SIGSEGV" in lines[1]
    assert lines[3] == "360360 = 2 * 2 * 2 * 3 * 3 * 5 * 7 * 11 * 13"
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.usefixtures("own_database")
def test_runs_start_later_many_at_once_and_once_for_many_calls(
    load: Callable[[str], types.ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(load("starting_runs").main())
    assert capsys.readouterr().out.splitlines() == [
        "global: a.png",
        "global: b.png",
        "u7: c.png",
        "indexed 'polos'",
        "reminded Ada",
    ]


@pytest.mark.usefixtures("own_database")
def test_a_run_says_how_far_it_is(
    load: Callable[[str], types.ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(load("progress").main())
    assert capsys.readouterr().out.splitlines()[0] == "words: 1000"


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


@pytest.mark.usefixtures("own_database")
def test_a_text_is_published_when_somebody_approves_it(
    load: Callable[[str], types.ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("approval")

    async def asked_and_approved() -> None:
        async with PolosClient() as client:
            await module.publish.invoke(client, "News", idempotency_key="news 1")
            await module.approve(client, "ada")
            await module.approve(client, "bob")
            await module.ask(client)

    asyncio.run(asked_and_approved())
    first, second, _, last = capsys.readouterr().out.splitlines()
    assert (first, second) == ("approved", "somebody else was faster")
    assert last == "News: approved by ada"


@pytest.mark.usefixtures("own_database")
def test_a_declined_card_is_not_charged_again(
    load: Callable[[str], types.ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("choosing_retries")
    asyncio.run(module.main())
    output = capsys.readouterr().out
    assert output == "charged visa\nnot charged: the card was declined\n"
    assert next(module.calls) == 5, "two calls for each card"


@pytest.mark.usefixtures("own_database")
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


@pytest.mark.usefixtures("own_database")
def test_wages_are_paid_on_the_next_workday(
    load: Callable[[str], types.ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("business_days")
    asyncio.run(module.main())
    asyncio.run(module.main())
    listed = capsys.readouterr().out.splitlines()
    assert listed[: len(listed) // 2] == listed[len(listed) // 2 :]
    assert listed[:7] == [
        "At 09:00 on day 25 of every month",
        "  Mon 28 December 2026",
        "  Mon 25 January 2027",
        "  Thu 25 February 2027",
        "  Thu 25 March 2027",
        "  slots on Saturday and Sunday (`cron:* * * * SAT,SUN`) move to the next workday (Monday "
        "to Friday)",
        "  slots on the dates of the calendar `fr-holidays` move to the next workday (Monday to "
        "Friday): 2026-12-25, 2027-01-01, 2027-03-29, 2027-05-01, 2027-05-08 and one later date",
    ]


@pytest.mark.usefixtures("own_database")
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
    completed = subprocess.run(
        [sys.executable, "-m", "polos", "demo", "--seconds", "15"], capture_output=True, text=True
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert completed.stderr == ""
    assert completed.stdout.count("  ok  ") == 6

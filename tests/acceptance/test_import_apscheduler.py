"""``polos import apscheduler`` converts stores that APScheduler 3 and 4 have written.

``tests/fixtures/importers`` has the stores as SQL dumps, the scripts that wrote them, and the next
fire times that APScheduler computed.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import pickle
import re
import sqlite3
import sys
import types
from collections.abc import Callable
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import polos.testing
from polos import schedules
from polos.cli.importers.apscheduler_triggers import converted
from polos.cli.importers.plain_pickle import Plain, load

Command = Callable[..., Any]

FIXTURES = Path(__file__).parents[1] / "fixtures" / "importers"
REFUSED = {
    3: {"at-second-30", "both", "half-offset", "iso-week",
        "object", "of-the-program", "year"},
    4: {"half-second"},
}  # fmt: skip


def stored(version: int, folder: Path) -> Path:
    """Restore the store of a version into a file."""
    path = folder / f"apscheduler{version}.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript((FIXTURES / f"apscheduler{version}.sql").read_text())
    connection.close()
    return path


def times(version: int) -> tuple[datetime, dict[str, list[datetime]]]:
    """Return the start of APScheduler's computation, and its next fire times."""
    wrote = json.loads((FIXTURES / f"apscheduler{version}.json").read_text())
    found = {k: [datetime.fromisoformat(t) for t in v] for k, v in wrote["upcoming"].items()}
    return datetime.fromisoformat(wrote["start"]), found


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The program's module, whose functions record how they are called."""
    called: list[Any] = []
    jobs = types.ModuleType("shop.jobs")

    async def clean() -> None:
        called.append("clean")

    class Mail:
        @staticmethod
        def send() -> None:
            called.append("send")

    jobs.report = lambda *args, **kwargs: called.append((args, kwargs))  # type: ignore[attr-defined]
    jobs.clean = clean  # type: ignore[attr-defined]
    jobs.Mail = Mail  # type: ignore[attr-defined]
    parent = types.ModuleType("shop")
    parent.jobs = jobs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop", parent)
    monkeypatch.setitem(sys.modules, "shop.jobs", jobs)
    return called


def executed(text: str) -> dict[str, Any]:
    """Execute the output as a module."""
    module = types.ModuleType("printed")
    exec(compile(text, "printed.py", "exec"), module.__dict__)
    return vars(module)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.usefixtures("shop")
def test_what_is_printed_fires_when_apscheduler_does(
    command: Command, tmp_path: Path, version: int
) -> None:
    result = command("import", "apscheduler", f"sqlite:///{stored(version, tmp_path)}")
    assert result.code == 1, result.err
    printed = executed(result.out)
    start, expected = times(version)

    async def compare() -> set[str]:
        moment = (start - timedelta(minutes=1)).isoformat()
        async with polos.testing.clock(moment) as clock:
            await schedules.create_many(clock.client, printed["SCHEDULES"])
            found = {s.key: s for s in await clock.schedules() if s.workflow == "shop.jobs.report"}
            either = [found.pop("either-1"), found.pop("either-2")]
            for key, schedule in found.items():
                due = expected[key]
                slots = await schedules.upcoming(clock.client, schedule.id, 30)
                ours = [slot for slot in slots if slot > start]
                assert ours[: len(due)] == due, key
                assert len(due) == 12 or len(ours) == len(due), (
                    f"{key} has an end, and so does the converted schedule"
                )
            both = [s for one in either for s in await schedules.upcoming(clock.client, one.id, 12)]
            assert sorted(both)[:12] == expected["either"]
            return set(found)

    compared = asyncio.run(compare())
    assert compared == set(expected) - REFUSED[version] - {"either"}


@pytest.mark.usefixtures("shop")
def test_a_store_that_sqlalchemy_made_is_converted_like_that_of_the_dump(
    command: Command, tmp_path: Path, new_database: Callable[[Path], Path | str]
) -> None:
    """On PostgreSQL, if the tests run on it: the table has the types that APScheduler gives it."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    stores = pytest.importorskip("apscheduler.jobstores.sqlalchemy")
    database = str(new_database(tmp_path))
    if "://" in database:
        # As any program names a schema, instead of by the parameter that only polos knows.
        url, _, schema = database.partition("schema=")
        url += f"options=-csearch_path%3D{schema}"
        engine = sqlalchemy.create_engine(url.replace("://", "+psycopg://", 1))
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(f'CREATE SCHEMA "{schema}"'))
    else:
        url = f"sqlite:///{database}"
        engine = sqlalchemy.create_engine(url)
    dump = stored(3, tmp_path)
    with closing(sqlite3.connect(dump)) as source:
        rows = source.execute(
            "SELECT id, next_run_time, job_state FROM apscheduler_jobs"
        ).fetchall()
    store = stores.SQLAlchemyJobStore(engine=engine)
    store.start(None, "default")
    with engine.begin() as connection:
        names = ("id", "next_run_time", "job_state")
        connection.execute(
            store.jobs_t.insert(), [dict(zip(names, row, strict=True)) for row in rows]
        )
    store.shutdown()
    result, expected = (command("import", "apscheduler", u) for u in (url, f"sqlite:///{dump}"))
    assert result.code == expected.code == 1, result
    schedules_of = [executed(each.out)["SCHEDULES"] for each in (result, expected)]
    assert len(rows) > 10
    by_key = [sorted(found, key=lambda each: str(each["key"])) for found in schedules_of]
    assert by_key[0] == by_key[1]


PARIS = ZoneInfo("Europe/Paris")


def of_apscheduler(trigger: Any, day: datetime) -> set[datetime]:
    """Return the times of a local day at which APScheduler 3 fires."""
    found: set[datetime] = set()
    now, end = day.astimezone(timezone.utc), (day + timedelta(days=1)).astimezone(timezone.utc)
    due = trigger.get_next_fire_time(None, now.astimezone(PARIS))
    # In UTC, to compare instants.
    while (now := due.astimezone(timezone.utc)) < end:
        assert now not in found, "APScheduler goes back in time"
        found.add(now)
        due = trigger.get_next_fire_time(due, (now + timedelta(seconds=1)).astimezone(PARIS))
    return found


@pytest.mark.parametrize(
    "fields",
    [
        {"hour": 2, "minute": 30}, {"hour": "1-3", "minute": 15}, {"hour": 2, "minute": "10,50"},
        {"hour": 3, "minute": 0}, {"hour": 23, "minute": 59}, {"minute": "*/20"},
        {"minute": 5}, {"hour": "*/2", "minute": 0}, {"hour": "2", "minute": "*/30"},
    ],
)  # fmt: skip
def test_only_what_is_named_differs_when_clocks_change(fields: dict[str, Any]) -> None:
    apscheduler = pytest.importorskip("apscheduler", reason="APScheduler isn't installed")
    if not apscheduler.version.startswith("3."):
        pytest.skip("another version of APScheduler is installed")
    cron = importlib.import_module("apscheduler.triggers.cron")
    trigger = cron.CronTrigger(timezone=PARIS, second=0, **fields)
    (ours,) = converted(load(pickle.dumps(trigger)), 3)
    is_wild = any(part.startswith("*") for part in ours.options["cron"].split()[:2])
    assert ("both passes" in " ".join(ours.differences)) == is_wild

    def of_polos(day: datetime) -> set[datetime]:
        midnight = day + timedelta(days=1)
        found = schedules.preview(**ours.options, count=200, after=day - timedelta(microseconds=1))
        utc = {slot.astimezone(timezone.utc) for slot in found}
        return {slot for slot in utc if slot < midnight.astimezone(timezone.utc)}

    repeats = datetime(2040, 10, 28, tzinfo=PARIS)  # 02:00 to 03:00 comes twice
    theirs = of_apscheduler(trigger, repeats)
    second_pass = {due for due in theirs if due.astimezone(PARIS).fold}
    assert of_polos(repeats) == (theirs if is_wild else theirs - second_pass)

    # 02:00 to 03:00 does not come; the day before has all times.
    skips, gap = datetime(2041, 3, 31, tzinfo=PARIS), datetime(2041, 3, 31, 1, tzinfo=timezone.utc)
    all_times = of_apscheduler(trigger, skips - timedelta(days=1))
    local = {(due.astimezone(PARIS) + timedelta(days=1)).replace(fold=0) for due in all_times}
    regular = {due.astimezone(timezone.utc) for due in local if due.hour != 2}
    skipped = {due for due in local if due.hour == 2}
    shifted = {gap + timedelta(minutes=due.minute) for due in skipped}
    # Of several skipped times it shifts the first, and may drop the others.
    assert regular <= of_apscheduler(trigger, skips) <= regular | shifted
    assert not skipped or min(shifted) in of_apscheduler(trigger, skips)
    assert of_polos(skips) == regular | ({gap} if skipped and not is_wild else set())


@pytest.mark.parametrize("version", [3, 4])
def test_what_cant_be_converted_has_a_reason_and_a_remedy(
    command: Command, tmp_path: Path, version: int
) -> None:
    found = command("import", "apscheduler", stored(version, tmp_path), "--json").objects
    refused = {item["name"]: item for item in found if not item["converted"]}
    assert set(refused) == REFUSED[version]
    assert all(item["reason"] and item["remedy"] for item in refused.values())
    converted = {item["name"]: item["options"] for item in found if item["converted"]}
    assert converted["friday-13"]["days"] == "and"
    if version == 3:
        assert "__main__.Account" in refused["object"]["reason"]
        assert "can't be imported" in refused["of-the-program"]["reason"]
        assert '"cron": "0 5 * * *"' in refused["of-the-program"]["remedy"]


def test_the_jobs_are_called_as_apscheduler_calls_them(
    command: Command, tmp_path: Path, shop: list[Any]
) -> None:
    printed = executed(command("import", "apscheduler", stored(3, tmp_path)).out)
    one = [s for s in printed["SCHEDULES"] if s["key"] == "crontab"]
    one[0]["start_at"] = datetime(2040, 11, 20, tzinfo=timezone.utc)

    async def day() -> None:
        async with polos.testing.clock("2040-11-20T00:00:00+00:00") as clock:
            await schedules.create_many(clock.client, one)
            await clock.advance(hours=7, minutes=5)
            assert [run.status for run in await clock.runs()] == ["succeeded"] * 3

    asyncio.run(day())
    expected = (("ada", 3), {"when": date(2026, 1, 2), "tags": {"a": [1.5]}})
    assert sorted(shop, key=str) == sorted(["clean", "send", expected], key=str)


def test_a_paused_job_stays_paused(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_database: Any
) -> None:
    monkeypatch.setenv("POLOS_DATABASE_URL", str(own_database))
    result = command("import", "apscheduler", stored(3, tmp_path))
    exec(compile(result.out, "printed.py", "exec"), {"__name__": "__main__"})
    with polos.PolosClient() as client:
        found = schedules.sync.list(client)
        assert {s.key for s in found if s.status == "paused"} == {"sunday"}
        assert len(found) > 15


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("weekdays", "Monday is 0 in `0-4`, 1 here"),
        ("weekdays", "repeated time fires once (APScheduler: twice)"),
        ("names", "max_instances=3"),
        ("names", "`max_catch_up`"),
        ("sunday", "misfire_grace_time=1 s"),
        ("first-monday", "day and weekday to match both"),
        ("days", "a cron expression keeps it"),
        ("calendar-week", "(APScheduler: not at all)"),
        ("either-1", "equal times fire once for each"),
        ("crontab", "as pickles"),
    ],
)
def test_differences_are_named(command: Command, tmp_path: Path, name: str, expected: str) -> None:
    found = command("import", "apscheduler", stored(3, tmp_path), "--json").objects
    (entry,) = [item for item in found if item["name"] == name]
    assert expected in " ".join(entry["differences"])


def test_policies_are_kept(command: Command, tmp_path: Path) -> None:
    found = command("import", "apscheduler", stored(3, tmp_path), "--json").objects
    options = {item["name"]: item["options"] for item in found if item["converted"]}
    policies = ("overlap", "catch_up", "catch_up_window")
    assert [options["weekdays"].get(name) for name in policies] == ["skip", "latest", 3600]
    assert [options["names"].get(name) for name in policies] == ["allow", "all", 36500 * 86400]
    assert [options["sunday"].get(name) for name in policies] == ["skip", "none", None]
    four = command("import", "apscheduler", stored(4, tmp_path), "--json").objects
    (interval,) = [item["options"] for item in four if item["name"] == "interval"]
    assert (interval["jitter"], interval["catch_up"]) == (30, "none")


def test_reading_changes_nothing(command: Command, tmp_path: Path) -> None:
    path = stored(3, tmp_path)
    before = path.read_bytes()
    path.chmod(0o444)
    command("import", "apscheduler", path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# --- hostile and damaged pickles ---------------------------------------------------------------


class Hostile:
    """Calls a function if it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_calls_nothing(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    hostile = [
        Hostile(Path.touch, mark),
        Hostile(eval, f"open({str(mark)!r}, 'w')"),
        Hostile(getattr, Path, "touch"),
        Hostile(exec, "raise SystemExit"),
    ]
    found = load(pickle.dumps({"args": hostile, "at": timedelta(1)}, protocol))
    assert not mark.exists()
    assert found["at"] == timedelta(1)
    assert all(isinstance(item, Plain) for item in found["args"])


def job(**changes: Any) -> bytes:
    return pickle.dumps({"version": 1, "func": "shop.jobs:report", **changes})


DAMAGED = [
    (b"", "can't be read"),
    (b"no pickle", "can't be read"),
    (b"\x80\x63N.", "unsupported pickle protocol: 99"),
    (pickle.dumps([1]), "no job of APScheduler 3"),
    (job(trigger=None, version=9), "a newer APScheduler wrote it (job version 9)"),
    (job(trigger=3), "no trigger of APScheduler"),
    (job(trigger=Hostile(print, 1)), "no trigger like `builtins.print`"),
]


@pytest.mark.parametrize(("state", "reason"), DAMAGED)
def test_a_damaged_job_is_one_refusal(
    command: Command, tmp_path: Path, state: bytes, reason: str
) -> None:
    path = stored(3, tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE apscheduler_jobs SET job_state = ? WHERE id = 'clean'", [state])
    connection.close()
    result = command("import", "apscheduler", path, "--json")
    (refused,) = [item for item in result.objects if item["name"] == "clean"]
    assert result.code == 1
    assert len(result.objects) > 20
    assert reason in refused["reason"]
    assert refused["remedy"]


# --- databases ---------------------------------------------------------------------------------


def test_databases_that_are_none(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no database, though it is long enough " * 50)
    (tmp_path / "empty.db").touch()
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE fruit (id)")
    connection.close()
    for given, code, expected in [
        ("none.db", 3, "doesn't exist"),
        ("sqlite:///none.db", 3, "doesn't exist"),
        (".", 2, "is a folder"),
        (os.devnull, 2, "is no regular file"),
        ("empty.db", 3, "is empty"),
        ("notes.txt", 1, "can't be read as a SQLite database"),
        ("other.db", 3, "its tables: `fruit`"),
        ("mysql://ada:s3cret@db/jobs", 2, "`mysql://` given, expected"),
        ("redis://db", 2, "`redis://` given, expected"),
        ("postgresql://ada:s3cret@127.0.0.1:1/jobs", 1, ""),
    ]:
        result = command("import", "apscheduler", given)
        assert (result.code, result.out) == (code, ""), (given, result)
        assert result.err.count("\n") == 1
        assert expected in result.err
        assert "s3cret" not in result.err


def test_an_empty_table_is_no_error(command: Command, tmp_path: Path) -> None:
    path = stored(3, tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM apscheduler_jobs")
        connection.execute("ALTER TABLE apscheduler_jobs RENAME TO jobs")
    connection.close()
    result = command("import", "apscheduler", path, "--table", "jobs")
    assert (result.code, result.out) == (0, "")
    assert "nothing to convert" in result.err
    assert "`--table`" in command("import", "apscheduler", path).err


@pytest.mark.parametrize("tool", ["apscheduler3"])
def test_the_stores_are_what_the_tool_writes(tool: str, tmp_path: Path) -> None:
    """If the tool is installed, it writes the same times as the committed ones."""
    apscheduler = pytest.importorskip("apscheduler", reason="APScheduler isn't installed")
    if int(apscheduler.version_info[0]) != 3:
        pytest.skip("another version of APScheduler is installed")
    import subprocess

    subprocess.run(
        [sys.executable, str(FIXTURES / f"make_{tool}.py"), str(tmp_path)], check=True, timeout=60
    )
    made = json.loads((tmp_path / f"{tool}.json").read_text())
    assert made["upcoming"] == json.loads((FIXTURES / f"{tool}.json").read_text())["upcoming"]
    assert re.search("INSERT INTO", (tmp_path / f"{tool}.sql").read_text())

"""``polos import celery-beat`` and ``polos import django-celery-beat``.

Celery itself computes the next times of an application's schedule, if it is installed.
``tests/fixtures/importers`` has the tables of django-celery-beat as an SQL dump, the script that
wrote them, and the next times that Celery computed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
import types
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import polos.testing
from polos import schedules

Command = Callable[..., Any]

FIXTURES = Path(__file__).parents[1] / "fixtures" / "importers"
PYTHON = Path(__file__).parents[2] / "python"

needs_celery = pytest.mark.skipif(
    importlib.util.find_spec("celery") is None, reason="Celery isn't installed"
)

APP = """
from datetime import timedelta
from celery import Celery
from celery.schedules import crontab, schedule, BaseSchedule

class Own(BaseSchedule): ...

app = Celery("shop", broker="memory://")
app.conf.timezone = "Europe/Paris"
app.conf.beat_schedule = {
    "weekdays": {"task": "shop.report", "schedule": crontab("0", "9", day_of_week="mon-fri")},
    "sunday": {"task": "shop.report", "schedule": crontab("30", "3", day_of_week=0)},
    "weekend": {"task": "shop.report", "schedule": crontab(0, "8,20", day_of_week="fri-sun")},
    "quarters": {"task": "shop.report", "schedule": crontab("*/15", "8-9")},
    "odd": {"task": "shop.report", "schedule": crontab(0, 5, "*/2", "*/10", "*/3")},
    "first": {"task": "shop.report", "schedule": crontab(0, 5, "mon", "1-7")},
    "friday-13": {"task": "shop.report", "schedule": crontab(0, 5, "fri", 13)},
    "poll": {"task": "shop.poll", "schedule": 30.0, "args": ("ada",), "kwargs": {"n": 1},
             "options": {"queue": "mail", "expires": 60}},
    "hourly": {"task": "shop.poll", "schedule": schedule(timedelta(hours=1), relative=True)},
    "fast": {"task": "shop.poll", "schedule": 0.5},
    "own": {"task": "shop.poll", "schedule": Own()},
    "object": {"task": "shop.poll", "schedule": 60, "args": (app,)},
}

@app.on_after_finalize.connect
def add(sender, **_):
    sender.add_periodic_task(timedelta(minutes=5), poll.s(), name="added")

@app.task(name="shop.poll")
def poll(): ...
"""

TIMES = """
import json, sys
from datetime import datetime, timezone
import shop
start, found = datetime.fromisoformat(sys.argv[1]), {}
for name, entry in shop.app.conf.beat_schedule.items():
    schedule = entry["schedule"]
    if hasattr(schedule, "hour"):
        schedule.app, last, found[name] = shop.app, start, []
        for _ in range(int(sys.argv[2])):
            schedule.nowfun = lambda now=last: now
            last = last + schedule.remaining_estimate(last)
            found[name].append(last.astimezone(timezone.utc).isoformat())
print(json.dumps(found))
"""


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{PYTHON}{os.pathsep}{folder}"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def celery_beat(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in another process, since it imports the application."""
    return python(folder, "-m", "polos", "import", "celery-beat", *arguments)


class Sent(list[Any]):
    """Replaces Celery's application, and records what is sent."""

    def send_task(self, *args: Any, **kwargs: Any) -> None:
        self.append((args, kwargs))


def executed(text: str, monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> Any:
    """Execute the output with an application that records; return both."""
    stand_in, sent = types.ModuleType(module), Sent()
    setattr(stand_in, name, sent)
    monkeypatch.setitem(sys.modules, module, stand_in)
    printed: dict[str, Any] = {"__name__": "printed"}
    exec(compile(text, "printed.py", "exec"), printed)
    return printed, sent


def compare(start: datetime, expected: dict[str, list[str]]) -> None:
    """Check that the declared schedules have the next times that Celery computed."""

    async def check() -> None:
        async with polos.testing.clock((start - timedelta(microseconds=1)).isoformat()) as clock:
            found = {s.workflow: s for s in await clock.schedules()}
            assert set(expected) <= set(found)
            for name, due in expected.items():
                slots = await schedules.upcoming(clock.client, found[name].id, len(due) + 1)
                ours = [slot for slot in slots if slot > start]
                assert ours[: len(due)] == [datetime.fromisoformat(t) for t in due], name

    asyncio.run(check())


@needs_celery
def test_what_is_printed_fires_when_celery_beat_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    result = celery_beat(tmp_path, "shop")
    assert result.returncode == 1, result.stderr
    start = datetime(2040, 11, 20, 12, tzinfo=timezone.utc)
    times = python(tmp_path, "-c", TIMES, start.isoformat(), "12")
    assert times.returncode == 0, times.stderr
    executed(result.stdout, monkeypatch, "shop", "app")
    compare(start, json.loads(times.stdout))


CHANGING = """
from celery import Celery
from celery.schedules import crontab

app = Celery("shop", broker="memory://")
app.conf.timezone = "Europe/Paris"
app.conf.beat_schedule = {
    name: {"task": "shop.report", "schedule": crontab(*name.split()[:2])}
    for name in ("30 2", "0 2", "10,50 2", "30 3", "15 1-3", "5 *", "*/30 *", "*/15 2", "0 */2")
}
"""

PARIS = ZoneInfo("Europe/Paris")


@needs_celery
def test_only_what_is_named_differs_when_clocks_change(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(CHANGING)
    result = celery_beat(tmp_path, "shop", "--json")
    assert result.returncode == 0, result.stderr
    options = {i["name"]: i["options"] for i in map(json.loads, result.stdout.splitlines())}
    assert len(options) == 9

    def of_celery(day: datetime) -> dict[str, set[datetime]]:
        start = day - timedelta(minutes=1)
        times = python(tmp_path, "-c", TIMES, start.astimezone(timezone.utc).isoformat(), "200")
        assert times.returncode == 0, times.stderr
        found = json.loads(times.stdout)
        return {name: of_day(map(datetime.fromisoformat, found[name]), day) for name in found}

    def of_polos(name: str, day: datetime) -> set[datetime]:
        what = {key: options[name][key] for key in ("cron", "timezone")}
        return of_day(schedules.preview(**what, count=200, after=day - timedelta(minutes=1)), day)

    def of_day(times: Iterable[datetime], day: datetime) -> set[datetime]:
        midnight = (day + timedelta(days=1)).astimezone(timezone.utc)
        return {at for time in times if (at := time.astimezone(timezone.utc)) < midnight}

    repeats = datetime(2040, 10, 28, tzinfo=PARIS)  # 02:00 to 03:00 comes twice
    skips = datetime(2041, 3, 31, tzinfo=PARIS)  # 02:00 to 03:00 does not come
    gap, hour = datetime(2041, 3, 31, 1, tzinfo=timezone.utc), timedelta(hours=1)
    twice, before, shifted = map(of_celery, (repeats, skips - timedelta(days=1), skips))
    for name in options:
        is_wild = any(field.startswith("*") for field in name.split())
        first_pass = {due for due in twice[name] if due.astimezone(PARIS).hour == 2}
        assert not any(due.astimezone(PARIS).fold for due in first_pass), name
        second_pass = {due + hour for due in first_pass} if is_wild else set()
        assert of_polos(name, repeats) == twice[name] | second_pass, name

        all_times = {due.astimezone(PARIS) + timedelta(days=1) for due in before[name]}
        regular = {due.astimezone(timezone.utc) for due in all_times if due.hour != 2}
        skipped = {due for due in all_times if due.hour == 2}
        later = {gap + timedelta(minutes=due.minute) for due in skipped}
        # Of several skipped times it may drop all but the first.
        assert regular <= shifted[name] <= regular | later, name
        assert not skipped or min(later) in shifted[name], name
        at_the_end_of_the_gap = {gap} if skipped and not is_wild else set()
        assert of_polos(name, skips) == regular | at_the_end_of_the_gap, name


@needs_celery
def test_the_tasks_are_sent_as_beat_sends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    printed, sent = executed(celery_beat(tmp_path, "shop.py").stdout, monkeypatch, "shop", "app")
    printed["poll"]()
    assert sent == [
        (("shop.poll",), {"args": ["ada"], "kwargs": {"n": 1}, "queue": "mail", "expires": 60})
    ]


@needs_celery
def test_entries_that_cant_be_converted(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    result = celery_beat(tmp_path, "shop:app", "--json")
    found = {item["name"]: item for item in map(json.loads, result.stdout.splitlines())}
    refused = {name: item["reason"] for name, item in found.items() if not item["converted"]}
    assert set(refused) == {"fast", "own", "object"}
    assert found["friday-13"]["options"]["days"] == "and"
    assert "shorter than a second" in refused["fast"]
    assert "shop.Own" in refused["own"]
    assert "Celery" in refused["object"]
    assert "relative" in " ".join(found["hourly"]["differences"])
    assert found["added"]["options"]["every"] == 300
    assert "clock changes" in " ".join(found["weekdays"]["differences"])


@needs_celery
@pytest.mark.parametrize(
    ("content", "target", "code", "expected"),
    [
        ("raise RuntimeError('no')", "shop", 1, "can't be imported"),
        ("x = 1", "shop", 2, "has no Celery application"),
        ("from celery import Celery\na = Celery()\nb = Celery()", "shop", 2, "name it: `shop:app`"),
        ("from celery import Celery\napp = Celery()", "shop:ap", 2, "did you mean `app`?"),
        ("from celery import Celery\napp = Celery()", "shop", 0, "nothing to convert"),
        ("", "shopp", 2, "no module `shopp`"),
        ("", "shop.txt", 2, "shop.txt"),
    ],
)
def test_modules_without_a_schedule(
    tmp_path: Path, content: str, target: str, code: int, expected: str
) -> None:
    (tmp_path / "shop.py").write_text(content)
    result = celery_beat(tmp_path, target)
    assert (result.returncode, result.stdout) == (code, ""), result.stderr
    assert expected in result.stderr


# --- django-celery-beat ------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Restore the tables into a file."""
    path = tmp_path / "django.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript((FIXTURES / "django_celery_beat.sql").read_text())
    connection.close()
    return path


def test_what_is_printed_fires_when_django_celery_beat_does(
    command: Command, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = command("import", "django-celery-beat", f"sqlite:///{stored}")
    assert result.code == 1
    wrote = json.loads((FIXTURES / "django_celery_beat.json").read_text())
    printed, sent = executed(result.out, monkeypatch, "celery", "current_app")
    compare(datetime.fromisoformat(wrote["start"]), wrote["upcoming"])
    printed["interval"]()
    printed["weekdays"]()
    assert sent == [
        (("shop.poll",), {"queue": "mail", "expires": 60}),
        (("shop.report",), {"args": ["ada"], "kwargs": {"n": 1}}),
    ]


def test_bounds_and_refusals_of_periodic_tasks(command: Command, stored: Path) -> None:
    found = {
        i["name"]: i for i in command("import", "django-celery-beat", stored, "--json").objects
    }
    refused = {name for name, item in found.items() if not item["converted"]}
    assert refused == {"damaged", "sunset", "too-often"}
    assert all(found[name]["remedy"] for name in refused)
    options = {name: item["options"] for name, item in found.items() if name not in refused}
    assert options["once"]["max_runs"] == 1
    assert options["clocked"]["at"].startswith("2040-11-21T12:00")
    assert options["bounded"]["start_at"].startswith("2040-11-20T12:00")
    assert options["bounded"]["end_at"].startswith("2040-11-20T13:00")
    assert found["disabled"]["paused"]


def test_a_disabled_task_is_created_and_paused(
    command: Command, stored: Path, monkeypatch: pytest.MonkeyPatch, own_database: Any
) -> None:
    monkeypatch.setenv("POLOS_DATABASE_URL", str(own_database))
    result = command("import", "django-celery-beat", stored)
    text = result.out.replace("from celery import current_app as celery_app", "celery_app = None")
    exec(compile(text, "printed.py", "exec"), {"__name__": "__main__"})
    with polos.PolosClient() as client:
        (schedule,) = schedules.sync.list(client)
        assert (schedule.key, schedule.status) == ("disabled", "paused")


def test_tables_that_are_empty_or_missing(command: Command, stored: Path) -> None:
    with sqlite3.connect(stored) as connection:
        connection.execute("DELETE FROM django_celery_beat_periodictask")
    connection.close()
    result = command("import", "django-celery-beat", stored)
    assert (result.code, result.out) == (0, "")
    assert "nothing to convert" in result.err
    with sqlite3.connect(stored) as connection:
        connection.execute("DROP TABLE django_celery_beat_periodictask")
    connection.close()
    result = command("import", "django-celery-beat", stored)
    assert (result.code, result.out) == (3, "")
    assert "django_celery_beat_periodictask" in result.err
    assert command("import", "django-celery-beat", "mysql://a:s3cret@h/d").code == 2


@pytest.mark.skipif(
    importlib.util.find_spec("django_celery_beat") is None,
    reason="django-celery-beat isn't installed",
)
def test_the_tables_are_what_the_tool_writes(tmp_path: Path) -> None:
    script = FIXTURES / "make_django_celery_beat.py"
    made = python(tmp_path, str(script), str(tmp_path))
    assert made.returncode == 0, made.stderr
    wrote = json.loads((tmp_path / "django_celery_beat.json").read_text())
    committed = json.loads((FIXTURES / "django_celery_beat.json").read_text())
    assert wrote["upcoming"] == committed["upcoming"]

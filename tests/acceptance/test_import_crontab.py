"""``polos import crontab`` prints Python that runs a crontab's commands when cron would."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import polos.testing
from polos import ScheduleFrequencyWarning
from polos.cli.importers.local_zone import local_zone
from polos.cli.importers.printer import literal
from polos.workflow import registry

Command = Callable[..., Any]

NAMES = {"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9,
         "oct": 10, "nov": 11, "dec": 12, "sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4,
         "fri": 5, "sat": 6}  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a crontab."""

    def call(text: str) -> Path:
        path = tmp_path / "jobs.cron"
        path.write_text(text)
        return path

    return call


def executed(text: str) -> types.ModuleType:
    """Execute the output as a module."""
    module = types.ModuleType("printed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScheduleFrequencyWarning)
        exec(compile(text, "printed.py", "exec"), module.__dict__)
    return module


async def fired(start: datetime, days: int) -> dict[str, list[datetime]]:
    """Return when the declared workflows ran, by workflow."""
    found: dict[str, list[datetime]] = {id: [] for id in registry()}
    async with polos.testing.clock(start.isoformat()) as clock:
        await clock.advance(days=days)
        for run in await clock.runs():
            assert run.status == "succeeded", run.error
            assert run.timestamp is not None
            found[run.workflow].append(run.timestamp.astimezone(timezone.utc))
    return found


# --- cron's own rule, minute by minute, in a zone without clock changes ------------------------


def values(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            ends = (low, high)
        else:
            begin = NAMES.get(first.lower()) if not first.isdigit() else int(first)
            assert begin is not None
            end = int(NAMES.get(last.lower(), last)) if last else begin
            ends = (begin, end)
        found |= set(range(ends[0], ends[1] + 1, int(step or 1)))
    return {0 if high == 7 and value == 7 else value for value in found}


def minutes(cron: str, start: datetime, days: int, zone: str) -> Iterator[datetime]:
    minute, hour, day, month, weekday = cron.split()
    wanted = [values(minute, 0, 59), values(hour, 0, 23), values(month, 1, 12)]
    on_day, on_weekday = values(day, 1, 31), values(weekday, 0, 7)
    both = day.startswith("*") or weekday.startswith("*")
    for number in range(1, days * 1440 + 1):
        at = (start + timedelta(minutes=number)).astimezone(ZoneInfo(zone))
        if any(n not in s for n, s in zip((at.minute, at.hour, at.month), wanted, strict=True)):
            continue
        is_day, is_weekday = at.day in on_day, at.isoweekday() % 7 in on_weekday
        if (is_day and is_weekday) if both else (is_day or is_weekday):
            yield at.astimezone(timezone.utc)


LINES = [
    "0 9 * * 1-5",
    "*/20 8-10 * * *",
    "5,35 0 1,15 * sun",
    "0 0 */2 * mon",
    "30 6 * nov-dec 7",
    "0-10/5 12 28-31 * 0,6",
    "59 23 * 12 wed-fri",
]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/Phoenix"])
def test_what_is_printed_fires_when_cron_does(
    command: Command, write: Callable[[str], Path], zone: str
) -> None:
    """The commands, such as `true`, are executed in virtual time."""
    result = command(
        "import", "crontab", write("".join(f"{line} true\n" for line in LINES)), "--tz", zone
    )
    assert result.code == 0, result.err
    executed(result.out)
    start = datetime(2026, 11, 27, tzinfo=timezone.utc)
    times = asyncio.run(fired(start, 12))
    assert len(times) == len(LINES)
    for line, ran in zip(LINES, times.values(), strict=True):
        expected = list(minutes(line, start, 12, zone))
        assert expected, line
        assert sorted(ran) == expected, line


def test_a_command_gets_what_cron_gives_it(
    command: Command, write: Callable[[str], Path], tmp_path: Path
) -> None:
    text = f"""
        SHELL=/bin/bash
        FOLDER="{tmp_path}"
        GREETING = it's $HOME
        0 9 * * *  cat > $FOLDER/mail; echo "$BASH" "$GREETING" 100\\% >> $FOLDER/mail%Dear Ada,%bye
    """
    result = command("import", "crontab", write(text), "--tz", "UTC")
    executed(result.out)
    asyncio.run(fired(datetime(2026, 11, 27, tzinfo=timezone.utc), 1))
    letter, variables = (tmp_path / "mail").read_text().split("bye\n")
    assert letter == "Dear Ada,\n"
    assert variables.endswith("/bash it's $HOME 100%\n")


def test_a_failing_command_fails_its_run(command: Command, write: Callable[[str], Path]) -> None:
    executed(command("import", "crontab", write("0 9 * * * exit 3"), "--tz", "UTC").out)

    async def day() -> list[Any]:
        async with polos.testing.clock("2026-11-27T00:00:00+00:00") as clock:
            await clock.advance(days=1)
            return await clock.runs()

    (run,) = asyncio.run(day())
    assert run.status == "failed"
    assert "exit status 3" in str(run.error)


def test_the_output_is_formatted(
    command: Command, write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(f"SHELL=/bin/bash\n0 9 * * * /srv/report {'x' * 60}")
    monkeypatch.chdir(path.parent)
    result = command("import", "crontab", path.name, "--tz", "UTC")
    assert all(len(line) <= 100 for line in result.lines)
    module = executed(result.out)
    assert module.report.id == "report"
    assert module.__doc__.startswith("Schedules of `")


DIFFERENCES = [
    ("MAILTO=ada@example.com\n0 9 * * * x", "ada@example.com"),
    ("MAILTO=\n0 9 * * * x", "MAILTO is empty"),
    ("CRON_TZ=Europe/Paris\n0 9 * * * x", "CRON_TZ=Europe/Paris, as cronie applies it"),
    ("TZ=Europe/Paris\n0 9 * * * x", "for the command only"),
    ("RANDOM_DELAY=5\n0 9 * * * x", "cronie delays all jobs"),
    ("0 9 * * * mail ada%hi", "stdin"),
    ("0 9 * * * flock -n /tmp/lock x", '"overlap": "skip"'),
    ("-0 9 * * * x", "keeps cron from logging"),
    ("0 9 * * * x", "PATH=/usr/bin:/bin"),
    ("0 9 * * * x", 'catch_up="none"'),
    ("0 9 * * * x", "clock changes"),
]


@pytest.mark.parametrize(("text", "expected"), DIFFERENCES)
def test_differences_are_named(
    command: Command, write: Callable[[str], Path], text: str, expected: str
) -> None:
    path = write(text)
    result = command("import", "crontab", path, "--tz", "UTC")
    assert result.code == 0, result.err
    assert expected in re.sub(r"\n#?\s+", " ", result.out)
    (entry,) = command("import", "crontab", path, "--tz", "UTC", "--json").objects
    assert expected in " ".join(entry["differences"])


REFUSED = [
    ("@reboot /srv/start", "start of a machine", "where your program starts"),
    ("@every_minute x", "`@every_minute` isn't a nickname", "`@daily`"),
    ("0 25 * * * x", "`25` is out of range", "polos explain"),
    ("0~30 1 * * * x", "`0~30` is not understood", "`jitter`"),
    ("H 1 * * * x", "Jenkins", "polos explain"),
    ("0 22-2 * * * x", "write `22-23,0-2`", "polos explain"),
    ("0 0 31 2 * x", "never fires", "polos explain"),
    ("0 0 * * ", "no command", "five fields"),
    ("@daily", "no command", "five fields"),
    ("CRON_TZ=Mars/Base\n0 0 * * * x\nCRON_TZ=UTC", "Mars/Base", "polos explain"),
    ("RANDOM_DELAY=soon\n0 0 * * * x\nRANDOM_DELAY=1", "a number of minutes", "polos explain"),
]


@pytest.mark.parametrize(("text", "reason", "remedy"), REFUSED)
def test_what_cant_be_converted_is_listed(
    command: Command, write: Callable[[str], Path], text: str, reason: str, remedy: str
) -> None:
    path = write(f"{text}\n0 9 * * * /srv/fine\n")
    result = command("import", "crontab", path, "--tz", "UTC")
    assert result.code == 1
    assert "1 schedule converted, 1 not" in result.err
    listed = re.sub(r"\n#\s+", " ", result.out.partition("# Not converted:")[2])
    executed(result.out)
    assert list(registry()) == ["fine"]
    assert reason in listed
    assert remedy in listed


@pytest.mark.parametrize("place", ["etc/crontab", "cron.d/backup", "mine"])
def test_the_user_column_is_that_of_system_crontabs(
    command: Command, tmp_path: Path, place: str
) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("0 3 * * *\troot\t/srv/backup --all\n")
    options = ["--system"] if place == "mine" else []
    (entry,) = command("import", "crontab", path, "--json", "--tz", "UTC", *options).objects
    assert entry["target"]["text"] == "/srv/backup --all"
    assert "runs it as `root`" in entry["differences"][0]
    if place == "mine":
        result = command("import", "crontab", path, "--tz", "UTC")
        assert "pass `--system`" in result.err


def test_the_json_of_entries_and_refusals(command: Command, write: Callable[[str], Path]) -> None:
    path = write("MAILTO=ada\n@weekly /srv/report\n@reboot x\n")
    entry, refusal = command("import", "crontab", path, "--tz", "Asia/Tokyo", "--json").objects
    differences = entry.pop("differences")
    assert differences
    assert entry == {
        "name": "line 2",
        "source": "@weekly",
        "converted": True,
        "workflow": "report",
        "options": {
            "cron": "0 0 * * 0",
            "timezone": "Asia/Tokyo",
            "overlap": "allow",
            "catch_up": "none",
        },
        "target": {
            "kind": "command",
            "text": "/srv/report",
            "shell": "/bin/sh",
            "stdin": None,
            "variables": {},
        },
        "paused": False,
        "reason": None,
        "remedy": None,
    }
    assert (refusal["name"], refusal["converted"]) == ("line 3", False)


def test_stdin_is_a_crontab_too(command: Command) -> None:
    result = command("import", "crontab", "-", "--tz", "UTC", stdin="0 9 * * * /srv/report\n")
    assert result.code == 0
    assert "Schedules of `stdin`" in result.out


def test_equal_names_become_different_workflows(
    command: Command, write: Callable[[str], Path]
) -> None:
    result = command(
        "import", "crontab", write("0 9 * * * ./a.sh\n0 8 * * * ./a.sh\n"), "--tz", "UTC"
    )
    executed(result.out)
    assert list(registry()) == ["a", "a-2"]


def test_a_comment_cant_leave_its_line(command: Command, write: Callable[[str], Path]) -> None:
    hostile = "0 9 * * * echo '\x1b[2J' \"\"\" \\ \r\x0b\u2028print('out')\n@reboot \x85import os\n"
    result = command("import", "crontab", write(hostile), "--tz", "UTC")
    assert "\x1b" not in result.out
    executed(result.out)
    assert list(registry()) == ["echo"]


WRONG = [
    (None, 3, "there is no file"),
    ("", 2, "is a folder"),
    (b"\x7fELF\x00\x00", 2, "isn't a text file"),
    (b"0 9 * * * \xff\xfe", 2, "isn't a text file"),
]


@pytest.mark.parametrize(("content", "code", "expected"), WRONG)
def test_files_that_are_no_crontab(
    command: Command, tmp_path: Path, content: Any, code: int, expected: str
) -> None:
    path = tmp_path / "jobs"
    if content == "":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    result = command("import", "crontab", path)
    assert (result.code, result.out) == (code, "")
    assert result.err.count("\n") == 1
    assert expected in result.err


@pytest.mark.parametrize("text", ["", "# only a comment\n\nMAILTO=ada\n"])
def test_an_empty_crontab_is_no_error(
    command: Command, write: Callable[[str], Path], text: str
) -> None:
    result = command("import", "crontab", write(text))
    assert (result.code, result.out) == (0, "")
    assert "nothing to convert" in result.err


def test_a_zone_that_isnt_one(command: Command, write: Callable[[str], Path]) -> None:
    result = command("import", "crontab", write("0 9 * * * x"), "--tz", "Europe/Pariss")
    assert (result.code, result.out) == (2, "")
    assert "Europe/Paris" in result.err


def test_the_zone_is_that_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZ", raising=False)
    assert local_zone(tmp_path) is None
    (tmp_path / "localtime").symlink_to("/usr/share/zoneinfo/Asia/Tokyo")
    assert local_zone(tmp_path) == "Asia/Tokyo"
    (tmp_path / "timezone").write_text("Europe/Paris\n")
    assert local_zone(tmp_path) == "Europe/Paris"
    monkeypatch.setenv("TZ", "America/New_York")
    assert local_zone(tmp_path) == "America/New_York"
    monkeypatch.setenv("TZ", "EST5EDT,M3.2.0,M11.1.0")
    assert local_zone(tmp_path) == "Europe/Paris"


def test_a_machine_without_a_named_zone_gets_an_error(
    command: Command, write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polos.cli.commands.importing.local_zone", lambda: None)
    result = command("import", "crontab", write("0 9 * * * x"))
    assert "UTC is used" in result.err
    assert '"timezone": "UTC"' in result.out


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(),
    st.timedeltas(), st.dates(), st.datetimes(timezones=st.just(timezone.utc)),
    st.datetimes(timezones=st.just(ZoneInfo("Asia/Tokyo"))), st.datetimes(),
)  # fmt: skip
KEYS = st.one_of(st.text(), st.integers())


@given(
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner), st.tuples(inner), st.dictionaries(KEYS, inner), st.sets(KEYS)
        ),
        max_leaves=8,
    )
)
def test_a_literal_is_its_value(value: Any) -> None:
    import datetime as times

    text = literal(value)
    assert text.isprintable()
    names = {name: getattr(times, name) for name in ("date", "datetime", "timedelta", "timezone")}
    read = eval(text, {**names, "ZoneInfo": ZoneInfo})
    assert read == value
    assert json.dumps(str(type(read))) == json.dumps(str(type(value)))


@pytest.mark.parametrize("value", [object(), 1j, io.StringIO(), sys])
def test_other_objects_have_no_literal(value: Any) -> None:
    with pytest.raises(TypeError):
        literal(value)

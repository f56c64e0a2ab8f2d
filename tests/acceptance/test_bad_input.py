"""Invalid input is refused with an error that says what was given; nothing is stored."""

from __future__ import annotations

import os
import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import polos
from polos import (
    DuplicateWorkflowError,
    InvalidArgumentError,
    InvalidCronError,
    InvalidScheduleError,
    InvalidTimezoneError,
    PayloadTooLargeError,
    PolosClient,
    PolosError,
    ScheduleNotFoundError,
    SerializationError,
    StoreError,
    Worker,
    WorkflowNotFoundError,
    WorkflowNotSchedulableError,
    runs,
    schedules,
    workflow,
)

NAIVE = datetime(2026, 1, 1)
AWARE = datetime(2026, 1, 1, tzinfo=timezone.utc)


async def rows(client: PolosClient) -> tuple[int, int]:
    return len(await schedules.list(client)), len(await runs.list(client, limit=None))


# --- schedules -------------------------------------------------------------------------------

# Arguments of `schedules.create`, the expected error, and what its message names.
REFUSED: dict[str, tuple[dict[str, Any], type[Exception], list[str]]] = {
    "no-trigger": ({}, InvalidScheduleError, ["cron", "every", "at", "none"]),
    "two-triggers": (
        {"cron": "0 9 * * *", "every": timedelta(hours=1)},
        InvalidScheduleError,
        ["`cron` and `every`"],
    ),
    "hour-out-of-range": ({"cron": "0 25 * * *"}, InvalidCronError, ["hour", "`25`", "23"]),
    "minute-out-of-range": ({"cron": "60 * * * *"}, InvalidCronError, ["minute", "`60`", "59"]),
    "day-zero": ({"cron": "0 0 0 * *"}, InvalidCronError, ["`0`", "31"]),
    "month-13": ({"cron": "0 0 1 13 *"}, InvalidCronError, ["month", "`13`", "12"]),
    "weekday-8": ({"cron": "0 0 * * 8"}, InvalidCronError, ["`8`", "7"]),
    "six-fields": ({"cron": "0 0 9 * * *"}, InvalidCronError, ["every="]),
    "four-fields": ({"cron": "0 9 * *"}, InvalidCronError, ["`0 9 * *`", "five"]),
    "empty-cron": ({"cron": ""}, InvalidCronError, []),
    "never-fires": ({"cron": "0 0 31 2 *"}, InvalidCronError, ["`0 0 31 2 *`", "never"]),
    "reversed-range": ({"cron": "0 22-6 * * *"}, InvalidCronError, ["22-6"]),
    "step-zero": ({"cron": "*/0 * * * *"}, InvalidCronError, ["*/0"]),
    "unknown-name": ({"cron": "0 0 * * MOONDAY"}, InvalidCronError, ["MOONDAY"]),
    "unknown-macro": ({"cron": "@sometimes"}, InvalidCronError, ["@sometimes"]),
    "reboot": ({"cron": "@reboot"}, InvalidCronError, ["@reboot"]),
    "letters": ({"cron": "a b c d e"}, InvalidCronError, ["`a`"]),
    "empty-list-item": ({"cron": "1,,2 * * * *"}, InvalidCronError, ["1,,2"]),
    "question-mark": ({"cron": "0 ? * * 1"}, InvalidCronError, ["?", "day fields"]),
    "wide-digits": ({"cron": "0 ９ * * *"}, InvalidCronError, ["９"]),
    "nul-in-cron": ({"cron": "0 9 * * *\0"}, InvalidCronError, []),
    "cron-of-10-kB": ({"cron": "0," * 5_000 + "0 9 * * x"}, InvalidCronError, []),
    "cron-as-number": ({"cron": 5}, InvalidCronError, ["`5`", "int"]),
    "cron-as-timedelta": ({"cron": timedelta(hours=1)}, InvalidCronError, ["timedelta"]),
    "unknown-zone": (
        {"cron": "0 9 * * *", "timezone": "America/New_Yrok"},
        InvalidTimezoneError,
        ["America/New_Yrok", "America/New_York"],
    ),
    "abbreviated-zone": (
        {"cron": "0 9 * * *", "timezone": "PDT"},
        InvalidTimezoneError,
        ["PDT"],
    ),
    "offset-as-zone": (
        {"cron": "0 9 * * *", "timezone": "+02:00"},
        InvalidTimezoneError,
        ["+02:00"],
    ),
    "empty-zone": ({"cron": "0 9 * * *", "timezone": ""}, InvalidTimezoneError, []),
    "path-as-zone": (
        {"cron": "0 9 * * *", "timezone": "../../etc/passwd"},
        InvalidTimezoneError,
        ["../../etc/passwd"],
    ),
    "fixed-offset": (
        {"cron": "0 9 * * *", "timezone": timezone(timedelta(hours=2))},
        InvalidTimezoneError,
        ["7200", "daylight saving"],
    ),
    "empty-key": ({"cron": "0 9 * * *", "key": ""}, InvalidScheduleError, ["key"]),
    "number-as-key": (
        {"cron": "0 9 * * *", "key": 7},
        InvalidScheduleError,
        ["key", "`7`", "str("],
    ),
    "nul-in-key": ({"cron": "0 9 * * *", "key": "a\0b"}, InvalidScheduleError, ["key", "\\x00"]),
    "newline-in-key": ({"cron": "0 9 * * *", "key": "a\nb"}, InvalidScheduleError, ["key"]),
    "surrogate-in-key": ({"cron": "0 9 * * *", "key": "\ud800"}, InvalidScheduleError, ["key"]),
    "key-of-10-kB": (
        {"cron": "0 9 * * *", "key": "k" * 10_000},
        InvalidScheduleError,
        ["10000", "255"],
    ),
    "blank-around-key": ({"cron": "0 9 * * *", "key": " a"}, InvalidScheduleError, ["blank"]),
    "every-as-text": (
        {"every": "30"},
        InvalidScheduleError,
        ["every", "`30`", "a number of seconds or a `datetime.timedelta`"],
    ),
    "every-too-short": (
        {"every": timedelta(milliseconds=999)},
        InvalidScheduleError,
        ["every", "1 second"],
    ),
    "every-negative": ({"every": timedelta(seconds=-5)}, InvalidScheduleError, ["every"]),
    "every-too-long": ({"every": timedelta.max}, InvalidScheduleError, ["every", "100 years"]),
    "naive-at": ({"at": NAIVE}, InvalidScheduleError, ["at", "2026-01-01T00:00:00", "time zone"]),
    "text-as-at": ({"at": "2026-01-01"}, InvalidScheduleError, ["at", "2026-01-01"]),
    "naive-start": ({"cron": "0 9 * * *", "start_at": NAIVE}, InvalidScheduleError, ["start_at"]),
    "naive-end": ({"cron": "0 9 * * *", "end_at": NAIVE}, InvalidScheduleError, ["end_at"]),
    "end-before-start": (
        {"cron": "0 9 * * *", "start_at": AWARE, "end_at": AWARE},
        InvalidScheduleError,
        ["end_at", "start_at"],
    ),
    "unknown-overlap": (
        {"cron": "0 9 * * *", "overlap": "bufer_one"},
        InvalidScheduleError,
        ["bufer_one", "buffer_one"],
    ),
    "unknown-catch-up": (
        {"cron": "0 9 * * *", "catch_up": "newest"},
        InvalidScheduleError,
        ["newest", "latest"],
    ),
    "max-runs-zero": (
        {"cron": "0 9 * * *", "max_runs": 0},
        InvalidScheduleError,
        ["max_runs", "`0`"],
    ),
    "max-runs-true": ({"cron": "0 9 * * *", "max_runs": True}, InvalidScheduleError, ["max_runs"]),
    "max-catch-up-negative": (
        {"cron": "0 9 * * *", "max_catch_up": -1},
        InvalidScheduleError,
        ["-1"],
    ),
    "jitter-negative": (
        {"cron": "0 9 * * *", "jitter": timedelta(-1)},
        InvalidScheduleError,
        ["jitter"],
    ),
    "jitter-as-text": (
        {"cron": "0 9 * * *", "jitter": "5"},
        InvalidScheduleError,
        ["jitter", "`5`"],
    ),
    "skip-as-text": ({"cron": "0 9 * * *", "skip": "2026-12-25"}, InvalidScheduleError, ["skip"]),
    "skip-with-a-wrong-date": (
        {"cron": "0 9 * * *", "skip": ["2026-02-30"]},
        InvalidScheduleError,
        ["2026-02-30"],
    ),
    "input-not-json": (
        {"cron": "0 9 * * *", "input": object()},
        SerializationError,
        ["input", "object"],
    ),
    "input-too-large": (
        {"cron": "0 9 * * *", "input": "x" * 17_000_000},
        PayloadTooLargeError,
        ["input", "16,777,216"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_an_invalid_schedule_is_refused(client: PolosClient, name: str) -> None:
    options, kind, named = REFUSED[name]
    workflow(id="job", schedule=True)(print)
    with pytest.raises(kind) as caught:
        await schedules.create(client, "job", **options)
    message = str(caught.value)
    for text in named:
        assert text in message
    assert len(message) < 1_000
    assert isinstance(caught.value, PolosError)
    assert isinstance(caught.value, ValueError)
    assert await rows(client) == (0, 0)


DECORATED = {
    name: case for name, case in REFUSED.items() if name not in ("no-trigger", "input-too-large")
}


@pytest.mark.parametrize("name", DECORATED)
def test_the_decorator_refuses_the_same(name: str) -> None:
    options, kind, named = DECORATED[name]
    with pytest.raises(kind) as caught:
        workflow(id="job", schedule=options)(print)
    for text in named:
        assert text in str(caught.value)


async def test_an_invalid_update_changes_nothing(client: PolosClient) -> None:
    workflow(id="job", schedule=True)(print)
    id = await schedules.create(client, "job", "0 9 * * *")
    before = await schedules.get(client, id)
    changes: list[dict[str, Any]] = [
        {"cron": "0 25 * * *"},
        {"timezone": "Mars/Olympus"},
        {"cron": "0 9 * * *", "every": timedelta(hours=1)},
        {"key": "other"},
        {"overlap": "sometimes"},
        {"colour": "red"},
        {"max_runs": 0},
        {"start_at": AWARE, "end_at": AWARE - timedelta(days=1)},
    ]
    for change in changes:
        with pytest.raises(InvalidScheduleError):
            await schedules.update(client, id, **change)
    assert await schedules.get(client, id) == before


async def test_an_end_before_the_stored_start_is_refused(client: PolosClient) -> None:
    workflow(id="job", schedule=True)(print)
    id = await schedules.create(client, "job", "0 9 * * *", start_at=AWARE)
    with pytest.raises(InvalidScheduleError, match="end_at"):
        await schedules.update(client, id, end_at=AWARE - timedelta(days=1))


def test_an_unknown_option_names_the_nearest_one() -> None:
    with pytest.raises(InvalidScheduleError, match=r"time_zone.*did you mean `timezone`"):
        workflow(id="job", schedule={"cron": "0 9 * * *", "time_zone": "UTC"})(print)


@pytest.mark.parametrize("schedule", [5, timedelta(hours=1), ["0 9 * * *"], b"0 9 * * *", 1.5])
def test_a_schedule_of_the_wrong_type_is_refused_by_the_decorator(schedule: Any) -> None:
    with pytest.raises(InvalidScheduleError, match="job"):
        workflow(id="job", schedule=schedule)(print)


# --- workflows -------------------------------------------------------------------------------


async def test_an_unknown_workflow_names_the_nearest_id(client: PolosClient) -> None:
    workflow(id="daily-report", schedule=True)(print)
    for call in (
        schedules.create(client, "daily-reprot", "0 9 * * *"),
        runs.invoke(client, "daily-reprot"),
    ):
        with pytest.raises(
            WorkflowNotFoundError, match=r"`daily-reprot`.*`daily-report`"
        ) as caught:
            await call
        assert isinstance(caught.value, LookupError)
    with pytest.raises(WorkflowNotFoundError, match="worker"):
        await schedules.create(client, "zzz", "0 9 * * *")
    assert await rows(client) == (0, 0)


async def test_a_workflow_without_schedule_isnt_schedulable(client: PolosClient) -> None:
    manual = workflow(id="manual")(print)
    for given in ("manual", manual):
        with pytest.raises(WorkflowNotSchedulableError, match=r"`manual`.*schedule=True"):
            await schedules.create(client, given, "0 9 * * *")
    assert await rows(client) == (0, 0)


def test_two_functions_under_one_id_are_an_error_at_import() -> None:
    @workflow(id="same")
    async def first() -> None: ...

    with pytest.raises(DuplicateWorkflowError, match=r"`same`.*first.*second") as caught:

        @workflow(id="same")
        async def second() -> None: ...

    assert str(caught.value).count("test_bad_input.py:") == 2


async def three(a: Any, b: Any, c: Any) -> None: ...


async def generator(ctx: Any) -> Any:
    yield


async def required_keyword(ctx: Any, *, needed: int) -> None: ...


@pytest.mark.parametrize("handler", [three, generator, required_keyword, int, "report", None, 5])
def test_what_cant_be_a_handler_is_refused(handler: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="job"):
        workflow(id="job")(handler)


@pytest.mark.parametrize(
    "options",
    [
        {"id": ""}, {"id": 5}, {"id": "a\0"}, {"id": "x" * 256}, {"id": " a "}, {"id": "\ud800"},
        {"retries": -1}, {"retries": 1.5}, {"timeout": 0}, {"timeout": -1}, {"timeout": "1m"},
        {"timeout": float("nan")}, {"backoff": -1}, {"backoff": "fast"}, {"on_failure": "mail"},
    ],
)  # fmt: skip
def test_invalid_options_of_the_decorator_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        workflow(**{"id": "job", **options})(print)


# --- clients and calls -----------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, "polos.db", 5, object()])
async def test_what_isnt_a_client_is_refused(given: Any) -> None:
    workflow(id="job", schedule=True)(print)
    with pytest.raises(InvalidArgumentError, match=r"client.*PolosClient"):
        await schedules.create(given, "job", "0 9 * * *")
    with pytest.raises(InvalidArgumentError, match="client"):
        Worker(given)


@pytest.mark.parametrize("given", [None, "polos.db", 5])
@pytest.mark.parametrize("call", ["get", "list", "history", "pause", "trigger", "delete"])
async def test_every_call_says_that_it_needs_a_client(given: Any, call: str) -> None:
    arguments = () if call == "list" else ("sch_1",)
    with pytest.raises(InvalidArgumentError, match=r"client.*PolosClient"):
        await getattr(schedules, call)(given, *arguments)


@pytest.mark.parametrize("given", [None, "polos.db"])
async def test_runs_need_a_client_too(given: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"client.*PolosClient"):
        await runs.list(given)
    with pytest.raises(InvalidArgumentError, match=r"client.*PolosClient"):
        await runs.get(given, "run_1")
    job = workflow(id="job")(print)
    with pytest.raises(InvalidArgumentError, match=r"client.*PolosClient"):
        await job.run(given)


@pytest.mark.parametrize("value", [object(), {"a": {1: object()}}, lambda: 0])
async def test_a_payload_that_cant_be_stored_starts_nothing(
    client: PolosClient, value: Any
) -> None:
    job = workflow(id="job")(print)
    with pytest.raises(SerializationError, match="payload"):
        await job.invoke(client, value)
    assert await rows(client) == (0, 0)


async def test_the_error_about_a_huge_payload_has_its_size_and_the_limit(
    client: PolosClient,
) -> None:
    job = workflow(id="job")(print)
    with pytest.raises(PayloadTooLargeError, match="16,777,216") as caught:
        await job.invoke(client, ["x" * 1_000_000] * 20)
    assert caught.value.size > caught.value.limit
    assert await rows(client) == (0, 0)


@pytest.mark.parametrize("id", [5, None, b"sch"])
async def test_ids_are_text(client: PolosClient, id: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="id"):
        await schedules.get(client, id)
    with pytest.raises(InvalidArgumentError, match="id"):
        await runs.get(client, id)


@pytest.mark.parametrize(
    "id", ["", "x" * 10_000, "a\0b", "' OR 1=1 --", "😀", "\u202eabc", "\ud800"]
)
async def test_ids_of_nothing_find_nothing(client: PolosClient, id: str) -> None:
    with pytest.raises((ScheduleNotFoundError, InvalidArgumentError)) as caught:
        await schedules.get(client, id)
    assert len(str(caught.value)) < 500
    with pytest.raises((polos.RunNotFoundError, InvalidArgumentError)):
        await runs.get(client, id)


NAMES = ["😀", "a'b\"c`d", "; DROP TABLE schedule; --", "%s {x} $1 ?", "\u202eright to left",
         "naïve", "日本語", "a/b\\c", "x" * 255, "𝕏" * 255, "e\u0301"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_unusual_names_are_ordinary_names(name: str) -> None:
    seen: list[str] = []

    @workflow(id=name, schedule=True)
    async def odd(ctx: Any, payload: Any) -> None:
        await ctx.step.run(name, seen.append, payload.key)

    import polos.testing

    async with polos.testing.clock(AWARE) as t:
        id = await schedules.create(t.client, name, "0 9 * * *", key=name, input={name: name})
        schedule = await schedules.get(t.client, id)
        await t.advance(days=1)
        (run,) = await t.runs(workflow=name, key=name)
        (step,) = (await runs.get(t.client, run.id)).steps
    assert (schedule.workflow, schedule.key, schedule.input) == (name, name, {name: name})
    assert (run.status, step.name, seen) == ("succeeded", name, [name])


@pytest.mark.parametrize("value", [NAIVE, "2026-01-01", None])
async def test_backfill_takes_aware_datetimes_only(client: PolosClient, value: Any) -> None:
    workflow(id="job", schedule=True)(print)
    id = await schedules.create(client, "job", "0 9 * * *")
    with pytest.raises(InvalidArgumentError, match="start"):
        await schedules.backfill(client, id, value, AWARE)
    with pytest.raises(InvalidArgumentError, match="end"):
        await schedules.backfill(client, id, AWARE, value)
    assert (await rows(client))[1] == 0


@pytest.mark.parametrize("status", ["done", 5, ["queued", "asleep"]])
async def test_an_unknown_status_is_refused(client: PolosClient, status: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="status"):
        await runs.list(client, status=status)
    with pytest.raises(InvalidArgumentError, match="status"):
        await schedules.list(client, status=status)


@pytest.mark.parametrize("limit", [-1, "10", 1.5, True])
async def test_an_invalid_limit_is_refused(client: PolosClient, limit: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="limit"):
        await runs.list(client, limit=limit)
    with pytest.raises(InvalidArgumentError, match="limit"):
        await schedules.list(client, limit=limit)


def test_preview_refuses_what_create_refuses() -> None:
    with pytest.raises(InvalidCronError, match=r"`25`.*0 25 \* \* \*"):
        schedules.preview("0 25 * * *")
    with pytest.raises(InvalidTimezoneError, match="Europe/London"):
        schedules.preview("0 9 * * *", "Europe/Londn")
    with pytest.raises(InvalidArgumentError, match="after"):
        schedules.preview("0 9 * * *", after=NAIVE)
    with pytest.raises(InvalidArgumentError, match="count"):
        schedules.preview("0 9 * * *", count=-1)
    with pytest.raises(InvalidCronError):
        schedules.explain("0 0 31 2 *")
    assert schedules.preview("0 9 * * *", ZoneInfo("Asia/Tokyo"), count=1)  # type: ignore[arg-type]


# --- databases -------------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["", "a\0b", "mysql://x/y", "redis://h", "ftp://x", 5, b"\0"])
def test_an_invalid_database_is_refused_at_once(database: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="database"):
        PolosClient(database)


@pytest.mark.parametrize("options", [{"project_id": ""}, {"project_id": 5}, {"durability": "some"}])
def test_invalid_options_of_a_client_are_refused(options: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(options))):
        PolosClient("polos.db", **options)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_text_file(path: Path) -> None:
    path.write_text("Dear reader, " * 1_000)


def a_short_text_file(path: Path) -> None:
    path.write_text("Hello")


def a_newer_schema(path: Path) -> None:
    with PolosClient(path) as client:
        schedules.sync.list(client)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9999")
    connection.commit()
    connection.close()


def somebody_elses_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE invoices (id INTEGER)")
    connection.execute("PRAGMA user_version = 3")
    connection.commit()
    connection.close()


def read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


UNUSABLE = [a_folder, a_text_file, a_short_text_file, a_newer_schema, somebody_elses_database]


@pytest.mark.parametrize("make", UNUSABLE)
async def test_a_foreign_file_is_named_in_the_error_and_left_unchanged(
    tmp_path: Path, make: Any
) -> None:
    path = tmp_path / "mine.db"
    make(path)
    before = read(path)
    with PolosClient(path) as client:
        with pytest.raises(StoreError, match=r"mine\.db") as caught:
            await schedules.list(client)
        # A second try fails in the same way: the file was not replaced by an empty one.
        with pytest.raises(StoreError):
            schedules.sync.list(client)
        with pytest.raises(StoreError):
            await Worker(client, app="tests").start()
    assert isinstance(caught.value, PolosError)
    assert read(path) == before
    assert files(tmp_path) == [path]


async def test_a_folder_that_doesnt_exist_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "polos.db"
    with PolosClient(path) as client, pytest.raises(StoreError, match="nowhere"):
        await schedules.list(client)
    assert not path.parent.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_read_only_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "polos.db"
    with PolosClient(path) as client:
        await schedules.list(client)
    path.chmod(0o400)
    workflow(id="job", schedule=True)(print)
    with PolosClient(path) as client, pytest.raises(StoreError, match=r"polos\.db"):
        await schedules.create(client, "job", "0 9 * * *")

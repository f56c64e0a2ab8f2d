"""The documentation's page on scheduled workflows, block by block.

Each block is a separate module. Functions that the page presupposes, such as ``fetch_daily_data``,
are defined above it.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable
from datetime import datetime
from inspect import isawaitable
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import polos.testing
from polos import InvalidCronError, PolosClient, Workflow, runs, schedules, workflow

TAKEN_FOR_GRANTED = """
    from __future__ import annotations
    from pydantic import BaseModel

    calls = []

    class User(BaseModel):
        name: str
        email: str

    async def fetch_daily_data():
        calls.append("fetch_daily_data")
        return {"rows": 3}

    def create_report(data):
        calls.append("create_report")
        return f"{data['rows']} rows"

    async def email_report(report):
        calls.append(("email_report", report))

    async def sync_to_warehouse():
        calls.append("sync_to_warehouse")

    async def send_user_reminder(user_id):
        calls.append(("send_user_reminder", user_id))

    async def get_user(user_id):
        calls.append(("get_user", user_id))
        return User(name=user_id, email=f"{user_id}@example.org")

    def create_digest(user):
        return f"News for {user.name}"

    async def send_email(address, text):
        calls.append(("send_email", address, text))
"""

IMPORTS = """
    from polos import SchedulePayload, WorkflowContext, workflow
"""

Load = Callable[..., ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Write a block into a file and import it."""

    def load_block(*parts: str) -> ModuleType:
        path = tmp_path / f"block_{len(list(tmp_path.iterdir()))}.py"
        path.write_text("\n".join(dedented(part) for part in (TAKEN_FOR_GRANTED, *parts)))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, path.stem, module)
        spec.loader.exec_module(module)
        return module

    return load_block


def dedented(text: str) -> str:
    lines = text.strip("\n").splitlines()
    margin = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[margin:] for line in lines)


async def executed(block: str, **names: Any) -> dict[str, Any]:
    """Execute a block with ``await`` at its top level, like ``python -m asyncio``."""
    code = compile(dedented(block), "<page>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(code, names)
    if isawaitable(waiting):
        await waiting
    return names


# --- 1. inline cron string -------------------------------------------------------------------

INLINE = """
    from polos import workflow, WorkflowContext

    @workflow(
        id="daily-report",
        schedule="0 9 * * *"  # Every day at 9:00 AM UTC
    )
    async def daily_report(ctx: WorkflowContext, payload: SchedulePayload):
        print(f"Report generated at: {payload.timestamp}")

        # Generate and send report
        data = await ctx.step.run("fetch_data", fetch_daily_data)
        report = await ctx.step.run("generate", create_report, data)
        await ctx.step.run("send", email_report, report)

        return {"status": "completed"}
"""


async def test_an_inline_cron_string_runs_the_report_every_day_at_nine_utc(
    load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    block = load(INLINE)
    async with polos.testing.clock("2026-03-07T00:00+00:00") as t:
        await t.advance(hours=9)
        (run,) = await t.runs(workflow="daily-report")
        details = await runs.get(t.client, run.id)
    assert block.calls == ["fetch_daily_data", "create_report", ("email_report", "3 rows")]
    assert run.result == {"status": "completed"}
    assert [step.name for step in details.steps] == ["fetch_data", "generate", "send"]
    assert capsys.readouterr().out == "Report generated at: 2026-03-07 09:00:00+00:00\n"


def test_the_first_block_names_a_payload_that_it_doesnt_import(load: Load) -> None:
    block = load(INLINE)
    assert not hasattr(block, "SchedulePayload")
    assert block.daily_report.payload_type is polos.SchedulePayload


WITH_TIMEZONE = """
    @workflow(
        id="end-of-day-sync",
        schedule={
            "cron": "0 17 * * *",  # 5:00 PM
            "timezone": "America/New_York"
        }
    )
    async def end_of_day_sync(ctx: WorkflowContext, payload: SchedulePayload):
        print(f"Syncing at {payload.timestamp} Eastern Time")
        await ctx.step.run("sync_data", sync_to_warehouse)
        return {"status": "synced"}
"""


async def test_a_dict_with_a_timezone_syncs_at_five_pm_eastern_in_winter_and_summer(
    load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    block = load(IMPORTS, WITH_TIMEZONE)
    async with polos.testing.clock("2026-03-07T00:00-05:00") as t:
        await t.advance(days=2)
    assert capsys.readouterr().out.splitlines() == [
        "Syncing at 2026-03-07 17:00:00-05:00 Eastern Time",
        "Syncing at 2026-03-08 17:00:00-04:00 Eastern Time",
    ]
    assert block.calls == ["sync_to_warehouse"] * 2


# --- 2. create schedule via API --------------------------------------------------------------

SCHEDULABLE = """
    # Define workflow as schedulable
    @workflow(
        id="user-reminder",
        schedule=True  # Can be scheduled via API
    )
    async def user_reminder(ctx: WorkflowContext, payload: SchedulePayload):
        user_id = payload.key  # Schedule key (e.g., user ID)
        print(f"Reminder for user {user_id} at {payload.timestamp}")
        await ctx.step.run("send_reminder", send_user_reminder, user_id)
        return {"status": "sent"}
"""

CREATE_BY_API = """
    import asyncio
    from polos import schedules, PolosClient

    async def schedule_user_reminders(client):
        # Schedule per-user reminder
        schedule_id = await schedules.create(
            client,
            workflow="user-reminder",
            cron="0 8 * * *",  # 8:00 AM daily
            timezone="America/Los_Angeles",
            key="user_123"  # Per-user schedule
        )
        print(f"Created schedule: {schedule_id}")

    client = PolosClient()
    asyncio.run(schedule_user_reminders(client))
"""


@pytest.mark.files
def test_a_script_creates_a_schedule_in_the_default_database(
    load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load(IMPORTS, SCHEDULABLE)
    block = load(CREATE_BY_API)
    (schedule,) = schedules.sync.list(block.client)
    block.client.close()
    assert (tmp_path / "polos.db").is_file()
    assert capsys.readouterr().out == f"Created schedule: {schedule.id}\n"
    assert (schedule.workflow, schedule.key, schedule.cron, schedule.timezone) == (
        "user-reminder", "user_123", "0 8 * * *", "America/Los_Angeles",
    )  # fmt: skip


async def test_the_reminder_comes_at_eight_in_los_angeles(
    load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    block = load(IMPORTS, SCHEDULABLE)
    create = load(CREATE_BY_API.partition("client = PolosClient()")[0])
    async with polos.testing.clock("2026-07-01T00:00-07:00") as t:
        await t.advance(days=1)
        assert await t.runs() == [], "`schedule=True` alone fires nothing"
        await create.schedule_user_reminders(t.client)
        await t.advance(days=1)
    assert block.calls == [("send_user_reminder", "user_123")]
    assert "Reminder for user user_123 at 2026-07-02 08:00:00-07:00" in capsys.readouterr().out


# --- schedule payload ------------------------------------------------------------------------

OWN_PAYLOAD = """
    from datetime import datetime
    from pydantic import BaseModel

    class SchedulePayload(BaseModel):
        timestamp: datetime                # When this workflow was scheduled to run
        last_timestamp: datetime | None    # When this schedule last ran (None if first run)
        timezone: str                      # Timezone of the schedule
        schedule_id: str                   # Unique identifier for this schedule
        key: str                           # User ID or custom identifier
        upcoming: datetime                 # Next scheduled run time
"""

TELLS_ITS_PAYLOAD = """
    @workflow(id="scheduled-task", schedule="0 */6 * * *")
    async def scheduled_task(ctx: WorkflowContext, payload: SchedulePayload):
        # Access schedule information
        print(f"Current run: {payload.timestamp}")
        print(f"Last run: {payload.last_timestamp}")
        print(f"Next run: {payload.upcoming}")
        print(f"Schedule ID: {payload.schedule_id}")

        return {"executed_at": payload.timestamp}
"""


@pytest.mark.parametrize("imports", [[IMPORTS], [IMPORTS, OWN_PAYLOAD]], ids=["ours", "its-own"])
async def test_the_payload_describes_the_slot(
    load: Load, capsys: pytest.CaptureFixture[str], imports: list[str]
) -> None:
    load(*imports, TELLS_ITS_PAYLOAD)
    async with polos.testing.clock("2026-03-07T05:00+00:00") as t:
        (schedule,) = await schedules.list(t.client)
        await t.advance(hours=7)
        first, second = await t.runs()
    assert capsys.readouterr().out.splitlines() == [
        "Current run: 2026-03-07 06:00:00+00:00",
        "Last run: None",
        "Next run: 2026-03-07 12:00:00+00:00",
        f"Schedule ID: {schedule.id}",
        "Current run: 2026-03-07 12:00:00+00:00",
        "Last run: 2026-03-07 06:00:00+00:00",
        "Next run: 2026-03-07 18:00:00+00:00",
        f"Schedule ID: {schedule.id}",
    ]
    utc = ZoneInfo("UTC")
    assert first.result == {"executed_at": datetime(2026, 3, 7, 6, tzinfo=utc)}
    assert second.result == {"executed_at": datetime(2026, 3, 7, 12, tzinfo=utc)}


def test_the_payload_has_the_documented_fields_and_no_others(load: Load) -> None:
    documented = load(OWN_PAYLOAD).SchedulePayload.model_fields
    ours = polos.SchedulePayload.model_fields
    assert list(ours) == list(documented)
    assert {name: field.annotation for name, field in ours.items()} == {
        name: field.annotation for name, field in documented.items()
    }


# --- cron expressions ------------------------------------------------------------------------

# Sunday 1 March 2026, midnight: what each pattern of the page means, in words and in slots.
PATTERNS: dict[str, tuple[str, list[str]]] = {
    "0 * * * *": ("every hour", ["Sun 01 01:00", "Sun 01 02:00", "Sun 01 03:00"]),
    "0 9 * * *": ("at 09:00", ["Sun 01 09:00", "Mon 02 09:00", "Tue 03 09:00"]),
    "0 8 * * 1": ("Monday", ["Mon 02 08:00", "Mon 09 08:00", "Mon 16 08:00"]),
    "*/15 * * * *": ("15 minutes", ["Sun 01 00:15", "Sun 01 00:30", "Sun 01 00:45"]),
    "0 0 1 * *": ("day 1 of every month", ["Wed 01 00:00", "Fri 01 00:00", "Mon 01 00:00"]),
    "0 17 * * 1-5": ("Monday to Friday", ["Mon 02 17:00", "Tue 03 17:00", "Wed 04 17:00"]),
    "0 */6 * * *": ("6 hours", ["Sun 01 06:00", "Sun 01 12:00", "Sun 01 18:00"]),
    "0 17 * * *": ("17:00", ["Sun 01 17:00", "Mon 02 17:00", "Tue 03 17:00"]),
    "0 3 * * *": ("03:00", ["Sun 01 03:00", "Mon 02 03:00", "Tue 03 03:00"]),
    "0 12 * * *": ("12:00", ["Sun 01 12:00", "Mon 02 12:00", "Tue 03 12:00"]),
    "0 15 * * *": ("15:00", ["Sun 01 15:00", "Mon 02 15:00", "Tue 03 15:00"]),
    "* * * * *": ("minute", ["Sun 01 00:01", "Sun 01 00:02", "Sun 01 00:03"]),
}
MIDNIGHT = datetime(2026, 3, 1, tzinfo=ZoneInfo("UTC"))


@pytest.mark.filterwarnings("ignore::polos.ScheduleFrequencyWarning")
@pytest.mark.parametrize("cron", PATTERNS)
def test_every_pattern_of_the_page_means_what_it_says(cron: str) -> None:
    words, slots = PATTERNS[cron]
    explanation = schedules.explain(cron, after=MIDNIGHT)
    assert words.lower() in explanation.english.lower()
    previewed = schedules.preview(cron, count=3, after=MIDNIGHT)
    assert [f"{slot:%a %d %H:%M}" for slot in previewed] == slots
    assert list(explanation.upcoming[:3]) == previewed


async def test_every_monday_at_eight_fires_on_mondays_only() -> None:
    @workflow(id="weekly", schedule="0 8 * * 1")
    async def weekly(ctx: Any, payload: Any) -> str:
        return f"{payload.timestamp:%A %H:%M}"

    async with polos.testing.clock(MIDNIGHT) as t:
        await t.advance(days=28)
        assert [run.result for run in await t.runs()] == ["Monday 08:00"] * 4


# Each field's first and last value, one beyond either end, and the forms of the page's syntax.
FIELDS = ["minute", "hour", "day", "month", "day_of_week"]
RANGES = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]


def with_field(index: int, text: str) -> str:
    fields = ["0", "0", "*", "*", "*"]
    fields[index] = text
    return " ".join(fields)


@pytest.mark.filterwarnings("ignore::polos.ScheduleFrequencyWarning")
@pytest.mark.parametrize("index", range(5), ids=FIELDS)
def test_every_field_takes_its_documented_range_and_nothing_beyond(index: int) -> None:
    low, high = RANGES[index]
    for text in ("*", "*/2", f"{low}", f"{high}", f"{low}-{high}", f"{low},{high}", "2-4", "3,5"):
        assert schedules.preview(with_field(index, text), count=1)
    beyond = [high + 1 if index < 4 else 8, 99] + ([] if low == 0 else [0])
    for value in beyond:
        with pytest.raises(InvalidCronError) as caught:
            schedules.preview(with_field(index, str(value)))
        assert f"`{value}`" in str(caught.value)
        assert with_field(index, str(value)) in str(caught.value)


def test_sunday_is_zero() -> None:
    days = [f"{schedules.preview(f'0 0 * * {n}', count=1, after=MIDNIGHT)[0]:%A}" for n in range(7)]
    assert days == ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]


def test_every_minute_is_accepted_with_one_warning_that_names_better_tools() -> None:
    with pytest.warns(polos.ScheduleFrequencyWarning, match=r"queue.*event.*every=") as caught:

        @workflow(id="bad", schedule={"cron": "* * * * *", "timezone": "Africa/Nairobi"})
        async def bad() -> None: ...

    assert len(caught) == 1
    assert caught[0].filename == __file__


# --- per-user schedules ----------------------------------------------------------------------

PER_USER = """
    from polos import schedules, PolosClient

    async def setup_user_schedule(client, user_id: str, preferences: dict):
        # Create/update per-user schedule
        schedule_id = await schedules.create(
            client,
            workflow="daily-digest",
            cron="0 8 * * *",  # 8 AM
            timezone=preferences["timezone"],
            key=user_id  # Unique per user
        )
        return schedule_id
"""

EACH_USER = """
    client = PolosClient()

    # Each user gets their own schedule
    await setup_user_schedule(client, "user_123", {"timezone": "America/New_York"})
    await setup_user_schedule(client, "user_456", {"timezone": "Europe/London"})
"""

DIGEST = """
    @workflow(id="daily-digest", schedule=True)
    async def daily_digest(ctx: WorkflowContext, payload: SchedulePayload):
        user_id = payload.key  # Get user from schedule key

        # Fetch user-specific data
        user = await ctx.step.run("get_user", get_user, user_id)
        digest = await ctx.step.run("generate", create_digest, user)
        await ctx.step.run("send", send_email, user.email, digest)

        return {"user_id": user_id, "sent": True}
"""


@pytest.mark.usefixtures("own_database")
async def test_each_user_gets_a_schedule_in_the_users_own_zone(load: Load) -> None:
    load(IMPORTS, DIGEST)
    names = await executed(EACH_USER, **vars(load(PER_USER)))
    async with names["client"] as client:
        found = await schedules.list(client, workflow="daily-digest")
    assert {schedule.key: schedule.timezone for schedule in found} == {
        "user_123": "America/New_York",
        "user_456": "Europe/London",
    }


async def test_the_digest_goes_to_each_user_at_eight_local_time(load: Load) -> None:
    block = load(IMPORTS, DIGEST)
    setup = load(PER_USER).setup_user_schedule
    async with polos.testing.clock("2026-07-01T00:00+00:00") as t:
        await setup(t.client, "user_123", {"timezone": "America/New_York"})
        await setup(t.client, "user_456", {"timezone": "Europe/London"})
        await t.advance(days=1)
        digests = await t.runs(workflow="daily-digest")
    assert [run.result for run in digests] == [
        {"user_id": "user_456", "sent": True},
        {"user_id": "user_123", "sent": True},
    ]
    assert [f"{run.timestamp:%H:%M%z}" for run in digests] == ["08:00+0100", "08:00-0400"]
    assert ("send_email", "user_123@example.org", "News for user_123") in block.calls


async def test_the_same_workflow_and_key_update_and_dont_duplicate(load: Load) -> None:
    load(IMPORTS, DIGEST)
    setup = load(PER_USER).setup_user_schedule
    async with polos.testing.clock("2026-07-01T00:00+00:00") as t:
        first = await setup(t.client, "user_123", {"timezone": "America/New_York"})
        again = await setup(t.client, "user_123", {"timezone": "Asia/Tokyo"})
        other = await setup(t.client, "user_456", {"timezone": "Asia/Tokyo"})
        found = await schedules.list(t.client)
    assert (again, other != first, len(found)) == (first, True, 2)
    assert {schedule.timezone for schedule in found} == {"Asia/Tokyo"}


async def test_the_key_is_global_by_default(client: PolosClient) -> None:
    workflow(id="cleanup-task", schedule=True)(print)
    id = await schedules.create(client, workflow="cleanup-task", cron="0 3 * * *")
    assert (await schedules.get(client, id)).key == "global"
    assert await schedules.create(client, "cleanup-task", "0 3 * * *", key="global") == id


# --- timezones -------------------------------------------------------------------------------

MORNING = """
    @workflow(
        id="morning-report",
        schedule={
            "cron": "0 9 * * *",
            "timezone": "America/New_York"  # Runs at 9 AM Eastern
        }
    )
    async def morning_report(ctx: WorkflowContext, payload: SchedulePayload):
        # Runs at 9 AM Eastern time, adjusts for DST automatically
        return {"executed_at": payload.timestamp}
"""


async def test_nine_am_eastern_stays_nine_am_eastern_all_year(load: Load) -> None:
    load(IMPORTS, MORNING)
    async with polos.testing.clock("2026-01-01T00:00-05:00") as t:
        await t.advance(days=365)
        times = [run.result["executed_at"] for run in await t.runs()]
    assert len(times) == 365
    assert {time.strftime("%H:%M") for time in times} == {"09:00"}
    assert {time.astimezone(ZoneInfo("UTC")).hour for time in times} == {13, 14}


ZONES = {
    "UTC": "09:00",
    "America/New_York": "14:00",
    "America/Los_Angeles": "17:00",
    "Europe/London": "09:00",
    "Asia/Tokyo": "00:00",
    "Australia/Sydney": "22:00",
}


@pytest.mark.parametrize("zone", ZONES)
def test_every_zone_of_the_table_is_known(zone: str) -> None:
    (slot,) = schedules.preview("0 9 * * *", zone, count=1, after=datetime(2026, 1, 15, 12, tzinfo=ZoneInfo("UTC")))  # fmt: skip # noqa: E501
    assert slot.tzinfo is ZoneInfo(zone)
    assert f"{slot:%H:%M}" == "09:00"
    assert f"{slot.astimezone(ZoneInfo('UTC')):%H:%M}" == ZONES[zone]


# --- managing schedules via API --------------------------------------------------------------

CREATE_OR_UPDATE = """
    from polos import schedules, PolosClient

    client = PolosClient()

    # Global schedule (one per workflow)
    schedule_id = await schedules.create(
        client,
        workflow="cleanup-task",
        cron="0 3 * * *",  # 3 AM daily
        timezone="UTC",
        key="global"
    )

    # Per-user schedule
    schedule_id = await schedules.create(
        client,
        workflow="user-notification",
        cron="0 12 * * *",  # Noon daily
        timezone="America/Chicago",
        key="user_789"
    )
"""

UPDATE_EXISTING = """
    # Calling create() with the same workflow and key updates it
    schedule_id = await schedules.create(
        client,
        workflow="user-notification",
        cron="0 15 * * *",  # Change to 3 PM
        timezone="America/Chicago",
        key="user_789"  # Same key = update
    )
"""


@pytest.mark.usefixtures("own_database")
async def test_managing_schedules_by_the_api() -> None:
    handlers: list[Workflow[Any, Any]] = [
        workflow(id=id, schedule=True)(print) for id in ("cleanup-task", "user-notification")
    ]
    assert all(handler.schedulable for handler in handlers)
    names = await executed(CREATE_OR_UPDATE)
    created = names["schedule_id"]
    names = await executed(UPDATE_EXISTING, **names)
    async with names["client"] as client:
        assert names["schedule_id"] == created
        found = {schedule.workflow: schedule for schedule in await schedules.list(client)}
    assert sorted(found) == ["cleanup-task", "user-notification"]
    assert found["user-notification"].cron == "0 15 * * *"
    assert f"{found['user-notification'].upcoming:%H:%M}" == "15:00"
    assert found["cleanup-task"].key == "global"


async def test_an_updated_schedule_fires_at_its_new_time_only() -> None:
    @workflow(id="user-notification", schedule=True)
    async def user_notification(ctx: Any, payload: Any) -> str:
        return f"{payload.timestamp:%H:%M}"

    async with polos.testing.clock("2026-07-01T00:00-05:00") as t:
        at = {"timezone": "America/Chicago", "key": "user_789"}
        await schedules.create(t.client, "user-notification", "0 12 * * *", **at)
        await t.advance(days=1)
        await schedules.create(t.client, "user-notification", "0 15 * * *", **at)
        await t.advance(days=2)
        assert [run.result for run in await t.runs()] == ["12:00", "15:00", "15:00"]

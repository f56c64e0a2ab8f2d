"""`polos schedules`: listing, showing, and changing schedules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from polos import PolosClient, Schedule, Worker, runs, schedules, workflow

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def digest() -> None:
    @workflow(id="digest", schedule=True)
    async def digest(ctx): ...

    @workflow(id="report", schedule={"cron": "0 9 * * *", "timezone": "Europe/Paris"})
    async def report(ctx): ...


@pytest.fixture
def ada(client: PolosClient) -> str:
    return schedules.sync.create(
        client, "digest", cron="0 8 * * *", timezone="Asia/Tokyo", key="ada", input={"n": 1}
    )


def made(client: PolosClient, count: int) -> list[str]:
    return schedules.sync.create_many(
        client,
        [{"workflow": "digest", "cron": "0 8 * * *", "key": f"user-{i:04}"} for i in range(count)],
    )


# --- list ------------------------------------------------------------------------------------


def test_a_list_shows_times_in_the_schedules_zone(command: Command, ada: str) -> None:
    result = command("schedules", "list")
    head, row = result.lines
    assert result.code == 0
    assert head.split()[:3] == ["SCHEDULE", "STATUS", "CADENCE"]
    assert row.startswith("digest/ada")
    assert "08:00+09:00" in row
    assert ada in row
    assert "\x1b" not in result.out


def test_a_list_continues_after_the_last_item(command: Command, client: PolosClient) -> None:
    made(client, 7)
    seen = []
    arguments = ["schedules", "list", "--json", "--limit", "3"]
    after: list[str] = []
    while True:
        result = command(*arguments, *after)
        seen += [item["id"] for item in result.objects]
        if "there are more" not in result.err:
            break
        after = ["--after", result.err.split("--after ")[1].split()[0]]
    assert seen == [schedule.id for schedule in schedules.sync.list(client)]
    assert len(seen) == 7


def test_all_of_many_are_listed_over_several_pages(command: Command, client: PolosClient) -> None:
    ids = made(client, 2_100)
    result = command("schedules", "list", "--all", "--json")
    assert sorted(item["id"] for item in result.objects) == sorted(ids)
    assert result.err == ""


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--key", "ada"], ["ada"]),
        (["--workflow", "digest", "--key-prefix", "user-000"], ["user-0000", "user-0001"]),
        (["--status", "paused"], ["user-0001"]),
        (["--workflow", "nope"], []),
        (["--owner", "nope"], []),
    ],
)
def test_filters(
    command: Command, client: PolosClient, ada: str, filters: list[str], expected: list[str]
) -> None:
    paused = made(client, 2)[1]
    schedules.sync.pause(client, paused)
    result = command("schedules", "list", "--json", *filters)
    assert sorted(item["key"] for item in result.objects) == expected
    assert bool(result.err) is not bool(expected)


# --- show, next ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digest/ada", "digest", "the id"])
def test_a_schedule_is_shown_by_any_of_its_names(command: Command, ada: str, name: str) -> None:
    result = command("schedules", "show", ada if name == "the id" else name, "-n", "2")
    assert result.code == 0
    assert ada in result.out
    assert "At 08:00, every day" in result.out
    assert result.out.count("08:00+09:00 JST") == 2


def test_a_key_may_have_slashes(command: Command, client: PolosClient) -> None:
    id = schedules.sync.create(client, "digest", cron="0 8 * * *", key="a/b/c")
    assert command("schedules", "show", "digest/a/b/c", "--json").objects[0]["id"] == id


def test_the_shape_of_a_schedule_in_json(command: Command, client: PolosClient, ada: str) -> None:
    (shape,) = command("schedules", "show", ada, "--json", "-n", "2").objects
    assert shape.pop("next")[1].endswith("08:00:00+09:00")
    assert shape.pop("history") == []
    assert command("schedules", "list", "--json").objects == [shape]
    assert list(shape) == [
        "id", "workflow", "key", "status", "note", "cron", "every", "at", "timezone", "upcoming",
        "last_timestamp", "overlap", "catch_up", "max_catch_up", "catch_up_window", "jitter",
        "start_at", "end_at", "max_runs", "pause_after_failures", "priority", "skip", "input",
        "owner", "overridden", "worker_available", "created_at", "updated_at", "days",
        "weeks", "skipped", "tags", "skip_cron", "calendars",
        "counts", "on_skip",
    ]  # fmt: skip
    assert set(shape) == {field.name for field in fields(Schedule)}
    assert shape["input"] == {"n": 1}
    assert shape["catch_up_window"] == 86_400
    upcoming = schedules.sync.get(client, ada).upcoming
    assert datetime.fromisoformat(shape["upcoming"]) == upcoming


def test_next_of_one_keeps_its_bounds(command: Command, client: PolosClient) -> None:
    start = datetime.now(timezone.utc) + timedelta(days=1)
    schedules.sync.create(
        client,
        "digest",
        every=timedelta(hours=1),
        start_at=start,
        end_at=start + timedelta(hours=3),
    )
    slots = [item["timestamp"] for item in command("schedules", "next", "digest", "--json").objects]
    assert [datetime.fromisoformat(slot) for slot in slots] == [
        start + timedelta(hours=hours) for hours in range(3)
    ]


def test_next_of_all_is_in_the_order_of_time(command: Command, client: PolosClient) -> None:
    for hours in (5, 1, 3):
        at = datetime.now(timezone.utc) + timedelta(hours=hours)
        schedules.sync.create(client, "digest", at=at, key=f"in-{hours}")
    result = command("schedules", "next", "--json", "-n", "2")
    assert [item["key"] for item in result.objects] == ["in-1", "in-3"]
    result = command("schedules", "next", "--within", "2h")
    assert "digest/in-1" in result.out
    assert "digest/in-3" not in result.out
    assert "no slot by then" in command("schedules", "next", "--within", "10m").err


def test_next_of_a_paused_one_is_nothing(command: Command, client: PolosClient, ada: str) -> None:
    schedules.sync.pause(client, ada)
    result = command("schedules", "next", ada)
    assert result.out == ""
    assert "it is paused" in result.err


# --- changes ---------------------------------------------------------------------------------


def test_create_takes_all_policies_and_zones(
    command: Command, client: PolosClient, ada: str
) -> None:
    result = command(
        "schedules", "create", "digest", "--cron", "0 7 * * *", "--tz", "Europe/Paris", "-k", "eve",
        "--overlap", "skip", "--catch-up", "all", "--max-catch-up", "7", "--catch-up-window", "2d",
        "--jitter", "1m30s", "--start-at", "2030-12-01", "--end-at", "2031-01-01 12:00",
        "--max-runs", "9", "--pause-after-failures", "3", "--skip", "2030-12-25",
        "--skip", "2030-12-26", "--input", '{"user": 7}',
    )  # fmt: skip
    assert result.code == 0, result.err
    schedule = schedules.sync.get(client, result.out.strip())
    assert "created: digest/eve is next at 2030-12-01 07:00+01:00" in result.err
    assert (schedule.overlap, schedule.catch_up, schedule.max_catch_up) == ("skip", "all", 7)
    assert schedule.catch_up_window == timedelta(days=2)
    assert schedule.jitter == timedelta(seconds=90)
    assert schedule.start_at == datetime.fromisoformat("2030-12-01T00:00+01:00")
    assert schedule.end_at == datetime.fromisoformat("2031-01-01T12:00+01:00")
    assert (schedule.max_runs, schedule.pause_after_failures) == (9, 3)
    assert [str(day) for day in schedule.skip or ()] == ["2030-12-25", "2030-12-26"]
    assert schedule.input == {"user": 7}


def test_create_again_updates(command: Command, client: PolosClient, ada: str) -> None:
    result = command("schedules", "create", "digest", "--every", "90s", "-k", "ada", "--json")
    assert result.objects[0]["id"] == ada
    assert result.objects[0]["every"] == 90
    at = command("schedules", "create", "digest", "--at", "in 2h", "-k", "once", "--json")
    assert at.objects[0]["at"] == at.objects[0]["upcoming"]


@pytest.mark.parametrize(("options", "outcome"), [([], "ran"), (["--catch-up", "none"], "missed")])
def test_an_instant_in_the_past_follows_catch_up(
    command: Command, client: PolosClient, ada: str, database: Any, eventually: Any,
    options: list[str], outcome: str,
) -> None:  # fmt: skip
    result = command(
        "schedules", "create", "digest", "--at", "1h ago", "-k", "late", *options, "--json"
    )
    id = result.objects[0]["id"]

    async def decided() -> Any:
        async with PolosClient(database) as own, Worker(own):
            (entry,) = await eventually(lambda: schedules.history(own, id))
            return entry

    assert asyncio.run(decided()).status == outcome
    assert schedules.sync.get(client, id).status == "finished"


def test_pause_resume_skip(command: Command, client: PolosClient, ada: str) -> None:
    before = schedules.sync.get(client, ada).upcoming
    assert command("schedules", "pause", "digest/ada", "--note", "holiday").code == 0
    paused = schedules.sync.get(client, ada)
    assert (paused.status, paused.note) == ("paused", "holiday")
    assert command("schedules", "resume", ada, "--json").objects[0]["status"] == "active"
    result = command("schedules", "skip", ada)
    after = schedules.sync.get(client, ada).upcoming
    assert before is not None
    assert after == before + timedelta(days=1)
    assert result.out.startswith(f"skips {before:%Y-%m-%d} 08:00+09:00")
    assert "skipped" in command("schedules", "history", ada).out


def test_several_are_changed_also_by_names_from_stdin(
    command: Command, client: PolosClient
) -> None:
    ids = made(client, 3)
    command("schedules", "pause", ids[0], "digest/user-0001")
    listed = command("schedules", "list", "--json", "-s", "paused").objects
    assert {item["id"] for item in listed} == set(ids[:2])
    result = command("schedules", "resume", "-", stdin="\n".join(ids[:2]) + "\n")
    assert result.code == 0
    assert {s.status for s in schedules.sync.list(client)} == {"active"}


def test_a_missing_schedule_does_not_prevent_the_change_of_others(
    command: Command, client: PolosClient
) -> None:
    ids = made(client, 2)
    result = command("schedules", "pause", ids[0], "digest/nobody", ids[1])
    assert result.code == 1
    assert "there is no schedule `digest/nobody`" in result.err
    assert {s.status for s in schedules.sync.list(client)} == {"paused"}


def test_trigger_prints_the_run(command: Command, client: PolosClient, ada: str) -> None:
    result = command("schedules", "trigger", ada)
    assert result.code == 0
    assert result.out.startswith("run_")
    assert "no live worker" in result.err
    result = command("schedules", "trigger", ada, "--json")
    assert result.objects[0]["schedule_id"] == ada


def test_trigger_gives_one_run_another_input(
    command: Command, client: PolosClient, ada: str
) -> None:
    kept = schedules.sync.get(client, ada).input
    for text, given in (('{"days": 30}', {"days": 30}), ("null", None)):
        result = command("schedules", "trigger", ada, "--input", text)
        assert runs.sync.get(client, result.out.strip()).input == given
    assert schedules.sync.get(client, ada).input == kept
    result = command("schedules", "trigger", ada, "--input", "{days")
    assert result.code == 2
    assert "--input" in result.err


def test_trigger_applies_the_overlap_policy_where_that_is_asked_for(
    command: Command, client: PolosClient, ada: str
) -> None:
    schedules.sync.update(client, ada, overlap="skip")
    first = command("schedules", "trigger", ada, "--overlap", "schedule")
    again = command("schedules", "trigger", ada, "--overlap", "schedule")
    assert (first.code, again.code) == (0, 1)
    assert first.out.strip() in again.err, "the blocking run is named"
    wrong = command("schedules", "trigger", ada, "--overlap", "skip")
    assert wrong.code == 2
    assert "expected `schedule`" in wrong.err


async def test_trigger_waits_for_the_end(command: Command, client: PolosClient) -> None:
    import asyncio

    @workflow(id="wrong", schedule=True)
    async def wrong(ctx):
        raise ValueError("no good")

    async with Worker(client):
        await schedules.create(client, "digest", cron="0 8 * * *")
        await schedules.create(client, "wrong", cron="0 8 * * *")
        good = await asyncio.to_thread(command, "schedules", "trigger", "digest", "--wait")
        bad = await asyncio.to_thread(command, "schedules", "trigger", "wrong", "--wait")
    assert (good.code, bad.code) == (0, 1)
    assert "succeeded" in good.err
    assert "failed: ValueError: no good" in bad.err


# --- delete ----------------------------------------------------------------------------------


def test_delete_asks_first_and_does_nothing_without_an_answer(
    command: Command, client: PolosClient, ada: str
) -> None:
    result = command("schedules", "delete", "digest/ada")
    assert result.code == 2
    assert "--yes" in result.err
    assert command("schedules", "delete", ada, "--yes").code == 0
    assert schedules.sync.list(client) == []


def test_delete_by_filters_leaves_the_rest(command: Command, client: PolosClient, ada: str) -> None:
    made(client, 1_250)
    result = command("schedules", "delete", "-w", "digest", "--key-prefix", "user-", "-y")
    assert result.err == "deleted 1,250 schedules\n"
    assert [schedule.key for schedule in schedules.sync.list(client)] == ["ada"]
    assert command("schedules", "delete", "-w", "digest", "--key-prefix", "user-", "-y").code == 0


# --- backfill, history -----------------------------------------------------------------------


def test_a_backfill_runs_what_has_no_run_and_a_second_one_adds_nothing(
    command: Command, client: PolosClient
) -> None:
    schedules.sync.create(client, "digest", cron="0 8 * * *", timezone="Asia/Tokyo")
    arguments = ["schedules", "backfill", "digest", "--from", "2026-01-01", "--to", "2026-01-04"]
    days = [f"2026-01-0{day} 08:00+09:00" for day in (1, 2, 3)]
    dry = command(*arguments, "--dry-run")
    assert dry.lines == days
    assert "would run 3 slots" in dry.err
    asked = command(*arguments)
    assert asked.code == 2
    assert "--yes" in asked.err
    done = command(*arguments, "--yes")
    assert (done.code, done.lines) == (0, days)
    again = command(*arguments, "--yes")
    assert (again.code, again.out) == (0, "")
    assert "nothing to run" in again.err


def test_a_long_backfill_is_committed_in_parts(command: Command, client: PolosClient) -> None:
    schedules.sync.create(client, "digest", cron="0 * * * *", overlap="allow")
    result = command(
        "schedules",
        "backfill",
        "digest",
        "--from",
        "2026-01-01",
        "--to",
        "2026-03-01",
        "-y",
        "--json",
    )
    assert len(result.objects) == 59 * 24
    assert "1,416 runs created\n" in result.err


def test_history_shows_outcomes_also_of_a_deleted_schedule(
    command: Command, client: PolosClient, ada: str
) -> None:
    schedules.sync.skip(client, ada)
    schedules.sync.skip(client, ada)
    result = command("schedules", "history", "digest/ada", "-n", "1")
    assert "skipped on request" in result.out
    before = result.err.split("--before '")[1].split("'")[0]
    (older,) = command("schedules", "history", ada, "--before", before, "--json").objects
    assert (older["status"], older["count"], older["reason"]) == (
        "skipped",
        1,
        "skipped on request",
    )
    schedules.sync.delete(client, ada)
    assert len(command("schedules", "history", ada, "--json").objects) == 2


# --- all that match --------------------------------------------------------------------------


def test_pause_and_resume_by_filters_leave_the_rest(command: Command, client: PolosClient) -> None:
    ids = made(client, 3)
    other = schedules.sync.create(client, "report", cron="0 8 * * *", key="user-0001")
    done = schedules.sync.create(client, "digest", cron="0 8 * * *", key="user-off")
    schedules.sync.pause(client, done, "on holiday")

    def states() -> dict[str, str]:
        return {each.id: each.status for each in schedules.sync.list(client)}

    prefix = ("--workflow", "digest", "--key-prefix", "user-")
    result = command("schedules", "pause", *prefix, "--note", "moving", "--yes")
    assert (result.code, result.err.splitlines()[-1]) == (0, "paused 3 schedules")
    assert states() == {**dict.fromkeys([*ids, done], "paused"), other: "active"}
    notes = [schedules.sync.get(client, id).note for id in (*ids, done)]
    assert notes == ["moving"] * 3 + ["on holiday"], "a paused one keeps its note"
    assert command("schedules", "pause", *prefix, "--yes").err == "no schedules to pause\n"
    result = command("schedules", "resume", *prefix, "--yes")
    assert (result.code, result.err.splitlines()[-1]) == (0, "resumed 4 schedules")
    assert set(states().values()) == {"active"}


def test_more_than_a_page_is_changed(command: Command, client: PolosClient) -> None:
    made(client, 1_001)
    result = command("schedules", "pause", "--workflow", "digest", "--yes")
    assert result.err.splitlines()[-1] == "paused 1,001 schedules"
    assert {each.status for each in schedules.sync.list(client)} == {"paused"}


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_filters_ask_first(command: Command, client: PolosClient, verb: str) -> None:
    ids = made(client, 2)
    if verb == "resume":
        for id in ids:
            schedules.sync.pause(client, id)
    before = schedules.sync.list(client)
    result = command("schedules", verb, "--workflow", "digest")
    assert result.code == 2
    assert f"{verb.capitalize()} 2 schedules? No terminal to ask on: pass --yes" in result.err
    assert schedules.sync.list(client) == before


# --- update ----------------------------------------------------------------------------------


def test_update_changes_only_what_is_named(command: Command, client: PolosClient) -> None:
    id = schedules.sync.create(
        client,
        "digest",
        cron="0 8 * * *",
        timezone="Asia/Tokyo",
        key="ada",
        overlap="skip",
        max_runs=9,
        input={"days": 1},
    )
    before = schedules.sync.get(client, id)
    result = command("schedules", "update", "digest/ada", "--cron", "30 9 * * *")
    assert result.code == 0
    assert "digest/ada is next at" in result.out
    after = schedules.sync.get(client, id)
    assert after.cron == "30 9 * * *"
    for kept in ("timezone", "overlap", "max_runs", "input", "key", "catch_up", "jitter"):
        assert getattr(after, kept) == getattr(before, kept), kept
    result = command("schedules", "update", id, "--start-at", "2030-01-01 09:00", "--json")
    assert result.objects[0]["start_at"] == "2030-01-01T09:00:00+09:00", "in the schedule's zone"
    assert command("schedules", "update", id, "--every", "6h", "--tz", "UTC").code == 0
    after = schedules.sync.get(client, id)
    assert (after.cron, after.every, after.timezone) == (None, timedelta(hours=6), "UTC")
    assert command("schedules", "update", id, "--input", "null").code == 0
    assert schedules.sync.get(client, id).input is None


def test_update_removes_what_is_unset(command: Command, client: PolosClient) -> None:
    id = schedules.sync.create(
        client, "digest", cron="0 8 * * *", max_runs=9, priority=3, input={"days": 1}
    )
    unset = [word for name in ("max-runs", "priority", "input") for word in ("--unset", name)]
    assert command("schedules", "update", id, *unset).code == 0
    after = schedules.sync.get(client, id)
    assert (after.cron, after.max_runs, after.priority, after.input) == (
        "0 8 * * *", None, None, None,
    )  # fmt: skip


async def test_update_of_a_declared_schedule_says_how_to_undo_it(
    command: Command, client: PolosClient
) -> None:
    async with Worker(client):
        (declared,) = await schedules.list(client, workflow="report")
    result = await asyncio.to_thread(
        command, "schedules", "update", "report", "--cron", "0 4 * * *"
    )
    assert result.code == 0
    assert f"polos schedules reset {declared.id}" in result.err
    changed = await schedules.get(client, declared)
    assert (changed.cron, changed.timezone, changed.overridden) == (
        "0 4 * * *", "Europe/Paris", True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to change; give an option"),
        (["--unset", "cron"], "--unset: `cron` given, expected one of end-at, input"),
        (["--unset", "max-runs", "--max-runs", "3"], "--unset max-runs: it is also given a value"),
        (["--every", "often"], "--every"),
        (["--cron", "0 25 * * *"], "cron"),
        (["--tz", "Europe/Pariss"], "Europe/Paris"),
    ],
)
def test_update_refuses_what_it_does_not_understand(
    command: Command, client: PolosClient, options: list[str], message: str
) -> None:
    id = schedules.sync.create(client, "digest", cron="0 8 * * *")
    before = schedules.sync.get(client, id)
    result = command("schedules", "update", id, *options)
    assert result.code in (1, 2)
    assert message in result.err
    assert schedules.sync.get(client, id) == before

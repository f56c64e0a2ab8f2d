"""Schedules are found by tags, in the API and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polos import (
    InvalidArgumentError,
    InvalidScheduleError,
    PolosClient,
    Worker,
    schedules,
    workflow,
)

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def digest() -> None:
    @workflow(id="digest", schedule=True)
    async def digest(ctx: Any) -> None: ...


async def keys(client: PolosClient, **tags: str) -> list[str]:
    return [schedule.key for schedule in await schedules.list(client, tags=tags)]


async def test_all_tags_must_match(client: PolosClient) -> None:
    await schedules.create(
        client, "digest", "0 8 * * *", key="ada", tags={"team": "billing", "plan": "pro"}
    )
    drafts = [
        {"workflow": "digest", "cron": "0 8 * * *", "key": key, "tags": {"team": team}}
        for key, team in [("bob", "billing"), ("eve", "sales"), ("quoted", 'it\'s "50%" \\ ü')]
    ]
    await schedules.create_many(client, drafts)
    await schedules.create(client, "digest", "0 8 * * *", key="none")
    assert await keys(client, team="billing") == ["ada", "bob"]
    assert await keys(client, team="billing", plan="pro") == ["ada"]
    assert await keys(client, team="billing", plan="free") == []
    assert await keys(client, team='it\'s "50%" \\ ü') == ["quoted"]
    assert len(await keys(client)) == 5
    found = await schedules.list(client, tags={"team": "billing"}, key_prefix="b")
    assert [schedule.tags for schedule in found] == [{"team": "billing"}]
    assert await schedules.list(client, tags={"team": "billing"}, limit=1) == [
        await schedules.get(client, workflow="digest", key="ada")
    ]


async def test_create_and_update_replace_all_tags(client: PolosClient) -> None:
    both = {"team": "billing", "plan": "pro"}
    made = await schedules.put(client, "digest", "0 8 * * *", tags=both)
    assert (await schedules.put(client, "digest", "0 8 * * *", tags=both)).outcome == "unchanged"
    assert (await schedules.update(client, made.id, cron="0 9 * * *")).tags == both
    assert (await schedules.update(client, made.id, tags={"team": "ops"})).tags == {"team": "ops"}
    assert await keys(client, plan="pro") == []
    assert (await schedules.put(client, "digest", "0 9 * * *", tags=both)).outcome == "updated"
    assert (await schedules.update(client, made.id, tags=None)).tags == {}
    await schedules.update(client, made.id, tags=both)
    await schedules.create(client, "digest", "0 9 * * *")
    assert (await schedules.get(client, made.id)).tags == {}


INVALID = [
    (["team"], "expected a dict of texts"),
    ({"team": 7}, "tags, the value of `team`: `7` of type `int` given, expected text"),
    ({"": "x"}, "tags, a name: expected a non-empty text"),
    ({"team": ""}, "tags, the value of `team`: expected a non-empty text"),
    ({"a=b": "x"}, "contains `=`"),
    ({"team": "a\x00"}, "control characters"),
    ({"team": "\ud800"}, "surrogates"),
    ({"n" * 101: "x"}, "at most 100 are allowed"),
    ({"team": "x" * 256}, "at most 255 are allowed"),
    ({f"n{i}": "x" for i in range(33)}, "33 tags given, a schedule can have at most 32"),
]


@pytest.mark.parametrize(("tags", "message"), INVALID, ids=range(len(INVALID)))
async def test_invalid_tags_are_refused(client: PolosClient, tags: Any, message: str) -> None:
    with pytest.raises(InvalidScheduleError, match=message):
        await schedules.create(client, "digest", "0 8 * * *", tags=tags)
    draft = {"workflow": "digest", "cron": "0 8 * * *", "tags": tags}
    with pytest.raises(InvalidScheduleError, match=r"schedules\[0\]: tags"):
        await schedules.create_many(client, [draft])
    with pytest.raises(InvalidArgumentError, match=message):
        await schedules.list(client, tags=tags)
    with pytest.raises(InvalidScheduleError, match=message):
        workflow(id="other", schedule={"cron": "0 8 * * *", "tags": tags})(lambda: None)
    assert await schedules.list(client) == []


async def test_declared_tags_are_overridden_and_restored(client: PolosClient) -> None:
    @workflow(id="invoice", schedule={"cron": "0 8 * * *", "tags": {"team": "billing"}})
    async def invoice(ctx: Any) -> None: ...

    async with Worker(client, app="shop"):
        [schedule] = await schedules.list(client, tags={"team": "billing"})
        changed = await schedules.update(client, schedule, tags={"team": "sales"})
    assert (changed.overridden, changed.tags) == (True, {"team": "sales"})
    async with Worker(client, app="shop"):
        assert (await schedules.get(client, schedule)).tags == {"team": "sales"}
        assert (await schedules.reset(client, schedule)).tags == {"team": "billing"}
    assert [found.id for found in await schedules.list(client)] == [schedule.id]


# --- command line ----------------------------------------------------------------------------


@pytest.fixture
def tagged(client: PolosClient) -> None:
    schedules.sync.create_many(
        client,
        [
            {
                "workflow": "digest",
                "cron": "0 8 * * *",
                "key": f"user-{i:04}",
                "tags": {"team": "billing" if i % 2 else "sales", "plan": "pro"},
            }
            for i in range(6)
        ],
    )


def listed(command: Command, *filters: str) -> list[str]:
    return [item["key"] for item in command("schedules", "list", "--json", *filters).objects]


def test_the_command_line_creates_lists_and_removes_tags(
    command: Command, client: PolosClient
) -> None:
    schedules.sync.create(client, "digest", "0 8 * * *", key="ada")
    result = command(
        "schedules", "create", "digest", "--cron", "0 8 * * *", "--tag", "team=a=b", "--tag", "x=y"
    )
    assert result.code == 0, result.err
    id = result.out.strip()
    [item] = command("schedules", "list", "--json", "--tag", "team=a=b", "--tag", "x=y").objects
    assert (item["id"], item["tags"]) == (id, {"team": "a=b", "x": "y"})
    assert "team=a=b, x=y" in command("schedules", "show", id).out
    assert command("schedules", "update", id, "--tag", "team=c").code == 0
    assert listed(command, "--tag", "x=y") == []
    assert command("schedules", "update", id, "--unset", "tags").code == 0
    assert schedules.sync.get(client, id).tags == {}


def test_schedules_with_a_tag_are_paused_resumed_and_deleted(
    command: Command, tagged: None
) -> None:
    billing = ["user-0001", "user-0003", "user-0005"]
    refused = command("schedules", "pause", "--tag", "team=billing")
    assert refused.code != 0
    assert listed(command, "--status", "paused") == []
    result = command("schedules", "pause", "--tag", "team=billing", "--yes", "--note", "prices")
    assert result.err == "paused 3 schedules\n"
    assert listed(command, "--status", "paused") == billing
    assert listed(command, "--status", "paused", "--tag", "team=sales") == []
    command("schedules", "resume", "--tag", "team=billing", "--key", "user-0001", "-y")
    assert listed(command, "--status", "paused") == billing[1:]
    result = command("schedules", "delete", "--tag", "team=billing", "--tag", "plan=pro", "-y")
    assert result.err == "deleted 3 schedules\n"
    assert listed(command) == ["user-0000", "user-0002", "user-0004"]


@pytest.mark.parametrize("given", [["team"], ["=x"], ["team="], ["team=a", "team=b"]])
def test_a_tag_is_a_name_and_a_value(command: Command, tagged: None, given: list[str]) -> None:
    options = [word for tag in given for word in ("--tag", tag)]
    result = command("schedules", "list", *options)
    assert result.code != 0
    assert "--tag" in result.err

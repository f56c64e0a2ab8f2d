"""`run_on_create`: the creation of a schedule starts a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from polos import (
    InvalidArgumentError,
    InvalidScheduleError,
    PolosClient,
    SchedulePayload,
    Worker,
    runs,
    schedules,
    workflow,
)
from polos.workflow import isolated_registry

Command = Callable[..., Any]


@pytest.fixture
def seen() -> list[tuple[SchedulePayload, Any]]:
    return []


@pytest.fixture(autouse=True)
def digest(seen: list[tuple[SchedulePayload, Any]]) -> None:
    @workflow(id="digest", schedule=True)
    async def digest(ctx: Any, payload: SchedulePayload) -> None:
        seen.append((payload, ctx.input))


async def origins(client: PolosClient) -> list[str | None]:
    return [run.origin for run in await runs.list(client)]


async def test_the_run_gets_the_payload_of_its_creation(
    client: PolosClient, seen: list[tuple[SchedulePayload, Any]]
) -> None:
    id = await schedules.create(
        client, "digest", "0 8 * * *", timezone="Asia/Tokyo", run_on_create=True, input={"n": 1}
    )
    [run] = await runs.list(client, schedule=id)
    async with Worker(client):
        await runs.handle(client, run.id).result(timeout=60)
    [(payload, data)] = seen
    schedule = await schedules.get(client, id)
    assert (payload.schedule_id, payload.key, data) == (id, "global", {"n": 1})
    assert payload.timestamp <= schedule.created_at
    assert (payload.last_timestamp, payload.upcoming) == (None, schedule.upcoming)
    assert payload.timezone == "Asia/Tokyo"
    assert (await runs.get(client, run.id)).origin == "create"


async def test_only_a_creation_starts_a_run(client: PolosClient) -> None:
    drafts = [
        {"workflow": "digest", "cron": "0 8 * * *", "key": key, "run_on_create": key != "bob"}
        for key in ("ada", "bob", "eve")
    ]
    await schedules.create_many(client, drafts)
    assert {run.key for run in await runs.list(client)} == {"ada", "eve"}
    await schedules.create_many(client, drafts)
    done = await schedules.put(client, "digest", "0 9 * * *", key="bob", run_on_create=True)
    assert done.outcome == "updated"
    assert await origins(client) == ["create", "create"]
    await schedules.delete(client, done.id)
    await schedules.create(client, "digest", "0 9 * * *", key="bob", run_on_create=True)
    assert len(await runs.list(client, key="bob")) == 1


async def test_of_creations_at_once_exactly_one_starts_it(
    client: PolosClient, database: Any
) -> None:
    await schedules.create(client, "digest", "0 8 * * *", key="first")
    with PolosClient(database) as other:
        made = await asyncio.gather(
            *(
                schedules.put(each, "digest", "0 8 * * *", run_on_create=True)
                for each in (client, other) * 5
            )
        )
    assert [result.outcome for result in made].count("created") == 1
    assert await origins(client) == ["create"]


async def test_a_deploy_does_not_run_it_again(client: PolosClient) -> None:
    for cron in ("0 8 * * *", "0 8 * * *", "0 9 * * *", None, "0 8 * * *"):
        with isolated_registry():

            @workflow(
                id="report",
                schedule=None if cron is None else {"cron": cron, "run_on_create": True},
            )
            async def report(ctx: Any) -> None: ...

            async with Worker(client, app="shop"):
                pass
    assert await origins(client) == ["create"]


async def test_it_belongs_to_creations(client: PolosClient) -> None:
    id = await schedules.create(client, "digest", "0 8 * * *")
    with pytest.raises(InvalidScheduleError, match=r"schedules\.trigger"):
        await schedules.update(client, id, run_on_create=True)
    with pytest.raises(InvalidScheduleError, match="expected True or False"):
        await schedules.create(client, "digest", "0 8 * * *", run_on_create="yes")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="invoke_in"):
        await schedules.create_in(object(), client, "digest", "0 8 * * *", run_on_create=True)
    assert await runs.list(client) == []


def test_the_command_line_says_whether_it_runs(command: Command, client: PolosClient) -> None:
    schedules.sync.create(client, "digest", "0 8 * * *", key="first")
    arguments = ["schedules", "create", "digest", "--cron", "0 8 * * *", "--run-on-create"]
    assert command(*arguments).err.endswith("; a run has started\n")
    assert "a run has started" not in command(*arguments).err
    [run] = command("runs", "list", "--json").objects
    assert run["origin"] == "create"

"""Several programs, or versions of a program, on one database: which schedules are retired."""

from __future__ import annotations

import signal
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polos import PolosClient, Worker, schedules, workflow
from polos.workflow import isolated_registry

Start = Callable[..., Any]

# Like `uvicorn main:app`: a script of that name that imports the application.
UVICORN = """
    import sys
    from uvicorn import main

    sys.argv[0] = "uvicorn"
    sys.exit(main())
"""

SERVICE = """
    import os
    from contextlib import asynccontextmanager

    import polos
    from fastapi import FastAPI
    from polos import PolosClient, workflow

    for name in os.environ["DECLARED"].split():

        @workflow(id=name, schedule="0 9 * * *")
        async def job(ctx): ...

    client = PolosClient(os.environ["DATABASE"])
    work = polos.lifespan(client, lease=0.5)

    @asynccontextmanager
    async def lifespan(app):
        async with work(app):
            print("ready", flush=True)
            yield

    app = FastAPI(lifespan=lifespan)
"""

WORKER = """
    import asyncio
    import os
    import sys

    from polos import PolosClient, Worker, workflow
    from polos.workflow import registry

    for name in os.environ["DECLARED"].split():

        @workflow(id=name, schedule="0 9 * * *")
        async def job(ctx): ...

    async def main():
        chosen = os.environ.get("CHOSEN")
        some = None if chosen is None else [registry()[name] for name in chosen.split()]
        client = PolosClient(os.environ["DATABASE"])
        worker = Worker(client, workflows=some, lease=0.5)
        async with worker:
            print("ready", worker.app, flush=True)
            await asyncio.to_thread(sys.stdin.readline)

    asyncio.run(main())
"""


def service(start_in: Start, folder: Path, database: Path | str, *declared: str) -> Any:
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text(textwrap.dedent(SERVICE))
    program = start_in(
        folder,
        UVICORN,
        "main:app",
        "--port=0",
        "--no-access-log",
        env={"DATABASE": str(database), "DECLARED": " ".join(declared)},
    )
    program.wait_for_line("ready")
    return program


def stopped(program: Any) -> None:
    program.signal(signal.SIGTERM)
    program.ends()


def by_workflow(client: PolosClient, what: str = "status") -> dict[str, Any]:
    return {s.workflow: getattr(s, what) for s in schedules.sync.list(client)}


def test_two_services_started_by_the_same_server_do_not_affect_each_other(
    start_in: Start, tmp_path: Path, database: Path | str, client: PolosClient
) -> None:
    billing = service(start_in, tmp_path / "billing", database, "invoices")
    shop = service(start_in, tmp_path / "shop", database, "restock")
    assert by_workflow(client) == {"invoices": "active", "restock": "active"}
    assert by_workflow(client, "owner") == {
        "invoices": "billing/main.py",
        "restock": "shop/main.py",
    }
    # Each starts while the other is stopped.
    stopped(billing)
    stopped(shop)
    shop = service(start_in, tmp_path / "shop", database, "restock")
    assert by_workflow(client) == {"invoices": "active", "restock": "active"}
    stopped(shop)
    billing = service(start_in, tmp_path / "billing", database, "reminders")
    assert by_workflow(client) == {
        "invoices": "retired",
        "restock": "active",
        "reminders": "active",
    }
    stopped(billing)


def test_a_retirement_is_logged_listed_and_in_the_history(
    start_in: Start, tmp_path: Path, database: Path | str, client: PolosClient, command: Any
) -> None:
    stopped(service(start_in, tmp_path / "billing", database, "invoices", "reminders"))
    billing = service(start_in, tmp_path / "billing", database, "reminders")
    stopped(billing)
    assert "retired the schedule `invoices` (key `global`, sch_" in billing.errors
    assert "`billing/main.py` no longer declares it" in billing.errors
    assert "Worker(app=...)" in billing.errors
    (retired,) = schedules.sync.list(client, status="retired")
    entry = schedules.sync.history(client, retired.id)[0]
    assert (entry.status, entry.count) == ("skipped", 0)
    assert entry.reason == "retired: `billing/main.py` no longer declares it"
    result = command("doctor", "--database", str(database))
    assert "1 retired in the last 7 days: invoices" in result.out
    shown = command("schedules", "show", "invoices", "--database", str(database))
    assert "retired: `billing/main.py` no longer declares it" in shown.out


def worker(
    start_in: Start, folder: Path, database: Path | str, declared: str, chosen: str | None = None
) -> Any:
    folder.mkdir(exist_ok=True)
    env = {"DATABASE": str(database), "DECLARED": declared}
    program = start_in(folder, WORKER, env=env if chosen is None else {**env, "CHOSEN": chosen})
    assert program.wait_for_line("ready") == f"{folder.name}/app.py"
    return program


def leaves(program: Any) -> None:
    program.send_line("")
    assert program.ends() == 0


def test_two_workers_of_one_file_with_different_workflows_retire_nothing(
    start_in: Start, tmp_path: Path, database: Path | str, client: PolosClient
) -> None:
    both = ("a b c", tmp_path / "app")
    leaves(worker(start_in, both[1], database, both[0]))
    for chosen in ("a", "b", "a"):
        leaves(worker(start_in, both[1], database, both[0], chosen))
        assert set(by_workflow(client).values()) == {"active"}


async def test_a_rolling_deploy_retires_when_the_last_old_worker_has_closed(
    start_in: Start, tmp_path: Path, database: Path | str, client: PolosClient, eventually: Any
) -> None:
    old = worker(start_in, tmp_path / "app", database, "kept dropped")
    new = worker(start_in, tmp_path / "app", database, "kept")
    assert by_workflow(client) == {"kept": "active", "dropped": "active"}
    leaves(old)
    await eventually(lambda: by_workflow(client)["dropped"] == "retired")
    # The old version starts again: what a live worker declares is not retired.
    old = worker(start_in, tmp_path / "app", database, "kept dropped")
    assert by_workflow(client) == {"kept": "active", "dropped": "active"}
    leaves(old)
    leaves(new)


async def test_a_long_list_of_retired_schedules_names_ten_and_counts_the_others(
    client: PolosClient, caplog: pytest.LogCaptureFixture, eventually: Any
) -> None:
    async def job() -> None: ...

    with isolated_registry():
        for number in range(12):
            workflow(id=f"job-{number}", schedule="0 9 * * *")(job)
        async with Worker(client, app="shop"):
            assert len(await schedules.list(client, status="active")) == 12
    with isolated_registry():
        workflow(id="other", schedule="0 9 * * *")(job)
        async with Worker(client, app="shop"):
            await eventually(lambda: "retired the schedules" in caplog.text)
    (message,) = [record.message for record in caplog.records if "retired" in record.message]
    assert message.count("`job-") == 10
    assert " and 2 more" in message

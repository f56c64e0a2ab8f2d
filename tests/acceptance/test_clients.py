"""One database, many clients: loops, threads, processes, forks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from polos import (
    PolosClient,
    ShutdownError,
    StoreError,
    Worker,
    WorkflowContext,
    runs,
    schedules,
    workflow,
)


@pytest.fixture
def job() -> Any:
    @workflow(id="job", schedule=True)
    async def job(ctx: WorkflowContext) -> str:
        return "done"

    return job


def create(client: PolosClient, key: str = "global") -> str:
    return schedules.sync.create(client, "job", "0 9 * * *", key=key)


# --- loops and threads -----------------------------------------------------------------------


def test_one_client_serves_two_loops_one_after_another(database: Path, job: Any) -> None:
    client = PolosClient(database)

    async def work() -> str:
        async with Worker(client, app="tests"):
            return str(await job.run(client, timeout=30))

    assert asyncio.run(work()) == "done"
    assert asyncio.run(work()) == "done"
    assert len(runs.sync.list(client)) == 2
    client.close()


def test_one_client_serves_two_loops_at_the_same_time(client: PolosClient, job: Any) -> None:
    both_there = threading.Barrier(2)

    async def work(key: str) -> int:
        both_there.wait(30)
        for n in range(20):
            await schedules.create(client, "job", "0 9 * * *", key=f"{key}-{n}")
        return len(await schedules.list(client))

    with ThreadPoolExecutor(2) as threads:
        counts = list(threads.map(lambda key: asyncio.run(work(key)), "ab"))
    assert max(counts) == len(schedules.sync.list(client)) == 40


def test_a_client_is_used_from_many_threads(client: PolosClient, job: Any) -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda n: create(client, f"user_{n % 40}"), range(200)))
    assert len(set(ids)) == len(schedules.sync.list(client)) == 40


def test_the_blocking_versions_do_the_same_as_the_others(client: PolosClient, job: Any) -> None:
    id = create(client)
    assert schedules.sync.get(client, id) == asyncio.run(schedules.get(client, id))
    assert schedules.sync.pause(client, id, note="later").note == "later"
    assert schedules.sync.resume(client, id).status == "active"
    assert schedules.sync.skip(client, id).upcoming is not None
    assert schedules.sync.update(client, id, cron="0 10 * * *").cron == "0 10 * * *"
    assert [e.status for e in schedules.sync.history(client, id)] == ["skipped"]
    handle = schedules.sync.trigger(client, id)
    assert runs.sync.get(client, handle.id).status == "queued"
    assert runs.sync.cancel(client, handle.id) == "cancelled"
    assert runs.sync.retry(client, handle.id) == "queued"
    with pytest.raises(LookupError):
        schedules.sync.get(client, "sch_nobody")
    schedules.sync.delete(client, id)
    assert schedules.sync.list(client) == []


async def test_the_blocking_versions_work_inside_a_running_loop_too(
    client: PolosClient, job: Any
) -> None:
    id = create(client)
    assert (await schedules.get(client, id)).id == id


def test_uvloop_serves_as_well(database: Path, job: Any) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def work() -> str:
        async with PolosClient(database) as client, Worker(client, app="tests"):
            return str(await job.run(client, timeout=30))

    loop = uvloop.new_event_loop()
    try:
        assert loop.run_until_complete(work()) == "done"
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


# --- opening and closing ---------------------------------------------------------------------


def test_making_a_client_touches_nothing(tmp_path: Path) -> None:
    PolosClient().close()
    PolosClient(tmp_path / "missing" / "polos.db").close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.files
def test_the_default_is_polos_db_in_the_current_folder(tmp_path: Path, job: Any) -> None:
    with PolosClient() as client:
        create(client)
    assert (tmp_path / "polos.db").is_file()


def test_the_environment_names_the_database_and_an_argument_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Any
) -> None:
    monkeypatch.setenv("POLOS_DATABASE_URL", f"sqlite:///{tmp_path}/from-environment.db")
    with PolosClient() as client:
        create(client)
    with PolosClient("argument.db") as client:
        create(client)
    assert (tmp_path / "from-environment.db").is_file()
    assert (tmp_path / "argument.db").is_file()
    assert not (tmp_path / "polos.db").exists()


@pytest.mark.files
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
# Python 3.12 deprecates a fork in a process with threads, but applications do it.
@pytest.mark.filterwarnings("ignore:.*use of fork.* may lead to deadlocks:DeprecationWarning")
@pytest.mark.parametrize("given", [None, "app.db", "sqlite:///app.db", "from-environment"])
def test_a_forked_process_in_another_folder_uses_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Any, given: str | None
) -> None:
    if given == "from-environment":
        monkeypatch.setenv("POLOS_DATABASE_URL", "sqlite:///app.db")
        given = None
    (tmp_path / "elsewhere").mkdir()
    # Opened before the fork, or not.
    for is_opened in (True, False):
        client = PolosClient(given)
        if is_opened:
            create(client)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.chdir("elsewhere")
                schedules.sync.create(client, "job", "0 9 * * *", key=f"child-{is_opened}")
                client.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        found = {schedule.key for schedule in schedules.sync.list(client)}
        assert f"child-{is_opened}" in found
        client.close()
    assert len(list(tmp_path.rglob("*.db"))) == 1


@pytest.mark.parametrize("form", ["relative", "absolute", "url", "absolute-url", "path", "spaces"])
def test_a_path_and_a_url_name_the_same_file(tmp_path: Path, job: Any, form: str) -> None:
    name = "some where/the app.db" if form == "spaces" else "app.db"
    (tmp_path / "some where").mkdir()
    given: Any = {
        "relative": "app.db",
        "absolute": str(tmp_path / "app.db"),
        "url": "sqlite:///app.db",
        "absolute-url": f"sqlite:///{tmp_path}/app.db",
        "path": tmp_path / "app.db",
        "spaces": name,
    }[form]
    with PolosClient(given) as client:
        id = create(client)
    with PolosClient(tmp_path / name) as client:
        assert [schedule.id for schedule in schedules.sync.list(client)] == [id]
    found = {path.name for path in tmp_path.rglob("*.db")}
    assert found == {Path(name).name}


def test_four_slashes_are_an_absolute_path(tmp_path: Path, job: Any) -> None:
    with PolosClient(f"sqlite:///{tmp_path}/app.db") as client:
        id = create(client)
    with PolosClient(f"sqlite:////{str(tmp_path).lstrip('/')}/app.db") as client:
        assert [schedule.id for schedule in schedules.sync.list(client)] == [id]


def test_a_client_may_be_closed_twice_and_then_refuses_requests(database: Path, job: Any) -> None:
    client = PolosClient(database)
    id = create(client)
    client.close()
    client.close()
    with pytest.raises(ShutdownError, match="closed"):
        schedules.sync.get(client, id)
    with pytest.raises(ShutdownError, match="closed"):
        asyncio.run(schedules.get(client, id))
    with pytest.raises(ShutdownError, match="closed"):
        asyncio.run(Worker(client, app="tests").start())


@pytest.mark.files
def test_closing_releases_the_files_at_once(tmp_path: Path, job: Any) -> None:
    with PolosClient("app.db") as client:
        create(client)
        asyncio.run(job.invoke(client))
    # SQLite's additional files are gone, so the database can be copied or deleted.
    assert [path.name for path in tmp_path.iterdir()] == ["app.db"]


async def test_async_with_closes(database: Path, job: Any) -> None:
    async with PolosClient(database) as client:
        id = await schedules.create(client, "job", "0 9 * * *")
    with pytest.raises(ShutdownError):
        await schedules.get(client, id)
    await client.aclose()


async def test_closing_ends_pending_waits(database: Path, job: Any) -> None:
    client = PolosClient(database)
    handle = await job.invoke(client)
    waiting = asyncio.ensure_future(handle.result())
    await asyncio.sleep(0)
    await handle.status()
    await client.aclose()
    with pytest.raises((ShutdownError, StoreError)):
        await asyncio.wait_for(waiting, 30)


def test_what_was_created_is_there_after_the_interpreter_was_killed(
    start: Any, client: PolosClient
) -> None:
    program = start(
        """
        import time
        from polos import PolosClient, schedules, workflow

        workflow(id="job", schedule=True)(print)
        client = PolosClient()
        print("created", schedules.sync.create(client, "job", "0 9 * * *"))
        time.sleep(600)
        """
    )
    id = program.wait_for_line("created")
    program.kill()
    assert schedules.sync.get(client, id).status == "active"


# --- projects and several clients ------------------------------------------------------------


async def test_projects_dont_see_each_other(database: Path, job: Any) -> None:
    async with (
        PolosClient(database, project_id="a") as a,
        PolosClient(database, project_id="b") as b,
    ):
        id = await schedules.create(a, "job", "0 9 * * *")
        assert await schedules.create(b, "job", "0 9 * * *") != id
        async with Worker(a, app="tests"):
            await job.run(a, timeout=30)
            waiting = await job.invoke(b)
            assert await waiting.status() == "queued"
        assert len(await runs.list(a)) == len(await runs.list(b)) == 1
        for call in (schedules.get(b, id), schedules.delete(b, id), schedules.history(b, id)):
            with pytest.raises(LookupError):
                await call
        (run,) = await runs.list(a)
        with pytest.raises(LookupError):
            await runs.get(b, run.id)
        with pytest.raises(LookupError):
            await runs.cancel(b, run.id)
        assert len(await schedules.list(a)) == 1


async def test_two_clients_of_one_file_see_the_same(database: Path, job: Any) -> None:
    async with PolosClient(database) as one, PolosClient(database) as two:
        id = await schedules.create(one, "job", "0 9 * * *")
        assert (await schedules.get(two, id)).id == id
        await schedules.pause(two, id)
        assert (await schedules.get(one, id)).status == "paused"
        async with Worker(two, app="tests"):
            assert await job.run(one, timeout=30) == "done"


async def test_a_schedule_made_without_a_worker_waits_for_one(client: PolosClient) -> None:
    ran = asyncio.Event()

    @workflow(id="early", schedule=True)
    async def early() -> None:
        ran.set()

    id = await schedules.create(client, "early", every=timedelta(seconds=1))
    handle = await early.invoke(client)
    assert (await schedules.get(client, id)).worker_available is False
    assert await handle.status() == "queued"
    async with Worker(client, app="tests"):
        await handle.result(30)
        ran.clear()
        await asyncio.wait_for(ran.wait(), 30)


# --- processes -------------------------------------------------------------------------------

TICKER = """
    import asyncio
    from polos import PolosClient, Worker, workflow

    @workflow(id="ticker", schedule=True)
    async def ticker(ctx, payload):
        print("tick", payload.key)

    async def work():
        async with Worker(PolosClient()):
            print("ready")
            await asyncio.Event().wait()

    asyncio.run(work())
"""


async def test_a_schedule_of_one_process_is_seen_by_a_worker_in_another(
    start: Any, client: PolosClient
) -> None:
    worker = start(TICKER)
    worker.wait_for_line("ready")
    # Only the worker has registered the workflow, not this process.
    id = await schedules.create(client, "ticker", every=timedelta(seconds=1), key="from afar")
    assert worker.wait_for_line("tick") == "from afar"
    await schedules.pause(client, id)
    assert (await schedules.get(client, id)).status == "paused"
    handle = await schedules.trigger(client, id)
    assert worker.wait_for_line("tick") == "from afar"
    await handle.result(30)


async def test_a_run_invoked_here_is_executed_there(start: Any, client: PolosClient) -> None:
    worker = start(
        """
        from polos import PolosClient, run, workflow

        @workflow(id="adder")
        def add(ctx, payload):
            return payload["a"] + payload["b"]

        print("ready")
        run(PolosClient())
        """
    )
    worker.wait_for_line("ready")

    @workflow(id="adder")
    async def never_here(ctx: Any, payload: dict[str, int]) -> int:
        raise AssertionError("executed in the wrong process")

    assert await never_here.run(client, {"a": 1, "b": 2}, timeout=30) == 3


@pytest.mark.usefixtures("own_database")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_uses_the_client_and_the_parent_is_unharmed(start: Any) -> None:
    program = start(
        """
        import asyncio, os, sys, warnings
        # Python 3.12 warns that threads and forks mix badly.
        warnings.simplefilter("ignore", DeprecationWarning)
        from polos import PolosClient, Worker, runs, schedules, workflow

        @workflow(id="job", schedule=True)
        async def job(ctx):
            return os.getpid()

        client = PolosClient()

        async def work():
            async with Worker(client):
                return await job.run(client, timeout=30)

        first = schedules.sync.create(client, "job", "0 9 * * *", key="before")
        assert asyncio.run(work()) == os.getpid()
        child = os.fork()
        if child == 0:
            schedules.sync.create(client, "job", "0 9 * * *", key="child")
            assert asyncio.run(work()) == os.getpid()
            sys.exit(7)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7, status
        schedules.sync.create(client, "job", "0 9 * * *", key="after")
        assert asyncio.run(work()) == os.getpid()
        print("keys", sorted(s.key for s in schedules.sync.list(client)))
        print("runs", [run.status for run in runs.sync.list(client)])
        client.close()
        """
    )
    assert program.ends() == 0, program.errors
    assert program.lines == [
        "keys ['after', 'before', 'child']",
        "runs ['succeeded', 'succeeded', 'succeeded']",
    ]


def test_multiprocessing_workers_share_the_file(client: PolosClient, job: Any) -> None:
    source = (
        "import sys; from polos import PolosClient, schedules, workflow; "
        "workflow(id='job', schedule=True)(print); client = PolosClient(); "
        "[schedules.sync.create(client, 'job', '0 9 * * *', key=f'{sys.argv[1]}-{n}') "
        "for n in range(25)]; client.close()"
    )
    python = str(Path(__file__).resolve().parents[2] / "python")
    environment = {**os.environ, "PYTHONPATH": python}
    processes = [
        subprocess.Popen([sys.executable, "-c", source, str(n)], env=environment) for n in range(4)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    assert len(schedules.sync.list(client)) == 100


FORKING = """
    import os, sys, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    import asyncio, threading
    from polos import PolosClient, Worker, schedules, workflow

    @workflow(id="job", schedule=True)
    async def job(ctx): ...

    client = PolosClient("polos.db")

    def create(key):
        schedules.sync.create(client, "job", "0 0 1 1 *", key=key)

    def fork(act):
        child = os.fork()
        if child == 0:
            act()
            os._exit(0)
        return child
"""


@pytest.mark.files
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_works_on_when_its_parent_has_closed_or_ended(start: Any) -> None:
    program = start(
        FORKING
        + """
    create("parent")
    reading, writing = os.pipe()

    def act():
        create("child-0")
        print("created", flush=True)
        os.read(reading, 1)  # until the parent has closed
        for number in range(1, 20):
            create(f"child-{number}")

    child = fork(act)
    sys.stdin.readline()
    client.close()
    os.write(writing, b"x")
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    with PolosClient("polos.db") as again:
        print("schedules", len(schedules.sync.list(again)))
    """
    )
    program.wait_for_line("created")
    program.send_line("")
    assert program.ends() == 0, program.errors
    assert program.lines[-1] == "schedules 21"


@pytest.mark.files
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_process_with_a_running_worker_gets_an_error(start: Any) -> None:
    program = start(
        FORKING
        + """
    def act():
        for made in (client, PolosClient("./polos.db")):
            try:
                schedules.sync.list(made)
            except Exception as error:
                print(type(error).__name__, "forked" in str(error), flush=True)

    async def main():
        async with Worker(client, app="tests", drain=0):
            await asyncio.to_thread(create, "before")
            os.waitpid(fork(act), 0)
            await schedules.create(client, "job", "0 0 1 1 *", key="after")
        print("schedules", len(await schedules.list(client)))

    asyncio.run(main())
    """
    )
    assert program.ends() == 0, program.errors
    assert program.lines == ["StoreError True", "StoreError True", "schedules 2"]


@pytest.mark.files
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_during_requests_of_other_threads_harms_neither_process(start: Any) -> None:
    program = start(
        FORKING
        + """
    create("before")
    is_over = threading.Event()

    def ask():
        while not is_over.is_set():
            schedules.sync.list(client, limit=1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    codes = [os.waitpid(fork(lambda: create("child")), 0)[1] for _ in range(20)]
    is_over.set()
    for thread in threads:
        thread.join()
    print("codes", set(codes))
    """
    )
    assert program.ends() == 0, program.errors
    assert program.lines == ["codes {0}"]


async def test_a_run_whose_client_is_closed_under_it_has_not_failed(database: Path) -> None:
    reached, may_go_on, again = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @workflow(id="slow")
    async def slow() -> str:
        if reached.is_set():
            again.set()
            return "done"
        reached.set()
        await may_go_on.wait()
        raise ShutdownError("as a step is answered while the client is being closed")

    async with PolosClient(database) as client, Worker(client):
        handle = await slow.invoke(client)
        await reached.wait()
        client._is_closed = True  # as `close` does first, while queued requests are still written
        may_go_on.set()
        await again.wait()
        client._is_closed = False
        assert await handle.result() == "done"


@pytest.mark.usefixtures("own_database")
async def test_a_closed_client_stays_closed(database: Path | str) -> None:
    client = PolosClient(database)
    await schedules.list(client)
    core = client._opened()
    client.close()
    for _ in range(2):
        with pytest.raises(ShutdownError):
            schedules.sync.list(client)
        with pytest.raises(ShutdownError):
            await schedules.list(client)
    with pytest.raises(ShutdownError):
        core.call('{"overview": {}}')

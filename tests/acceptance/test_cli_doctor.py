"""`polos doctor` reports problems and remedies; `polos top` shows what is in progress."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import polos
from polos import PolosClient, Worker, runs, schedules, workflow
from polos.cli.ui import times as moments
from polos.dashboard.metrics import metrics
from polos.dashboard.queries import Reader

Command = Callable[..., Any]

PYTHON = Path(__file__).resolve().parents[2] / "python"

APP = """
    import asyncio
    from polos import PolosClient, Worker, workflow

    @workflow(id="digest", schedule=True)
    async def digest(ctx):
        print("begun", flush=True)
        await asyncio.Event().wait()

    async def main():
        async with PolosClient() as client, Worker(client, lease=300):
            print("ready", flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def digest() -> None:
    @workflow(id="digest", schedule=True)
    async def digest(ctx): ...


@pytest.fixture
def ada(client: PolosClient) -> str:
    return schedules.sync.create(client, "digest", cron="0 8 * * *", key="ada")


def checks(result: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the findings by subject."""
    found: dict[str, list[dict[str, Any]]] = {}
    for check in result.objects[0]["checks"]:
        found.setdefault(check["about"], []).append(check)
    return found


def levels(result: Any) -> set[str]:
    return {check["level"] for check in result.objects[0]["checks"]}


async def test_all_is_well(command: Command, client: PolosClient, ada: str) -> None:
    async with Worker(client):
        result = await asyncio.to_thread(command, "doctor", "--json")
        shown = await asyncio.to_thread(command, "doctor")
    assert (result.code, levels(result)) == (0, {"ok"})
    assert result.objects[0]["healthy"] is True
    assert set(checks(result)) == {
        "version", "time zones", "database", "clock", "workers", "schedules", "runs",
    }  # fmt: skip
    assert all(line.startswith("ok ") for line in shown.lines)
    assert "1 worker, with 0 runs" in shown.out


def test_no_worker(command: Command, ada: str) -> None:
    result = command("doctor")
    assert result.code == 1
    assert "bad   workers     none; 1 active schedule" in result.out
    assert "-> start one: polos run app.py" in result.out


def test_nothing_to_do_needs_no_worker(command: Command, client: PolosClient, ada: str) -> None:
    schedules.sync.pause(client, ada)
    assert command("doctor").code == 0


async def test_a_workflow_that_no_worker_has(
    command: Command, client: PolosClient, ada: str
) -> None:
    @workflow(id="other")
    async def other(ctx): ...

    await runs.invoke(client, "digest")
    async with Worker(client, workflows=[other]):
        result = await asyncio.to_thread(command, "doctor", "--json")
    assert result.code == 1
    (workflows,) = checks(result)["workflows"]
    assert "no live worker has registered `digest`" in workflows["text"]
    assert "polos schedules list -w digest" in workflows["advice"]
    (queued,) = checks(result)["runs"]
    assert "runs of `digest` are queued" in queued["text"]


async def test_hook_calls_that_no_worker_makes(
    command: Command, client: PolosClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polos.cli.commands.doctor._HOOKS_WAIT", timedelta())

    @workflow(id="report", schedule="0 0 1 1 *", on_skipped=print)
    async def report() -> None: ...

    async with Worker(client, workflows=[report]):
        (schedule,) = await schedules.list(client, workflow="report")
    await schedules.skip(client, schedule.id)
    (found,) = checks(await asyncio.to_thread(command, "doctor", "--json"))["hooks"]
    assert found["text"].startswith("1 hook call waits, the oldest since")
    assert "no live worker has registered `report`: start the application" in found["advice"]
    report.on_skipped = None
    async with Worker(client, workflows=[report]):
        (found,) = checks(await asyncio.to_thread(command, "doctor", "--json"))["hooks"]
        assert "no live worker of `report` has such a hook" in found["advice"]
        assert 'polos_waiting_hook_calls{workflow="report"} 1' in await metrics(Reader(client))
    await schedules.unskip(client, schedule.id)
    assert "hooks" not in checks(await asyncio.to_thread(command, "doctor", "--json"))


async def test_a_worker_that_was_killed(
    command: Command, client: PolosClient, start: Any, eventually: Any
) -> None:
    program = start(APP)
    program.wait_for_line("ready")
    handle = await runs.invoke(client, "digest")
    program.wait_for_line("begun")
    program.kill()
    result = command("doctor", "--json")
    (worker,) = checks(result)["worker"]
    assert worker["level"] == "warning"
    assert "has died without deregistering and left 1 run unfinished" in worker["text"]
    assert checks(result)["workers"][0]["text"].startswith("none;"), "dead workers are not counted"
    assert "died" in command("top").out
    assert command("runs", "show", handle.id, "--json").objects[0]["status"] == "running"


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="signals as POSIX has them")
async def test_slots_that_a_stopped_worker_does_not_handle(
    command: Command, client: PolosClient, start: Any, eventually: Any
) -> None:
    program = start(APP)
    program.wait_for_line("ready")
    program.signal(signal.SIGSTOP)
    await schedules.create(client, "digest", every=timedelta(seconds=1))

    def is_logged() -> Any:
        return checks(command("doctor", "--json")).get("slots")

    (slots,) = await eventually(is_logged)
    assert slots["level"] == "problem"
    assert slots["text"].startswith("1 overdue, the oldest since ")
    assert "(digest)" in slots["text"]
    assert "overdue    1" in command("top").out


async def test_runs_that_wait_for_a_permit(
    command: Command, client: PolosClient, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polos.cli.commands.doctor._LONG_QUEUED", timedelta(0))

    @workflow(id="wait")
    async def wait(ctx):
        await asyncio.Event().wait()

    async with Worker(client, concurrency=1, drain=0):
        for _ in range(3):
            last = await runs.invoke(client, "wait")
        await eventually(lambda: any_running(client))
        result = await asyncio.to_thread(command, "doctor", "--json")
    (queued,) = checks(result)["runs"]
    assert (result.code, queued["level"]) == (0, "warning")
    assert queued["text"].startswith("2 queued, ")
    assert "raise --concurrency" in queued["advice"]
    assert await last.status() == "queued"


async def any_running(client: PolosClient) -> bool:
    return bool(await runs.list(client, status="running"))


@pytest.mark.files
def test_broken_schedules(command: Command, client: PolosClient, ada: str, tmp_path: Path) -> None:
    """A worker marks a schedule as broken if its stored data can't be read any more."""
    client.close()
    script = (
        "import sqlite3; c = sqlite3.connect('polos.db'); c.execute(\"UPDATE schedule SET "
        "status = 'broken', next_slot = NULL, note = 'unknown time zone'\"); c.commit()"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    result = command("doctor", "--json")
    (schedule,) = checks(result)["schedules"]
    assert result.code == 1
    assert schedule["text"] == "1 broken and not firing: digest/ada: unknown time zone"
    assert "polos schedules delete --status broken" in schedule["advice"]


END_THE_CHILD = """
import sqlite3
database = sqlite3.connect("polos.db")
database.execute(
    "UPDATE run SET state = 'succeeded', finished_at = created_at, result = '7' "
    "WHERE workflow = 'kid'"
)
database.commit()
"""


@pytest.mark.files  # the test completes the child in the file, without polos
async def test_a_parent_that_nothing_woke_is_a_finding_and_the_next_worker_wakes_it(
    command: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture, visit: Any
) -> None:
    """An earlier release left parents in PostgreSQL that wait although their child has ended."""

    @workflow(id="kid")
    async def kid(ctx):
        return 7

    @workflow(id="family")
    async def family(ctx):
        return await ctx.step.invoke(kid)

    async with PolosClient() as client:
        worker = Worker(client, workflows=[family])
        async with worker:
            parent = await family.invoke(client)
            while await parent.status() != "waiting":  # noqa: ASYNC110 -- a run has no event for it
                await asyncio.sleep(0.01)
        await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", END_THE_CHILD], cwd=tmp_path, check=True
        )
        result = await asyncio.to_thread(command, "doctor", "--json")
        (stuck,) = [check for check in checks(result)["runs"] if parent.id in check["text"]]
        assert (result.code, stuck["level"]) == (1, "problem")
        assert "nothing resumed them" in stuck["text"]
        page = await (await visit(polos.ui(client))).get("/")
        assert f"/runs/{parent.id}" in page.text
        assert "nothing resumed it" in page.text
        async with Worker(client, workflows=[family]):
            assert await parent.result(timeout=30) == 7
        page = await (await visit(polos.ui(client))).get("/")
        assert "nothing resumed" not in page.text
    warnings = [
        record
        for record in caplog.records
        if "child run that had already finished" in record.message
    ]
    assert [record.levelname for record in warnings] == ["WARNING"]
    result = await asyncio.to_thread(command, "doctor", "--json")
    assert all(parent.id not in check["text"] for check in checks(result).get("runs", []))


async def test_top_shows_what_is_in_progress(
    command: Command, client: PolosClient, ada: str, eventually: Any
) -> None:
    @workflow(id="wait")
    async def wait(ctx):
        await asyncio.Event().wait()

    @workflow(id="wrong")
    async def wrong(ctx):
        raise ValueError("no good")

    async with Worker(client, app="shop.py", drain=0):
        in_progress = await runs.invoke(client, "wait")
        failed = await runs.invoke(client, "wrong")
        with pytest.raises(ValueError, match="no good"):
            await failed.result(30)
        await eventually(lambda: has_status(in_progress, "running"))
        (shape,) = (await asyncio.to_thread(command, "top", "--json")).objects
        result = await asyncio.to_thread(command, "top")
    assert [run["id"] for run in shape["running"]] == [in_progress.id]
    assert [run["id"] for run in shape["failed"]] == [failed.id]
    assert [slot["schedule_id"] for slot in shape["coming"]] == [ada]
    assert shape["workers"][0]["app"] == "shop.py"
    assert shape["runs"]["running"] == 1
    assert "ValueError: no good" in result.out
    assert "digest/ada" in result.out
    assert "\x1b" not in result.out


async def has_status(handle: Any, status: str) -> bool:
    return bool(await handle.status() == status)


@pytest.mark.files
def test_a_missing_database_is_a_finding_and_stays_missing(
    command: Command, tmp_path: Path
) -> None:
    result = command("doctor", "--database", "none.db")
    assert result.code == 1
    assert f"`{tmp_path / 'none.db'}` doesn't exist" in result.out
    assert "polos run app.py" in result.out
    assert not (tmp_path / "none.db").exists()


@pytest.mark.files
def test_advice_about_a_file_names_it(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "my app.db"
    path.write_bytes(b"SQLite format 3\0" + b"no" * 4_000)
    result = command("doctor", "--database", str(path), "--json")
    (finding,) = checks(result)["database"]
    assert f"'{path}'" in finding["advice"]


def test_a_database_without_tables_stays_without(
    command: Command, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--store") != "postgres":
        pytest.skip("is about a server; see above for files")
    url = os.environ["POLOS_DATABASE_URL"].split("?")[0]
    for _ in range(2):
        result = command("doctor", "--database", f"{url}?schema=not_there", "--json")
        (finding,) = checks(result)["database"]
        assert finding["level"] == "problem"
        assert "has no tables of polos in the schema `not_there`" in finding["text"]


@pytest.mark.parametrize("parameters", ["", "?sslmode=require", "?connect_timeout=1"])
def test_advice_about_a_server_is_not_about_files(command: Command, parameters: str) -> None:
    url = f"postgresql://ada:s3cret@127.0.0.1:1/app{parameters}"
    result = command("doctor", "--database", url, "--json")
    assert result.code == 1
    (finding,) = checks(result)["database"]
    assert "127.0.0.1:1" in finding["text"]
    assert not re.search(r"fuser|file|polos\.db|path|disk", finding["advice"]), finding["advice"]
    assert "s3cret" not in result.out + result.err


def test_doctor_fits_a_narrow_terminal(
    command: Command, ada: str, on_terminal: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_terminal(60)
    monkeypatch.setenv("NO_COLOR", "1")
    text = [line for line in command("doctor").lines if "polos.db" not in line]
    assert max(map(len, text)) <= 60


@pytest.mark.skipif(os.name == "nt", reason="a pseudo-terminal")
def test_top_updates_until_ctrl_c_and_restores_the_terminal(ada: str) -> None:
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(PYTHON), "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        [sys.executable, "-m", "polos", "top", "--interval", "0.2"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    ) as process:  # fmt: skip
        os.close(theirs)
        try:
            seen = read_until(ours, "digest/ada")
            seen += read_until(ours, "digest/ada")  # and once more: it updates by itself
            process.send_signal(signal.SIGINT)
            seen += read_until(ours, "\x1b[?1049l")
            assert process.wait(30) == 0
        finally:
            process.kill()  # its output is not read any more
    os.close(ours)
    assert "\x1b[?1049h" in seen
    assert "Traceback" not in seen


def read_until(terminal: int, expected: str) -> str:
    """Return the terminal's output up to ``expected``."""
    seen = b""
    while expected.encode() not in seen:
        seen += os.read(terminal, 4096)
    return seen.decode(errors="replace")


# --- clocks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("off", "which"), [(30, "ahead of"), (-30, "behind")])
def test_a_machine_whose_clock_differs_from_that_of_the_database(
    command: Command, ada: str, monkeypatch: pytest.MonkeyPatch, off: int, which: str
) -> None:
    real = moments.now
    monkeypatch.setattr("polos.cli.commands.doctor.now", lambda: real() + timedelta(seconds=off))
    (clock,) = checks(command("doctor", "--json"))["clock"]
    assert clock["level"] == "warning"
    assert re.match(rf"this machine is (29|30)\.\d s {which} the database's clock", clock["text"])
    assert "NTP" in clock["advice"]


AHEAD = """
import sqlite3
database = sqlite3.connect("polos.db")
database.execute("UPDATE worker SET beat_at = beat_at + 60000000")
database.commit()
"""


@pytest.mark.files  # the test changes the heartbeat in the file, without polos
async def test_a_worker_whose_clock_is_ahead(
    command: Command, client: PolosClient, ada: str, tmp_path: Path
) -> None:
    """It would fire slots a minute early."""
    async with Worker(client, app="fast.py"):
        await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", AHEAD], cwd=tmp_path, check=True
        )
        result = await asyncio.to_thread(command, "doctor", "--json")
    (worker,) = checks(result)["worker"]
    assert (result.code, worker["level"]) == (0, "warning")
    assert re.match(
        r"the clock of fast\.py \(pid \d+ on .*\) is (60|5\d)\.\d s ahead", worker["text"]
    )

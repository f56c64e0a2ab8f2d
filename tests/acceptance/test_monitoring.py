"""Probes answer correctly whatever the process does; counts match the history."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import polos.testing
from polos import (
    InvalidArgumentError,
    PolosClient,
    Worker,
    WorkerHealth,
    schedules,
    workflow,
)
from polos._runtime import counts
from polos._validate.monitoring import numbered_address

Command = Callable[..., Any]


def get(address: str | None, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as response:
            return response.status, response.read().decode().strip()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode().strip()


def probes(address: str | None) -> tuple[tuple[int, str], tuple[int, str]]:
    return get(address, "/livez"), get(address, "/readyz")


OK = (200, "ok")


async def test_a_worker_answers_until_it_has_drained(client: PolosClient, eventually: Any) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    @workflow
    async def waits() -> None:
        begun.set()
        await go.wait()

    worker = Worker(client, health="127.0.0.1:0")
    assert worker.health().live_problem == "the worker is not running"
    assert worker.health_address is None
    await worker.start()
    address = worker.health_address
    assert await asyncio.to_thread(probes, address) == (OK, OK)
    health = worker.health()
    assert isinstance(health, WorkerHealth)
    assert (health.live, health.ready) == (True, True)
    assert (health.registered, health.draining, health.database_reachable) == (True, False, True)
    assert health.core_silent_for < timedelta(seconds=15)
    await waits.invoke(client)
    await begun.wait()
    closing = asyncio.create_task(worker.close())
    await eventually(lambda: worker.health().draining)
    assert await asyncio.to_thread(probes, address) == (OK, (503, "the worker is draining"))
    go.set()
    await closing
    with pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(get, address, "/livez")
    assert not worker.health().live


async def test_a_blocked_loop_neither_fakes_nor_delays_an_answer(
    client: PolosClient, eventually: Any
) -> None:
    output: list[Any] = []

    @workflow
    async def blocks() -> None:
        def watch() -> None:
            while (live := get(worker.health_address, "/livez")) == OK:
                pass
            output.extend([live, get(worker.health_address, "/readyz"), worker.health()])
            seen.set()

        seen = threading.Event()
        threading.Thread(target=watch).start()
        seen.wait(60)  # blocks the loop until the probe has noticed

    async with Worker(client, health="127.0.0.1:0", stall=0.2) as worker:
        await blocks.run(client)
        (code, text), ready, health = output
        assert code == 503
        assert text.startswith("the event loop has not answered for ")
        assert text.endswith(", and may take 0.2 s: something blocks it")
        assert ready == OK
        assert (health.live, health.ready) == (False, True)
        assert health.loop_silent_for > timedelta(seconds=0.2)
        await eventually(lambda: worker.health().live)
        assert await asyncio.to_thread(get, worker.health_address, "/livez") == OK


async def test_a_client_that_sends_nothing_blocks_no_probe(client: PolosClient) -> None:
    @workflow
    async def nothing() -> None: ...

    async with Worker(client, health="127.0.0.1:0") as worker:
        host, port = str(worker.health_address).split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(100)]
        assert await asyncio.to_thread(get, worker.health_address, "/livez") == OK
        for connection in idle:
            connection.close()


async def test_the_heartbeat_file_is_written_while_the_worker_is_live(
    client: PolosClient, tmp_path: Path, eventually: Any
) -> None:
    @workflow
    async def nothing() -> None: ...

    file = tmp_path / "live"
    async with Worker(client, heartbeat_file=file, stall=0.1) as worker:
        assert worker.health_address is None
        os.utime(file, (1, 1))
        await eventually(lambda: file.stat().st_mtime > 1)
    assert not file.exists()


@pytest.mark.files
async def test_what_cannot_be_watched_does_not_start(client: PolosClient, tmp_path: Path) -> None:
    @workflow
    async def nothing() -> None: ...

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InvalidArgumentError, match="another program uses this port"):
            await Worker(client, health=address).start()
    with pytest.raises(InvalidArgumentError, match="heartbeat_file: cannot write"):
        await Worker(client, heartbeat_file=tmp_path / "none" / "live").start()


@pytest.mark.parametrize(
    "address", ["8080", "127.0.0.1", ":8080", "127.0.0.1:http", "host:65536", "::1:80", "", 8080]
)
def test_an_invalid_address_is_refused_at_once(address: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="expected `HOST:PORT`"):
        Worker(PolosClient(), health=address)


def test_each_of_several_workers_has_a_port() -> None:
    assert numbered_address("127.0.0.1:8080", 1) == "127.0.0.1:8080"
    assert numbered_address("[::1]:8080", 3) == "[::1]:8082"
    assert numbered_address("localhost:0", 3) == "localhost:0"
    with pytest.raises(InvalidArgumentError, match="the last one would be 65536"):
        numbered_address("127.0.0.1:65535", 2)


async def test_virtual_time_has_no_probes(tmp_path: Path) -> None:
    @workflow
    async def nothing() -> None: ...

    file = tmp_path / "live"
    async with polos.testing.clock(
        "2026-01-01T00:00+00:00", health="127.0.0.1:0", heartbeat_file=file
    ) as t:
        await t.advance(hours=1)
        assert not file.exists()


APP = """
from polos import workflow

@workflow(id="daily", schedule="0 6 * * *")
async def daily(ctx): ...
"""

CLI = """
    import sys
    from polos.cli.typer_app import app
    app(["run", "service.py", *sys.argv[1:]])
"""


@pytest.mark.files
async def test_the_command_takes_the_address_from_its_variable(
    own_database: Any, tmp_path: Path, start: Any, eventually: Any
) -> None:
    (tmp_path / "service.py").write_text(APP)
    program = start(
        CLI, env={"POLOS_HEALTH": "127.0.0.1:0", "POLOS_DATABASE_URL": str(own_database)}
    )
    output = await eventually(
        lambda: re.search(r"^probes: http://(\S+)/livez", program.errors, re.M)
    )
    assert probes(output[1]) == (OK, OK)
    program.signal(signal.SIGTERM)
    assert program.ends() == 0


@pytest.mark.files
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--health", "8080"), "health: `8080` given, expected `HOST:PORT`"),
        (("--health", "localhost:65535", "--workers", "2"), "the last one would be 65536"),
        (("--health", "localhost:1", "--stall", "0"), "--stall"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    # In this process, where other tests have imported modules of other names.
    (tmp_path / "refused_probes.py").write_text(APP)
    result = command("run", str(tmp_path / "refused_probes.py"), *arguments)
    assert result.code == 2
    assert message in result.err


# --- counts ----------------------------------------------------------------------------------


def samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_the_counts_are_those_of_the_history(client: PolosClient, eventually: Any) -> None:
    @workflow(id="often", schedule=True)
    async def often() -> None: ...

    @workflow(id="fails")
    async def fails() -> None:
        raise ValueError("as the test has it")

    @workflow(id="syncly", schedule=True)
    def syncly() -> None: ...

    async with Worker(client, health="127.0.0.1:0") as worker:
        now = datetime.now(timezone.utc)
        ids = [
            await schedules.create(client, each, at=now + timedelta(milliseconds=100))
            for each in (often, syncly)
        ]
        late = await schedules.create(
            client, often, at=now - timedelta(hours=1), key="late", catch_up="none"
        )
        with pytest.raises(ValueError, match="as the test has it"):
            await fails.run(client)

        async def counted() -> Any:
            found = samples((await asyncio.to_thread(get, worker.health_address, "/metrics"))[1])
            ended = [
                found[f'polos_runs_total{{workflow="{id}",status="succeeded"}}']
                for id in ("often", "syncly")
            ]
            missed = found['polos_slots_total{workflow="often",outcome="missed"}']
            return found if ended == [1, 1] and missed else None

        found = await eventually(counted)
        assert found['polos_slots_total{workflow="often",outcome="ran"}'] == 1
        assert found['polos_slots_total{workflow="often",outcome="missed"}'] == 1
        assert found['polos_slots_total{workflow="syncly",outcome="ran"}'] == 1
        assert found['polos_runs_total{workflow="fails",status="failed"}'] == 1
        assert found['polos_runs_total{workflow="fails",status="succeeded"}'] == 0
        for name in ("often", "syncly"):
            assert found[f'polos_lateness_seconds_count{{workflow="{name}"}}'] == 1
            assert found[f'polos_run_duration_seconds_count{{workflow="{name}"}}'] == 1
        assert 'polos_lateness_seconds_count{workflow="fails"}' not in found, "it had no slot"
        assert found["polos_live"] == found["polos_ready"] == 1
        for id in ids:
            assert [line.status for line in await schedules.history(client, id)] == ["ran"]
        assert [line.status for line in await schedules.history(client, late)] == ["missed"]


async def test_a_slot_that_the_application_excludes_is_withdrawn() -> None:
    class Weekends:
        def __contains__(self, day: date) -> bool:
            return day.weekday() >= 5

    @workflow(id="closed", schedule={"cron": "0 9 * * *", "skip": Weekends()})
    async def closed() -> None: ...

    async with polos.testing.clock("2026-01-01T00:00+00:00") as t:
        await t.advance(days=6)
        counted = counts.totals()
    # 1 January 2026 is a Thursday.
    assert counted["slots", "closed", "ran"] == 6
    assert counted["slots", "closed", "withdrawn"] == 2
    assert counted["runs", "closed", "succeeded"] == 4
    assert counted["runs", "closed", "cancelled"] == 0

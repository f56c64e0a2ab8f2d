"""Runs are reported to monitoring services: `polos.ping` and `polos.sentry`."""

from __future__ import annotations

import asyncio
import gzip
import json
import queue
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import sentry_sdk

import polos
import polos.sentry
from polos import InvalidArgumentError, Schedule, schedules, workflow
from polos._runtime.start_reports import StartReports
from polos.sentry import monitor_config, monitor_slug
from polos.testing import clock

TIMEOUT = 30.0
UTC = timezone.utc
START = "2026-03-01T08:30+00:00"


class Service:
    """A local server that records its requests."""

    def __init__(self) -> None:
        self.status = 200
        # If cleared, requests about a start are not answered.
        self.answers_starts = threading.Event()
        self.answers_starts.set()
        self.requests: queue.Queue[tuple[str, bytes]] = queue.Queue()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                service.requests.put((self.path, body))
                if self.path.endswith("/start"):
                    service.answers_starts.wait(TIMEOUT)
                self.send_response(service.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self) -> tuple[str, bytes]:
        """Wait for the next request and return it."""
        return self.requests.get(timeout=TIMEOUT)


@pytest.fixture
def service() -> Iterator[Service]:
    started = Service()
    yield started
    started.close()


@pytest.fixture
def an_end_waits(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once the report of an end waits for that of its start."""
    waits, wait = asyncio.Event(), StartReports.wait

    async def note_wait(starts: StartReports, run_id: str) -> None:
        waits.set()
        await wait(starts, run_id)

    monkeypatch.setattr(StartReports, "wait", note_wait)
    return waits


# --- ping ------------------------------------------------------------------------------------


async def test_a_run_is_reported_at_its_start_and_at_its_end(service: Service) -> None:
    @workflow(id="backup", schedule="0 9 * * *")
    async def backup() -> str:
        return "done"

    ping = polos.ping(f"http://{service.host}/check")
    async with clock(START, middleware=[ping]) as t:
        await t.advance(hours=1)
        (run,) = await polos.runs.list(t.client)
    assert service.take() == ("/check/start", run.id.encode())
    assert service.take() == ("/check", run.id.encode())
    assert service.requests.empty()


async def test_an_end_waits_for_its_start(service: Service, an_end_waits: asyncio.Event) -> None:
    @workflow
    async def job() -> int:
        return 1

    service.answers_starts.clear()
    async with clock(START, middleware=[polos.ping(f"http://{service.host}/check")]) as t:
        # The service is slow. The handler doesn't wait for it, but the report of its end does.
        handle = await job.invoke(t.client)
        assert await handle.result() == 1
        assert service.take()[0] == "/check/start"
        await asyncio.wait_for(an_end_waits.wait(), TIMEOUT)
        assert service.requests.empty()
        service.answers_starts.set()
    assert service.take()[0] == "/check"


async def test_a_run_that_is_retried_has_not_failed(service: Service) -> None:
    attempts: list[int] = []

    @workflow(id="flaky", retries=1, backoff=1)
    async def flaky(ctx: Any) -> None:
        attempts.append(ctx.attempt)
        raise OSError(f"no attempt {ctx.attempt}")

    ping = polos.ping(f"http://{service.host}/check")
    async with clock(START, middleware=[ping]) as t:
        handle = await flaky.invoke(t.client)
        await t.advance(minutes=1)
    paths = [service.take() for _ in range(3)]
    assert paths == [
        ("/check/start", handle.id.encode()),
        ("/check/start", handle.id.encode()),
        ("/check/fail", f"{handle.id}\nOSError: no attempt 2".encode()),
    ]
    assert attempts == [1, 2]


async def test_a_run_that_sleeps_for_long_is_not_reported_as_finished(service: Service) -> None:
    @workflow(id="nap")
    async def nap(ctx: Any) -> None:
        await ctx.step.sleep("night", timedelta(hours=8))

    ping = polos.ping(f"http://{service.host}/check", start=None)
    async with clock(START, middleware=[ping]) as t:
        handle = await nap.invoke(t.client)
        await t.advance(hours=7)
        assert service.requests.empty()
        await t.advance(hours=2)
        await handle.result()
    assert service.take() == ("/check", handle.id.encode())


async def test_only_the_workflows_that_are_named_are_reported(service: Service) -> None:
    @workflow
    async def watched() -> None:
        pass

    @workflow
    async def other() -> None:
        pass

    url = f"http://{service.host}/run?job=1"
    ping = polos.ping(url, workflows=[watched], start="&state=run", success="&state=complete")
    async with clock(START, middleware=[ping]) as t:
        await other.run(t.client)
        await watched.run(t.client)
    assert service.take()[0] == "/run?job=1&state=run"
    assert service.take()[0] == "/run?job=1&state=complete"
    assert service.requests.empty()


async def test_a_service_that_is_down_affects_no_run(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    async def job() -> int:
        return 1

    service.status = 503
    async with clock(START, middleware=[polos.ping(f"http://{service.host}/check")]) as t:
        assert await job.run(t.client) == 1
    assert {service.take()[0], service.take()[0]} == {"/check/start", "/check"}
    messages = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert messages == ["the ping of a start failed", "on_success of middleware `Ping` failed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "hc-ping.com/1"}, "url: `hc-ping.com/1` given, expected an address"),
        ({"url": None}, "url: `None` given"),
        ({"start": 1}, "start: `1` given, expected text"),
        ({"failure": b"x"}, "failure: .* given, expected text"),
        ({"timeout": 0}, "timeout"),
        ({"workflows": "backup"}, "workflows: `backup` given, expected a list"),
        ({"workflows": [1]}, "workflows: `1` given, expected an id"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        polos.ping(**{"url": "https://example.com", **options})


# --- Sentry ----------------------------------------------------------------------------------


def checkins(service: Service, count: int) -> list[dict[str, Any]]:
    """The check-ins that the service received."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        _, body = service.take()
        lines = body.splitlines()
        for header, item in zip(lines[1::2], lines[2::2], strict=True):
            if json.loads(header)["type"] == "check_in":
                found.append(json.loads(item))
    return found


@pytest.fixture
def sentry(service: Service) -> Iterator[Service]:
    sentry_sdk.init(
        dsn=f"http://key@{service.host}/1", default_integrations=False, auto_session_tracking=False
    )
    yield service
    sentry_sdk.get_client().close()
    # Without integrations, which would patch other modules for all later tests.
    sentry_sdk.init(default_integrations=False)


async def test_check_ins_are_made_of_cron_and_time_zone(sentry: Service) -> None:
    @workflow(id="digest", schedule={"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"})
    async def digest() -> None:
        pass

    async with clock("2026-03-02T07:30+00:00", middleware=[polos.sentry.Checkins()]) as t:
        await t.advance(hours=1)
    begun, ended = checkins(sentry, 2)
    assert (begun["monitor_slug"], begun["status"]) == ("digest", "in_progress")
    assert begun["monitor_config"] == {
        "schedule": {"type": "crontab", "value": "0 9 * * 1-5"},
        "timezone": "Europe/Berlin",
    }
    assert (ended["monitor_slug"], ended["status"]) == ("digest", "ok")
    assert ended["check_in_id"] == begun["check_in_id"]


async def test_a_check_in_ends_after_it_has_begun(
    sentry: Service, an_end_waits: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    @workflow(id="brief", schedule="0 9 * * *")
    async def brief() -> None:
        pass

    get = schedules.get

    async def get_late(*args: Any) -> Schedule:
        await asyncio.wait_for(an_end_waits.wait(), TIMEOUT)
        return await get(*args)

    monkeypatch.setattr(schedules, "get", get_late)
    async with clock(START, middleware=[polos.sentry.Checkins()]) as t:
        await t.advance(hours=1)
    assert [found["status"] for found in checkins(sentry, 2)] == ["in_progress", "ok"]


async def test_a_failure_is_an_error_and_a_run_without_a_slot_is_nothing(sentry: Service) -> None:
    @workflow(id="sync", schedule=True)
    async def sync(ctx: Any) -> None:
        raise OSError("no")

    middleware = [polos.sentry.Checkins(checkin_margin=5, max_runtime=30)]
    async with clock("2026-03-02T07:30+00:00", middleware=middleware) as t:
        await sync.invoke(t.client)
        await schedules.create(t.client, sync, every=timedelta(hours=2), key="Ada L.")
        await t.advance(hours=1)
    begun, ended = checkins(sentry, 2)
    assert begun["monitor_slug"] == ended["monitor_slug"] == "sync-ada-l"
    assert begun["monitor_config"] == {
        "schedule": {"type": "interval", "value": 2, "unit": "hour"},
        "checkin_margin": 5,
        "max_runtime": 30,
    }
    assert ended["status"] == "error"
    sentry_sdk.flush()
    assert sentry.requests.empty()


@pytest.mark.parametrize(
    ("trigger", "config"),
    [
        ({"cron": "*/15 8-18 * jan-mar MON-FRI"}, "crontab"),
        ({"cron": "0 9 L * *"}, None),
        ({"cron": "0 9 15W * *"}, None),
        ({"cron": "0 9 * * 1#2"}, None),
        ({"cron": ["0 9 * * 1-5", "0 11 * * 6"]}, None),
        ({"cron": "0 9 1 * 1", "days": "and"}, None),
        ({"cron": "0 9 * * 1", "weeks": 2, "start_at": datetime(2026, 3, 2, tzinfo=UTC)}, None),
        ({"every": timedelta(seconds=90)}, None),
        ({"every": timedelta(minutes=90)}, (90, "minute")),
        ({"every": timedelta(days=7)}, (7, "day")),
    ],
)
async def test_what_sentry_cannot_express_creates_no_monitor(
    trigger: dict[str, Any], config: Any
) -> None:
    @workflow(id="job", schedule=True)
    async def job() -> None:
        pass

    async with clock(START) as t:
        id = await schedules.create(t.client, job, **trigger)
        schedule: Schedule = await schedules.get(t.client, id)
    made = monitor_config(schedule)
    if config is None:
        assert made is None
    elif config == "crontab":
        assert made == {
            "schedule": {"type": "crontab", "value": schedule.cron},
            "timezone": "UTC",
        }
    else:
        assert made == {"schedule": {"type": "interval", "value": config[0], "unit": config[1]}}


@pytest.mark.parametrize(
    ("workflow_id", "key", "slug"),
    [
        ("digest", "global", "digest"),
        ("Team A/digest", "user 1", "team-a-digest-user-1"),
        ("x" * 60, "global", "x" * 50),
    ],
)
def test_monitors_have_names_that_sentry_allows(workflow_id: str, key: str, slug: str) -> None:
    assert monitor_slug(workflow_id, key) == slug

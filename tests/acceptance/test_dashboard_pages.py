"""The dashboard's pages and forms."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from dashboard_forms import secret_in, submit
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

import polos
import polos.testing
from polos import (
    Limit,
    LimitInfo,
    PolosClient,
    Worker,
    WorkflowContext,
    calendars,
    limits,
    runs,
    schedules,
    workflow,
)
from polos.dashboard.filters import day_and_time
from polos.dashboard.views import WorkerRow

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "dashboard.md"
START = "2026-03-06T05:00:00+00:00"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@dataclass
class Site:
    """An application with some days of history, and a browser on its dashboard."""

    time: polos.testing.VirtualTime
    browser: httpx.AsyncClient
    app: Any

    @property
    def client(self) -> PolosClient:
        return self.time.client

    async def page(self, path: str, status: int = 200) -> str:
        answer = await self.browser.get(path)
        assert answer.status_code == status, answer.text
        return words_of(answer.text)


class Tags(HTMLParser):
    """Collects all tags and attributes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]


def words_of(html: str) -> str:
    """Return the text of a page on one line."""
    body = re.sub(r"<svg class=\"sprite\".*?</svg>\s*<a", "<a", html, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", " ", body)
    for entity, character in [("&lt;", "<"), ("&gt;", ">"), ("&#34;", '"'), ("&#39;", "'")]:
        text = text.replace(entity, character)
    return " ".join(text.replace("&amp;", "&").split())


@pytest.fixture
async def site(visit: Any) -> AsyncIterator[Site]:
    @workflow(id="report", schedule={"cron": "30 2 * * *", "timezone": "America/New_York"})
    async def report(ctx: WorkflowContext, payload: Any) -> dict[str, int]:
        await ctx.step.run("fetch", lambda: {"orders": 1284})
        await ctx.step.sleep("settle", timedelta(seconds=30))
        return {"sent": 3}

    @workflow(id="invoices", schedule="0 6 * * *")
    async def invoices(ctx: WorkflowContext, payload: Any) -> None:
        await ctx.step.run("charge", refuse, retries=1, backoff=1)

    def refuse() -> None:
        raise ConnectionError("the gateway is closed")

    @workflow(id="digest", schedule=True)
    async def digest(ctx: WorkflowContext, payload: Any) -> str:
        return f"for {payload.key}"

    @workflow(id="onboarding")
    async def onboarding(ctx: WorkflowContext, payload: dict[str, str]) -> None:
        await ctx.step.sleep("some days", timedelta(days=30))

    @workflow(id="child")
    async def child(ctx: WorkflowContext) -> str:
        await ctx.step.sleep("a while", timedelta(days=20))
        return "done"

    @workflow(id="parent")
    async def parent(ctx: WorkflowContext) -> str:
        return await ctx.step.invoke(child, name="the child")

    async with polos.testing.clock(START, app="shop") as time:
        app = polos.ui(time.client)
        yield Site(time, await visit(app), app)


# --- reading ---------------------------------------------------------------------------------


async def test_overview_of_an_empty_database_says_how_to_begin(client: PolosClient, visit: Any):
    await schedules.list(client)
    page = words_of((await (await visit(polos.ui(client))).get("/")).text)
    assert "Nothing is scheduled yet" in page
    assert "polos run app.py" in page


async def test_overview_shows_what_runs_failed_and_comes(site: Site):
    await schedules.create(site.client, "digest", every=timedelta(hours=6), key="ada")
    await site.time.advance(hours=3)
    await runs.invoke(site.client, "onboarding", {"user": "ada"})
    await site.time.advance(minutes=1)
    page = await site.page("/")
    assert "waiting 1" in page
    assert "active 3" in page
    assert "6 slots of 3 schedules" in page
    assert "Recent failures All failed invoices" in page
    assert "StepError step `charge` failed 2 times" in page
    assert "How late runs started 3 recent" in page
    assert "Workers Details shop" in page


async def test_schedules_are_found_by_the_beginning_of_their_key_workflow_and_status(site: Site):
    for key in ("tenant/1/ada", "tenant/1/bob", "tenant/2/eve", "100%_sure"):
        await schedules.create(site.client, "digest", cron="0 8 * * *", key=key)
    eve = await schedules.create(site.client, "digest", cron="0 8 * * *", key="tenant/2/eve")
    await schedules.pause(site.client, eve, note="on holiday")

    page = await site.page("/schedules?find=tenant/1/")
    assert "tenant/1/ada" in page
    assert "tenant/1/bob" in page
    assert "tenant/2/eve" not in page
    assert "At 08:00, every day" in page

    assert "100%_sure" in await site.page("/schedules?find=100%25")
    assert "100%_sure" not in await site.page("/schedules?find=%25")
    assert "tenant/2/eve" in await site.page("/schedules?status=paused")
    assert "tenant" not in await site.page("/schedules?workflow=invoices")
    assert "No schedules match" in await site.page("/schedules?find=nobody")

    by_id = await site.browser.get(f"/schedules?find={eve}")
    assert by_id.status_code == 303
    assert by_id.headers["location"] == f"/schedules/{eve}"


@pytest.mark.parametrize("query", ["workflow=digest", "find=user-", "find=user-&status=active"])
async def test_a_long_list_of_schedules_is_walked_page_by_page(site: Site, query: str):
    await schedules.create_many(
        site.client,
        [{"workflow": "digest", "cron": "0 8 * * *", "key": f"user-{n}"} for n in range(120)],
    )
    seen: list[str] = []
    path: str | None = f"/schedules?{query}"
    while path is not None:
        html = (await site.browser.get(path)).text
        seen += re.findall(r'<span class="key">(user-\d+)</span>', html)
        following = re.search(r'href="([^"]*)" rel="next"', html)
        path = following[1].replace("&amp;", "&") if following else None
    assert len(seen) == 120
    assert len(set(seen)) == 120


async def test_a_schedule_shows_its_meaning_and_its_outcomes(site: Site):
    [report] = await schedules.list(site.client, workflow="report")
    await site.time.advance(days=1)
    await schedules.pause(site.client, report.id)
    await site.time.advance(days=3)
    await schedules.resume(site.client, report.id)
    await site.time.advance(hours=1)
    page = await site.page(f"/schedules/{report.id}")
    assert "At 02:30, every day America/New_York" in page
    assert "2026, 02:30 EST" not in page  # the current year is omitted
    assert "Fri 6 Mar, 02:30 EST" in page
    assert "missed" in page
    assert "succeeded" in page
    assert re.search(r"Next slots \w+ \d+ Mar, 02:30 EDT", page)
    assert "declared by the code of shop" in page
    counts = (await schedules.get(site.client, report.id)).counts
    assert counts.missed > 0
    assert f"{counts.ran} ran, 0 skipped, {counts.missed} missed" in page


async def test_a_schedule_warns_of_clock_changes_ahead(site: Site):
    [report] = await schedules.list(site.client, workflow="report")
    assert "8 Mar" in await site.page(f"/schedules/{report.id}")
    assert "2026-03-08" in await site.page(f"/schedules/{report.id}")


async def test_a_long_history_is_walked_page_by_page(site: Site):
    id = await schedules.create(site.client, "digest", every=timedelta(minutes=1), key="often")
    await site.time.advance(hours=2)
    first = (await site.browser.get(f"/schedules/{id}")).text
    older = re.search(r'href="([^"]*before=[^"]*)"', first)
    assert older
    second = (await site.browser.get(older[1])).text
    rows = [set(re.findall(r'<tr id="slot-([^"]*)"', page)) for page in (first, second)]
    assert len(rows[0]) == 50
    assert len(rows[1]) == 50
    assert not rows[0] & rows[1]


async def test_a_run_shows_steps_times_result_and_arguments(site: Site):
    await site.time.advance(days=1)
    [run] = await runs.list(site.client, workflow="report")
    page = await site.page(f"/runs/{run.id}")
    assert "succeeded" in page
    assert "fetch" in page
    assert '"orders": 1284' in page
    assert "settle" in page
    assert "30 s" in page
    assert '"sent": 3' in page
    assert '"timestamp": "2026-03-06T02:30:00-05:00"' in page


async def test_an_invoked_run_shows_what_it_was_given(site: Site):
    handle = await runs.invoke(site.client, "onboarding", {"user": "grace"})
    await site.time.advance(seconds=1)
    page = await site.page(f"/runs/{handle.id}")
    assert '"user": "grace"' in page
    assert "continues at Sun 5 Apr" in page


async def test_a_run_shows_its_progress(site: Site):
    @workflow(id="reading")
    async def reading(ctx: WorkflowContext):
        ctx.progress(0.4, "page 12 of <b>30</b>")
        await ctx.step.sleep("sleep", 3_600)

    await site.time.restart()
    handle = await runs.invoke(site.client, "reading")
    await site.time.advance(seconds=1)
    page = await site.page(f"/runs/{handle.id}")
    assert "40%" in page
    assert "page 12 of <b>30</b>" in page
    await site.time.advance(hours=2)
    assert "page 12" not in await site.page(f"/runs/{handle.id}")


async def test_a_failed_run_shows_its_traceback_down_to_the_cause(site: Site):
    await site.time.advance(hours=2)
    [run] = await runs.list(site.client, workflow="invoices")
    page = await site.page(f"/runs/{run.id}")
    assert "polos.exceptions.StepError step `charge` failed 2 times" in page
    assert "Caused by ConnectionError" in page
    assert 'raise ConnectionError("the gateway is closed")' in page


async def test_a_run_that_waits_for_a_child_leads_to_it_and_back(site: Site):
    handle = await runs.invoke(site.client, "parent")
    await site.time.advance(seconds=1)
    html = (await site.browser.get(f"/runs/{handle.id}")).text
    link = re.search(r'waits for <a href="(/runs/[^"]+)"', html)
    assert link
    below = (await site.browser.get(link[1])).text
    assert f'href="/runs/{handle.id}"' in below
    assert "Invoked by a step of another run" in words_of(below)


async def test_runs_are_found_by_workflow_status_key_and_schedule(site: Site):
    id = await schedules.create(site.client, "digest", cron="0 8 * * *", key="ada")
    await site.time.advance(hours=5)
    assert "invoices" in await site.page("/runs?status=failed")
    assert "No runs match" in await site.page("/runs?status=cancelled")
    assert "ada" in await site.page("/runs?find=ada")
    assert "invoices" not in await site.page("/runs?find=ada")
    assert "ada" in await site.page(f"/runs?schedule={id}")


async def test_a_long_list_of_runs_is_walked_page_by_page(site: Site):
    await schedules.create(site.client, "digest", every=timedelta(minutes=1), key="often")
    await site.time.advance(hours=2)
    seen: list[str] = []
    path: str | None = "/runs?workflow=digest"
    while path is not None:
        html = (await site.browser.get(path)).text
        seen += re.findall(r'<tr id="row-(run_[^"]+)"', html)
        following = re.search(r'href="([^"]*)" rel="next"', html)
        path = following[1].replace("&amp;", "&") if following else None
    assert len(seen) == len(set(seen)) == 120


async def test_workers_are_listed_with_what_they_do(site: Site):
    page = await site.page("/workers")
    assert "shop" in page
    assert "onboarding" in page


async def test_a_silent_worker_is_reported(client: PolosClient, visit: Any):
    @workflow(id="quiet")
    async def quiet() -> None: ...

    browser = await visit(polos.ui(client))
    async with Worker(client, app="gone"):
        [worker] = await polos.workers.list(client)
        assert "Silent" not in words_of((await browser.get("/workers")).text)
        later = worker.seen_at + timedelta(minutes=10)
        busy = replace(worker, held=1)
        assert WorkerRow.of(busy, [busy], later).silent_for == timedelta(minutes=10)
        assert WorkerRow.of(worker, [worker], later).silent_for is None, (
            "a single idle worker sends no heartbeat"
        )
    browser = await visit(polos.ui(client))  # the other one caches what it read for a moment
    assert "No worker is registered" in words_of((await browser.get("/workers")).text)


async def test_a_killed_worker_is_reported_as_dead(client: PolosClient, start: Any, visit: Any):
    program = start(
        """
        import asyncio, polos

        @polos.workflow(id="job")
        async def job(): ...

        async def main():
            async with polos.PolosClient() as client, polos.Worker(client, app="victim"):
                print("at work", flush=True)
                await asyncio.Event().wait()

        asyncio.run(main())
        """
    )
    program.wait_for_line("at work")
    program.kill()
    browser = await visit(polos.ui(client))
    assert "victim" in (page := words_of((await browser.get("/workers")).text))
    assert "Its process has died" in page
    assert "process has died" in words_of((await browser.get("/")).text)


async def test_head_is_answered_like_get_without_a_body(site: Site):
    answer = await site.browser.head("/schedules")
    assert answer.status_code == 200
    assert answer.content == b""


async def test_a_database_that_is_not_there_is_not_made_by_looking(tmp_path: Path, visit: Any):
    path = tmp_path / "elsewhere" / "polos.db"
    with PolosClient(path) as client:
        browser = await visit(polos.ui(client))
        for page in ("/", "/schedules", "/runs", "/workers", "/metrics", "/runs/run_1"):
            answer = await browser.get(page)
            assert answer.status_code == 503
            assert f"here is no database at `{path}` yet" in words_of(answer.text)
            assert answer.headers["retry-after"] == "5"
    assert not path.exists()


async def test_every_page_is_read_from_a_real_database_as_well(
    client: PolosClient, visit: Any, eventually: Any
):
    @workflow(id="digest", schedule=True)
    async def digest(ctx: WorkflowContext, payload: Any) -> None: ...

    @workflow(id="job")
    async def job(ctx: WorkflowContext, payload: dict[str, str]) -> str:
        await ctx.step.run("look", lambda: "seen")
        return payload["name"]

    @workflow(id="bad")
    async def bad() -> None:
        raise ValueError("why")

    async with Worker(client, app="shop"):
        ids = await schedules.create_many(
            client,
            [
                {"workflow": digest, "every": timedelta(hours=1), "key": key}
                for key in ("Ada", "ada", "ada%", "ada_1", "ädä", HOSTILE)
            ],
        )
        handle = await job.invoke(client, {"name": "grace"})
        failed = await bad.invoke(client)
        await handle.result(timeout=30)
        await eventually(lambda: _ended(failed))
        browser = await visit(polos.ui(client))
        pages = {
            "/": "Recent failures All failed bad",
            "/schedules?find=ada": "3 found",
            "/schedules?find=ada_": "ada_1",
            "/schedules?find=%C3%A4": "ädä",
            f"/schedules?{httpx.QueryParams({'find': HOSTILE})}": HOSTILE,
            "/schedules?status=active&workflow=digest": "6 found",
            f"/schedules?after={min(ids)}": "5 found",
            f"/schedules/{ids[0]}": "Every hour UTC",
            "/runs?status=failed": "bad",
            "/runs?find=global&workflow=job": "job",
            f"/runs?after={failed.id}": "job",
            f"/runs/{handle.id}": '"name": "grace"',
            "/workers": "shop",
            "/metrics": "polos_workers 1",
        }
        for path, expected in pages.items():
            answer = await browser.get(path)
            assert answer.status_code == 200, answer.text
            rows = answer.text.count('<tr id="row-')
            assert expected in f"{words_of(answer.text)} {rows} found", path


async def _ended(handle: polos.RunHandle[Any]) -> bool:
    return await handle.status() == "failed"


# --- acting ----------------------------------------------------------------------------------


async def test_a_schedule_is_paused_with_a_note_and_resumed(site: Site):
    [found] = await schedules.list(site.client, workflow="report")
    page = f"/schedules/{found.id}"
    answer = await submit(site.browser, page, f"{page}/pause", note="until Monday & <b>")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{page}?done=paused"
    paused = await schedules.get(site.client, found.id)
    assert (paused.status, paused.note) == ("paused", "until Monday & <b>")
    shown = await site.page(answer.headers["location"])
    assert "Paused. No run starts until you resume it." in shown
    assert "until Monday & <b>" in shown

    assert (await submit(site.browser, page, f"{page}/resume")).status_code == 303
    assert (await schedules.get(site.client, found.id)).status == "active"


async def test_the_coming_slot_is_left_out(site: Site):
    [found] = await schedules.list(site.client, workflow="invoices")
    page = f"/schedules/{found.id}"
    assert (await submit(site.browser, page, f"{page}/skip")).status_code == 303
    after = await schedules.get(site.client, found.id)
    assert found.upcoming is not None
    assert after.upcoming == found.upcoming + timedelta(days=1)
    assert "skipped slots" in await site.page(page)
    assert (await submit(site.browser, page, f"{page}/unskip")).status_code == 303
    assert (await schedules.get(site.client, found.id)).upcoming == found.upcoming
    assert "skipped slots" not in await site.page(page)


async def test_a_schedule_is_run_now(site: Site):
    [found] = await schedules.list(site.client, workflow="report")
    page = f"/schedules/{found.id}"
    answer = await submit(site.browser, page, f"{page}/trigger")
    [run] = await runs.list(site.client, workflow="report")
    assert run.origin == "trigger"
    assert answer.headers["location"] == f"/runs/{run.id}?done=triggered"


async def test_the_page_of_backfills_says_how_to_start_one(site: Site):
    assert "No runs of a backfill are stored" in await site.page("/backfills")


async def test_a_calendar_is_stored_shown_and_deleted(site: Site):
    assert "No calendar is stored" in await site.page("/calendars")
    dates = "2020-12-25\r\n2999-12-25  # far away\r\n"
    answer = await submit(site.browser, "/calendars", "/calendars", name="us", text=dates)
    assert answer.headers["location"] == "/calendars/us?done=calendar_set"
    assert "us 2 2999-12-25 2999-12-25" in await site.page("/calendars")
    page = await site.page("/calendars/us")
    assert "2020 Fri 2020-12-25 2999 Wed 2999-12-25" in page
    event = ["BEGIN:VCALENDAR", "BEGIN:VEVENT", "DTSTART;VALUE=DATE:20201226", "END:VEVENT"]
    text = "\r\n".join([*event, "END:VCALENDAR", ""])
    answer = await submit(site.browser, "/calendars/us", "/calendars", name="us", text=text)
    assert answer.status_code == 303
    assert "us 1 none 2020-12-26" in await site.page("/calendars")

    [found] = await schedules.list(site.client, workflow="report")
    await schedules.update(site.client, found.id, skip="us")
    answer = await submit(site.browser, "/calendars/us", "/calendars/us/delete")
    assert (answer.status_code, "in use by" in answer.text) == (409, True)
    await schedules.update(site.client, found.id, skip=None)
    answer = await submit(site.browser, "/calendars/us", "/calendars/us/delete")
    assert answer.headers["location"] == "/calendars?done=calendar_deleted"
    assert await calendars.list(site.client) == []
    assert (await site.browser.get("/calendars/us")).status_code == 404


async def test_a_calendar_that_cannot_be_read_is_refused(site: Site):
    for name, text, reason in [
        ("us", "Christmas", "Line 1: `Christmas` isn't a date"),
        ("us", "  ", "Dates: none given"),
        ("2026", "2026-12-25", "expected a letter"),
    ]:
        answer = await submit(site.browser, "/calendars", "/calendars", name=name, text=text)
        assert (answer.status_code, reason in words_of(answer.text)) == (400, True), answer.text
    every_day = "\n".join(["2026-12-25"] * 10_000)
    answer = await submit(site.browser, "/calendars", "/calendars", name="us", text=every_day)
    assert answer.status_code == 303, "a long file is accepted"
    answer = await submit(site.browser, "/calendars", "/calendars", name="a", text="#" * 2_000_000)
    assert answer.status_code == 413


async def test_a_backfill_is_watched_and_cancelled_as_a_whole(site: Site):
    [found] = await schedules.list(site.client, workflow="report")
    start = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    made = await schedules.backfill(
        site.client, found.id, start, start + timedelta(days=5), concurrency=2
    )
    page = await site.browser.get("/backfills")
    assert f"{made.id} report 0 of 5" in words_of(page.text)
    missing = await site.browser.post(
        "/backfills/bf_nope/cancel",
        data={"secret": secret_in(page)},
        headers={
            "origin": str(site.browser.base_url).rstrip("/"),
            "sec-fetch-site": "same-origin",
        },
    )
    assert missing.status_code == 404
    answer = await submit(site.browser, "/backfills", f"/backfills/{made.id}/cancel")
    assert answer.headers["location"] == "/backfills?done=backfill_cancelled"
    await site.time.advance(seconds=1)
    info = await made.info()
    assert info is not None
    assert (info.cancelled, info.running, info.waiting) == (5, 0, 0)
    assert "No other run of the backfill starts." in await site.page(answer.headers["location"])


async def test_a_run_is_cancelled_and_retried(site: Site):
    handle = await runs.invoke(site.client, "onboarding", {"user": "ada"})
    await site.time.advance(seconds=1)
    page = f"/runs/{handle.id}"
    assert (await submit(site.browser, page, f"{page}/cancel")).status_code == 303
    assert await handle.status() == "cancelled"
    assert (await submit(site.browser, page, f"{page}/retry")).status_code == 303
    assert await handle.status() in ("queued", "waiting", "running")


async def test_an_event_is_sent_to_a_run_that_waits_for_it(site: Site):
    @workflow(id="publish")
    async def publish(ctx: WorkflowContext) -> Any:
        return await ctx.step.wait_event("approval", timeout=timedelta(days=3))

    await site.time.restart()  # with the new workflow
    handle = await runs.invoke(site.client, "publish")
    await site.time.advance(seconds=1)
    page = f"/runs/{handle.id}"
    assert "Waits for an event approval until" in await site.page(page)
    send = f"{page}/send"
    answer = await submit(site.browser, page, send, event="approval", payload="{by: ada}")
    assert answer.status_code == 400
    assert "not JSON" in answer.text
    answer = await submit(site.browser, page, send, event="approval", payload='{"by": "ada"}')
    assert answer.headers["location"] == f"{page}?done=sent"
    await site.time.advance(seconds=1)
    assert await handle.result() == {"by": "ada"}
    assert "Waits for an event" not in await site.page(page)
    [found] = await schedules.list(site.client, workflow="report")
    with_form = await site.browser.get(f"/schedules/{found.id}")
    form = {"secret": secret_in(with_form), "event": "approval"}
    answer = await site.browser.post(send, data=form)
    assert answer.status_code == 409
    assert "takes no more events" in answer.text


async def test_limits_are_shown_with_their_use_and_by_runs_that_wait_for_them(site: Site):
    @workflow(id="ask", concurrency=Limit("openai", 1, per_key=1, rate=50, per=60), priority=3)
    async def ask(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("in place", 4)

    assert "No worker has declared a limit." in await site.page("/limits")
    await site.time.restart()  # with the new workflow
    for _ in range(2):
        await runs.invoke(site.client, "ask")
    await site.time.advance(seconds=1)
    ((first,), (second,)) = [
        await runs.list(site.client, status=status) for status in ("running", "queued")
    ]
    shown = await site.page("/limits")
    assert "openai 1 at once, 1 per key, 50 in 60 s ask 1 1 " in shown
    waiting = await site.page(f"/runs/{second.id}")
    assert (
        "Waits for room under the limit `openai` (1 at once, 1 per key, 50 in 60 s): 1 in progress"
    ) in waiting
    assert "priority 3" in waiting
    assert "Waits for room" not in await site.page(f"/runs/{first.id}")
    other = await runs.invoke(site.client, "onboarding", {"user": "ada"})
    assert "priority" not in await site.page(f"/runs/{other.id}")
    await site.time.advance(seconds=10)
    assert "Waits for room" not in await site.page(f"/runs/{second.id}")


async def test_a_limit_is_set_reset_and_deleted(site: Site):
    @workflow(id="ask", concurrency=Limit("open/ai é", 5, rate=50, per=60))
    async def ask(ctx: WorkflowContext) -> None: ...

    async def change(path: str, **fields: str) -> httpx.Response:
        return await submit(site.browser, "/limits", path, name="open/ai é", **fields)

    async def known() -> LimitInfo:
        (limit,) = await limits.list(site.client)
        return limit

    await site.time.restart()  # with the new workflow
    answer = await change("/limits", max=" 2 ", per_key="", per="30.5")
    assert (answer.status_code, answer.headers["location"]) == (303, "/limits?done=limit_set")
    limit = await known()
    assert (limit.max, limit.per_key, limit.rate) == (2, None, 50)
    assert limit.per == timedelta(seconds=30.5)
    shown = await site.page(answer.headers["location"])
    assert "It counts within a second, until it is reset." in shown
    assert "2 at once, 50 in 30.5 s set by an operator; declared: 5 at once, 50 in 60 s" in shown
    for fields, reason in [
        ({"max": "-1"}, "max: `-1` given, expected a whole number"),
        ({"max": "2.5"}, "max: `2.5` given"),
        ({"max": "9" * 30}, "expected a whole number"),
        ({"max": "1000001"}, "expected a whole number from 0 to 1,000,000"),
        ({"rate": "0"}, "rate: `0` given, expected a whole number from 1"),
        ({"per": "soon"}, "per: `soon` given, expected a number of seconds"),
        ({"per": "nan"}, "per: `nan` given"),
        ({"max": ""}, "no value given"),
    ]:
        answer = await change("/limits", **fields)
        text = words_of(answer.text)
        assert (answer.status_code, reason.lower() in text.lower()) == (400, True), text
    assert (await known()).max == 2

    answer = await change("/limits/reset")
    assert (answer.status_code, answer.headers["location"]) == (303, "/limits?done=limit_reset")
    assert ((await known()).max, (await known()).overridden) == (5, False)
    shown = await site.browser.get("/limits")
    assert 'action="/limits/reset"' not in shown.text
    assert 'action="/limits/delete"' not in shown.text
    unknown = {"secret": secret_in(shown), "name": "nothing", "max": "3"}
    for path in ("/limits", "/limits/reset", "/limits/delete"):
        answer = await site.browser.post(path, data=unknown)
        assert answer.status_code == 404
        assert "There is no limit `nothing`" in answer.text
    in_use = {"secret": secret_in(shown), "name": "open/ai é"}
    answer = await site.browser.post("/limits/delete", data=in_use)
    assert (answer.status_code, "a worker of `shop` declares it" in answer.text) == (409, True)

    await site.time.stop()
    answer = await change("/limits/delete")
    assert (answer.status_code, answer.headers["location"]) == (303, "/limits?done=limit_deleted")
    assert await limits.list(site.client) == []


async def test_an_action_that_is_no_longer_possible_is_reported(site: Site):
    id = await schedules.create(site.client, "report", cron="0 8 * * *", key="gone-soon")
    page = await site.browser.get(f"/schedules/{id}")
    await schedules.delete(site.client, id)
    answer = await site.browser.post(f"/schedules/{id}/pause", data={"secret": secret_in(page)})
    assert answer.status_code == 404
    assert "Traceback" not in answer.text

    handle = await runs.invoke(site.client, "onboarding", {"user": "ada"})
    answer = await site.browser.post(f"/runs/{handle.id}/retry", data={"secret": secret_in(page)})
    assert answer.status_code == 409


# --- mounting --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/polos", "/admin/polos"])
async def test_mounted_under_a_prefix_all_links_and_forms_stay_below_it(
    site: Site, visit: Any, prefix: str
):
    app: Any = FastAPI()
    app.mount(prefix, polos.ui(site.client))
    await _stays_below(await visit(app), site, prefix)


async def test_mounts_may_be_nested_and_behind_a_path_of_a_proxy(site: Site, visit: Any):
    inner = Starlette(routes=[Mount("/polos", app=polos.ui(site.client))])
    app = Starlette(routes=[Mount("/tools", app=inner)])
    await _stays_below(await visit(app), site, "/tools/polos")


@pytest.mark.parametrize("is_stripped", [True, False])
async def test_a_proxy_may_publish_it_under_a_path(site: Site, visit: Any, is_stripped: bool):
    browser = await visit(polos.ui(site.client, root_path="/tools/polos/"))
    await _stays_below(_behind(browser, "/tools/polos", is_stripped, {}), site, "/tools/polos")


@pytest.mark.parametrize("is_stripped", [True, False])
async def test_a_trusted_proxy_may_name_the_path(site: Site, visit: Any, is_stripped: bool):
    app = polos.ui(site.client, allow_remote=True, trusted_proxies=["10.0.0.0/8"])
    browser = await visit(app, address="10.0.0.7")
    header = {"x-forwarded-prefix": "/tools/polos"}
    await _stays_below(_behind(browser, "/tools/polos", is_stripped, header), site, "/tools/polos")


def _behind(
    browser: httpx.AsyncClient, prefix: str, is_stripped: bool, headers: dict[str, str]
) -> httpx.AsyncClient:
    """Return a browser behind a proxy that adds headers and may remove ``prefix``."""

    async def forward(request: httpx.Request) -> None:
        assert request.url.path.startswith(f"{prefix}/")
        if is_stripped:
            request.url = request.url.copy_with(
                raw_path=request.url.raw_path.removeprefix(prefix.encode())
            )
        request.headers.update(headers)

    browser.event_hooks = {"request": [forward]}
    return browser


async def _stays_below(browser: httpx.AsyncClient, site: Site, prefix: str) -> None:
    await site.time.advance(hours=3)
    [found] = await schedules.list(site.client, workflow="report")
    [run] = await runs.list(site.client, workflow="invoices")
    paths = ["/", "/schedules", "/runs", "/workers", f"/schedules/{found.id}", f"/runs/{run.id}"]
    for path in [*paths, "/nowhere"]:
        answer = await browser.get(prefix + path)
        assert answer.status_code == (404 if path == "/nowhere" else 200)
        targets = re.findall(r'(?:href|src|action)="([^"#][^"]*)"', answer.text)
        assert len(targets) > 5
        for target in targets:
            assert target.startswith(f"{prefix}/"), f"{path} leads to {target}"
    sheet = re.search(r'href="([^"]+\.css[^"]*)"', answer.text)
    assert sheet
    assert (await browser.get(sheet[1])).status_code == 200
    page = f"{prefix}/schedules/{found.id}"
    after = await submit(browser, page, f"{page}/pause")
    assert after.headers["location"] == f"{page}?done=paused"
    assert (await schedules.get(site.client, found.id)).status == "paused"


# --- what must not be shown ------------------------------------------------------------------


async def test_nothing_that_users_wrote_becomes_markup(visit: Any):
    @workflow(id=f"w {HOSTILE}", schedule={"every": timedelta(hours=1), "input": {HOSTILE: 1}})
    async def hostile(ctx: WorkflowContext, payload: Any) -> None:
        await ctx.step.run(f"fine {HOSTILE}", lambda: {HOSTILE: HOSTILE})
        error = ValueError(HOSTILE)
        raise error

    async with polos.testing.clock(START, app=HOSTILE, project_id=HOSTILE) as time:
        id = await schedules.create(
            time.client, hostile, every=timedelta(hours=1), key=HOSTILE, input=HOSTILE
        )
        await time.advance(hours=2)
        await schedules.pause(time.client, id, note=HOSTILE)
        browser = await visit(polos.ui(time.client))
        [run, *_] = await runs.list(time.client, key=HOSTILE)
        paths = ["/", "/schedules", "/runs", "/workers", f"/schedules/{id}", f"/runs/{run.id}"]
        quoted = httpx.QueryParams({"find": HOSTILE, "workflow": HOSTILE})
        paths += [f"/schedules?{quoted}", f"/runs?{quoted}", f"/runs?{quoted}&schedule={id}"]
        paths += [f"/schedules?{httpx.QueryParams({'status': HOSTILE})}", f"/{HOSTILE}"]
        paths += [f"/schedules/{HOSTILE.replace('/', '%2F')}"]
        for path in paths:
            tags = Tags((await browser.get(path)).text)
            assert "img" not in tags.names
            assert tags.names.count("script") == 1  # ours
            assert not [name for name in tags.attributes if name.startswith("on")]
            assert tags.names.count("style") == tags.attributes.count("style") == 0
        assert HOSTILE in words_of((await browser.get(f"/runs/{run.id}")).text)


async def test_hidden_payloads_are_on_no_page(site: Site, visit: Any):
    @workflow(id="private", schedule=True)
    async def private(ctx: WorkflowContext, payload: Any) -> str:
        await ctx.step.run("look up", lambda: "password-step")
        await ctx.step.run("fail", fail)
        return "password-result"

    def fail() -> None:
        raise ValueError("password-message")

    @workflow(id="open")
    async def fine(ctx: WorkflowContext, payload: dict[str, str]) -> str:
        return "password-result"

    async with polos.testing.clock(START) as time:
        id = await schedules.create(
            time.client, private, every=timedelta(hours=1), input={"key": "password-input"}
        )
        handle = await fine.invoke(time.client, {"key": "password-argument"})
        await time.advance(hours=2)
        [run, *_] = await runs.list(time.client, workflow="private", status="failed")
        paths = ["/", "/runs", "/schedules", f"/schedules/{id}", f"/runs/{run.id}"]
        paths += [f"/runs/{handle.id}", "/metrics"]
        shown = await visit(polos.ui(time.client))
        hidden = await visit(polos.ui(time.client, hide_payloads=True))
        everything = ""
        for path in paths:
            everything += (await shown.get(path)).text
            assert "password" not in (await hidden.get(path)).text
        for part in ("step", "message", "input", "argument", "result"):
            assert f"password-{part}" in everything
        page = words_of((await hidden.get(f"/runs/{run.id}")).text)
        assert "StepError" in page
        assert "does not show payloads" in page


async def test_a_runs_page_says_why_a_failure_was_not_retried(visit: Any) -> None:
    @workflow(id="declined", retries=3)
    async def declined(ctx: WorkflowContext) -> None:
        await ctx.step.run("charge", lambda: {}["key"], retries=2, retry_on=OSError)

    @workflow(id="permanent", retries=3)
    async def permanent() -> None:
        raise polos.PermanentError("the card was declined")

    async with polos.testing.clock(START) as time:
        first, second = await declined.invoke(time.client), await permanent.invoke(time.client)
        await time.advance(seconds=0)
        browser = await visit(polos.ui(time.client, hide_payloads=True))
        page = words_of((await browser.get(f"/runs/{first.id}")).text)
        assert "Not retried: `retry_on` does not include `KeyError`." in page
        page = words_of((await browser.get(f"/runs/{second.id}")).text)
        assert "Not retried: it is a `PermanentError`." in page


async def test_a_result_of_megabytes_becomes_a_small_page(site: Site, visit: Any):
    @workflow(id="large")
    async def large() -> list[str]:
        return ["x" * 1_000] * 5_000

    async with polos.testing.clock(START) as time:
        handle = await large.invoke(time.client)
        await time.advance(seconds=1)
        answer = await (await visit(polos.ui(time.client))).get(f"/runs/{handle.id}")
        assert len(answer.content) < 60_000
        assert "the rest is not shown" in answer.text


# --- wrong addresses -------------------------------------------------------------------------

WRONG = [
    ("/schedules/sch_nope", 404, "no schedule"),
    ("/schedules/" + "x" * 5_000, 404, "no schedule"),
    ("/runs/run_nope", 404, "no run"),
    ("/runs/%00", 404, "no run"),
    ("/schedules?status=lazy", 400, "expected one of active, paused, retired, finished, broken"),
    ("/schedules?after=nonsense", 400, "is not an id that begins with `sch_`"),
    ("/schedules?find=" + "x" * 301, 400, "at most 300 characters"),
    ("/schedules?find=a&after=sch_gone", 400, "go back to the first page"),
    ("/schedules?find=a%00b", 400, "control characters"),
    ("/runs?status=active", 400, "expected one of running, queued"),
    ("/runs?after=1", 400, "is not an id that begins with `run_`"),
    ("/runs?schedule=nothing", 200, "No runs match"),
    ("/runs?workflow=nothing", 200, "No runs match"),
    ("/nowhere", 404, "no such page"),
    ("/static/secret.txt", 404, "no such file"),
    ("/static/..%2Fapp.py", 404, "no such"),
    ("/login", 405, "accepts only forms"),
]


@pytest.mark.parametrize(("path", "status", "sentence"), WRONG)
async def test_wrong_addresses_get_one_sentence(site: Site, path: str, status: int, sentence: str):
    page = await site.page(path, status)
    assert sentence in page
    assert "Traceback" not in page


@pytest.mark.parametrize(
    ("query", "sentence"),
    [("before=yesterday", "isn't a time such as"), ("before=2026-03-01T09:00", "isn't a time")],
)
async def test_wrong_times_get_one_sentence(site: Site, query: str, sentence: str):
    [found] = await schedules.list(site.client, workflow="report")
    assert sentence in await site.page(f"/schedules/{found.id}?{query}", 400)


@pytest.mark.parametrize("number", ["-1", "x", "9" * 30, "١"])
async def test_wrong_numbers_get_one_sentence(site: Site, number: str):
    handle = await runs.invoke(site.client, "onboarding", {"user": "ada"})
    page = await site.page(f"/runs/{handle.id}?from={number}", 400)
    assert "isn't a whole number from 0" in page


async def test_programs_get_sentences_as_text(site: Site):
    answer = await site.browser.get("/runs/run_nope", headers={"accept": "*/*"})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_closed_client_is_reported(client: PolosClient, visit: Any):
    browser = await visit(polos.ui(client))
    await schedules.list(client)
    client.close()
    answer = await browser.get("/")
    assert answer.status_code == 503
    assert "client is closed" in answer.text


@pytest.mark.files
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("PRAGMA user_version = 999", "upgrade polos"),
        ("PRAGMA application_id = 7", "another application"),
    ],
)
async def test_unreadable_databases_are_reported(
    tmp_path: Path, visit: Any, change: str, sentence: str
):
    import sqlite3

    path = tmp_path / "polos.db"
    with PolosClient(path) as client:
        await schedules.list(client)
    with sqlite3.connect(path) as other:
        other.execute(change)
    other.close()
    with PolosClient(path) as client:
        browser = await visit(polos.ui(client))
        for page in ("/", "/schedules", "/runs", "/workers", "/metrics"):
            answer = await browser.get(page)
            assert answer.status_code == 503
            assert sentence in answer.text
            assert "Traceback" not in answer.text


@pytest.mark.files
async def test_a_file_that_is_not_a_database_is_reported(tmp_path: Path, visit: Any):
    path = tmp_path / "polos.db"
    path.write_bytes(b"not a database at all, but some text " * 200)
    with PolosClient(path) as client:
        answer = await (await visit(polos.ui(client))).get("/")
    assert answer.status_code == 503
    assert "Traceback" not in answer.text


async def test_without_the_extra_it_says_what_to_install(start: Any):
    program = start(
        """
        import sys
        sys.modules["starlette"] = None
        import polos
        try:
            polos.ui(polos.PolosClient())
        except polos.MissingExtraError as error:
            print("printed", error)
        """
    )
    output = program.wait_for_line("printed")
    assert "pip install 'polos[ui]'" in output


async def test_importing_polos_imports_nothing_of_the_dashboard(start: Any):
    program = start(
        """
        import sys
        import polos
        print("printed", [name for name in sys.modules if name.startswith(("starlette", "jinja2"))])
        """
    )
    assert program.wait_for_line("printed") == "[]"


# --- for programs ----------------------------------------------------------------------------


async def test_metrics_are_in_the_format_of_prometheus(site: Site):
    await site.time.advance(hours=3)
    await runs.invoke(site.client, "onboarding", {"user": "ada"})
    await site.time.advance(seconds=1)
    answer = await site.browser.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = dict(
        line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")
    )
    assert samples['polos_schedules{status="active"}'] == "2"
    assert samples['polos_runs{status="waiting"}'] == "1"
    assert samples["polos_workers"] == "1"
    assert samples["polos_overdue_schedules"] == "0"
    assert samples['polos_recent_run_lateness_seconds_bucket{le="+Inf"}'] == "2"
    assert samples["polos_recent_run_lateness_seconds_count"] == "2"
    described = set(re.findall(r"^# TYPE (\S+) gauge$", answer.text, flags=re.MULTILINE))
    assert {name.partition("{")[0] for name in samples} <= described


async def test_every_metric_is_documented(site: Site):
    document = DOCUMENT.read_text()
    text = (await site.browser.get("/metrics")).text
    for name in re.findall(r"^# TYPE (\S+)", text, flags=re.MULTILINE):
        assert f"`{name}`" in document


async def test_many_requests_read_the_database_once(site: Site):
    answers = await asyncio.gather(*(site.browser.get("/") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}


def test_times_are_said_with_the_year_only_where_it_differs():
    instant = datetime(2026, 3, 2, 9, tzinfo=timezone.utc)
    assert day_and_time(instant, instant) == "Mon 2 Mar, 09:00 UTC"
    assert day_and_time(instant) == "Mon 2 Mar 2026, 09:00 UTC"

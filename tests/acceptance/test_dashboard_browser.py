"""The dashboard in a real headless browser.

Needs Chromium (``scripts/browser-for-tests`` finds it). Without it, these tests are skipped with a
reason, or they fail if ``POLOS_BROWSER_TESTS=1`` is set.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import polos
import polos.testing
from polos import Limit, PolosClient, WorkflowContext, limits, runs, schedules, workflow
from polos.dashboard import serve

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "browser-for-tests"
START = "2026-03-06T05:00:00+00:00"
MUST_RUN = os.environ.get("POLOS_BROWSER_TESTS", "") not in ("", "0")


def _browser() -> tuple[str, str]:
    """Return the path of a browser, or the reason why there is none."""
    found = subprocess.run([str(SCRIPT)], capture_output=True, text=True, check=False)
    return found.stdout.strip(), found.stderr.strip()


PATH, REASON = _browser()
pytestmark = [
    pytest.mark.skipif(
        not PATH and not MUST_RUN, reason=f"{REASON}; POLOS_BROWSER_TESTS=1 makes this a failure"
    ),
    pytest.mark.files,  # in virtual time, so the database is the same with any --store
]


@dataclass
class BrowserWindow:
    """A browser window with its requests, console messages, and errors."""

    page: Any
    base: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        await self.page.goto(self.base + path)


@dataclass
class Site:
    """An application with some history, and the address of its dashboard."""

    time: polos.testing.VirtualTime
    base: str
    browser: Any

    @property
    def client(self) -> PolosClient:
        return self.time.client

    @asynccontextmanager
    async def visitor(self, **options: Any) -> AsyncIterator[BrowserWindow]:
        context = await self.browser.new_context(**options)
        try:
            visitor = BrowserWindow(await context.new_page(), self.base)
            visitor.page.on("request", lambda request: visitor.requests.append(request.url))
            visitor.page.on("console", lambda text: visitor.complaints.append(text.text))
            visitor.page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
            yield visitor
        finally:
            await context.close()

    async def paths(self) -> list[str]:
        [failed, *_] = await runs.list(self.client, status="failed")
        [waiting, *_] = await runs.list(self.client, status="waiting")
        [one, *_] = await schedules.list(self.client, workflow="invoices")
        lists = ["", "schedules", "runs", "limits", "workers"]
        return [*lists, f"schedules/{one.id}", f"runs/{failed.id}", f"runs/{waiting.id}"]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    assert PATH, REASON  # POLOS_BROWSER_TESTS says that there has to be one
    from playwright.async_api import async_playwright

    @workflow(id="invoices", schedule="0 6 * * *")
    async def invoices(ctx: WorkflowContext, payload: Any) -> None:
        await ctx.step.run("collect", lambda: [1, 2, 3])
        await ctx.step.run("charge", refuse)

    def refuse() -> None:
        raise ConnectionError("the gateway is closed <b>for now</b>")

    @workflow(id="digest", schedule=True)
    async def digest(ctx: WorkflowContext, payload: Any) -> None: ...

    @workflow(id="onboarding")
    async def onboarding(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("some days", timedelta(days=30))

    @workflow(id="contract")
    async def contract(ctx: WorkflowContext) -> list[Any]:
        return await ctx.step.gather(ctx.step.wait_event("buyer"), ctx.step.wait_event("seller"))

    @workflow(id="render", concurrency=Limit("gpu", 2, rate=100, per=60))
    async def render(ctx: WorkflowContext) -> None: ...

    async with polos.testing.clock(START, app="shop") as time, async_playwright() as driver:
        await schedules.create(time.client, digest, every=timedelta(hours=1), key="ada")
        await onboarding.invoke(time.client)
        await time.advance(hours=3)
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(
            serve(time.client, port=0, handle_signals=False, on_ready=ready.set_result)
        )
        browser = await driver.chromium.launch(executable_path=PATH, args=["--no-sandbox"])
        try:
            yield Site(time, await ready, browser)
        finally:
            await browser.close()
            server.cancel()
            await asyncio.wait({server})


async def test_nothing_leaves_the_machine_and_no_policy_is_broken(site: Site):
    async with site.visitor() as visitor:
        for path in await site.paths():
            await visitor.open(path)
            await visitor.page.wait_for_selector("#pulse.on")
        assert visitor.complaints == []
        assert len(visitor.requests) > 20
        assert [url for url in visitor.requests if not url.startswith(site.base)] == []


async def test_a_page_keeps_up_without_a_reload(site: Site):
    async with site.visitor() as visitor:
        await visitor.open("runs?workflow=digest")
        await visitor.page.wait_for_selector("#pulse.on")
        await visitor.page.evaluate("window.kept = 'the same page'")
        before = await visitor.page.locator("tbody tr").count()
        await site.time.advance(hours=1)
        await visitor.page.wait_for_function(
            "before => document.querySelectorAll('tbody tr').length === before + 1", arg=before
        )
        assert await visitor.page.evaluate("window.kept") == "the same page"


async def test_updates_leave_a_form_that_is_in_use_unchanged(site: Site):
    [found] = await schedules.list(site.client, workflow="digest")
    async with site.visitor() as visitor:
        page = visitor.page
        await visitor.open(f"schedules/{found.id}")
        await page.wait_for_selector("#pulse.on")
        await page.get_by_text("Pause…").click()
        await page.get_by_label("Note (optional)").fill("half a sentence")
        rows = await page.locator("tbody tr").count()
        await site.time.advance(hours=1)
        await page.wait_for_function(
            "rows => document.querySelectorAll('tbody tr').length > rows", arg=rows
        )
        assert await page.get_by_label("Note (optional)").input_value() == "half a sentence"
        await page.get_by_label("Note (optional)").press("Enter")
        await page.wait_for_url("**done=paused")
    paused = await schedules.get(site.client, found.id)
    assert (paused.status, paused.note) == ("paused", "half a sentence")


@pytest.mark.parametrize("is_focused", [True, False])
async def test_text_for_one_event_survives_another_event(site: Site, is_focused: bool):
    handle = await runs.invoke(site.client, "contract")
    await site.time.advance(seconds=1)
    async with site.visitor() as visitor:
        page = visitor.page
        await visitor.open(f"runs/{handle.id}")
        await page.wait_for_selector("#pulse.on")
        seller = page.locator("form", has=page.get_by_role("button", name="Send seller"))
        typed = seller.get_by_label("Payload")
        await typed.fill('"half a sentence"')
        if not is_focused:
            await typed.blur()
        assert await runs.send(site.client, handle.id, "buyer", "yes")
        await page.get_by_role("button", name="Send buyer").wait_for(state="detached")
        assert await typed.input_value() == '"half a sentence"'
        if is_focused:
            assert await typed.evaluate("node => node === document.activeElement")
        await page.get_by_role("button", name="Send seller").click()
        await page.wait_for_url("**done=sent")
    await site.time.advance(seconds=1)
    assert await handle.result() == ["yes", "half a sentence"]


async def test_a_limit_is_set_and_reset(site: Site):
    async with site.visitor() as visitor:
        page = visitor.page
        await visitor.open("limits")
        await page.wait_for_selector("#pulse.on")
        await page.get_by_text("Change gpu").click()
        await page.get_by_label("In progress at once, at most").fill("1")
        # Another operator changes it at that moment: what is typed stays.
        await limits.set(site.client, "gpu", rate=50)
        await page.get_by_text("50 in 60 s").first.wait_for()
        assert await page.get_by_label("In progress at once, at most").input_value() == "1"
        await page.get_by_label("In progress at once, at most").press("Enter")
        await page.wait_for_url("**done=limit_set")
        assert "It counts within a second, until it is reset." in await page.inner_text("main")
        changed = await limits.get(site.client, "gpu")
        assert (changed.max, changed.rate, changed.declared["max"]) == (1, 50, 2)
        await page.get_by_text("Change gpu").click()
        await page.get_by_role("button", name="Reset to").click()
        await page.wait_for_url("**done=limit_reset")
        changed = await limits.get(site.client, "gpu")
        assert (changed.max, changed.rate, changed.overridden) == (2, 100, False)
    async with site.visitor(java_script_enabled=False) as visitor:
        page = visitor.page
        await visitor.open("limits")
        await page.get_by_text("Change gpu").click()
        await page.get_by_label("In progress at once, at most").fill("some")
        await page.get_by_role("button", name="Set", exact=True).click()
        assert "some" in await page.inner_text("main")
    assert not (await limits.get(site.client, "gpu")).overridden


async def test_a_form_that_came_with_an_update_works(site: Site):
    [found] = await schedules.list(site.client, workflow="digest")
    async with site.visitor() as visitor:
        await visitor.open(f"schedules/{found.id}")
        await visitor.page.wait_for_selector("#pulse.on")
        await schedules.pause(site.client, found.id)
        await visitor.page.get_by_role("button", name="Resume").click()
        await visitor.page.wait_for_url("**done=resumed")
        assert (await schedules.get(site.client, found.id)).status == "active"
        # And screen readers were notified of the change.
        await schedules.pause(site.client, found.id)
        await visitor.page.wait_for_function(
            "() => document.getElementById('announcer').textContent.includes('paused')"
        )


async def test_without_scripts_pages_are_read_and_forms_work(site: Site):
    [found] = await schedules.list(site.client, workflow="digest")
    async with site.visitor(java_script_enabled=False) as visitor:
        page = visitor.page
        for path in await site.paths():
            await visitor.open(path)
            assert await page.locator("h1").count() == 1
        await visitor.open("schedules")
        await page.get_by_role("link", name="digest ada").click()
        await page.get_by_text("Pause…").click()
        await page.get_by_role("button", name="Pause", exact=True).click()
        assert "Paused. No run starts" in await page.inner_text("main")
        await page.get_by_role("button", name="Resume").click()
        assert "Resumed" in await page.inner_text("main")
    assert (await schedules.get(site.client, found.id)).status == "active"


async def test_everything_is_reached_with_the_keyboard(site: Site):
    [found] = await schedules.list(site.client, workflow="digest")
    async with site.visitor() as visitor:
        page = visitor.page
        await visitor.open(f"schedules/{found.id}")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to content"
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"
        for _ in range(20):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.textContent") == "Pause…":
                break
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        await page.keyboard.press("Enter")
        assert await page.get_by_label("Note (optional)").is_visible()
        await page.keyboard.press("Escape")
        assert not await page.get_by_label("Note (optional)").is_visible()
        assert await page.evaluate("document.activeElement.textContent") == "Pause…"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_pass_the_usual_checks_of_accessibility(site: Site, scheme: Any):
    from axe_playwright_python.async_playwright import Axe

    async with site.visitor(color_scheme=scheme) as visitor:
        for path in [*await site.paths(), "nowhere"]:
            await visitor.open(path)
            results = await Axe().run(visitor.page)
            found = [
                (broken["id"], node["html"][:200], node.get("failureSummary"))
                for broken in results.response["violations"]
                for node in broken["nodes"]
            ]
            assert found == [], path


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
async def test_pages_fit_into_narrow_and_wide_windows(site: Site, width: int):
    await schedules.create(site.client, "digest", every=timedelta(hours=5), key="x" * 250)
    await site.time.advance(hours=5)
    [long] = await schedules.list(site.client, key="x" * 250)
    async with site.visitor(viewport={"width": width, "height": 800}) as visitor:
        for path in [*await site.paths(), f"schedules/{long.id}"]:
            await visitor.open(path)
            beyond = await visitor.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert beyond <= 0, path


async def test_a_lost_server_is_reported(site: Site):
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(
        serve(site.client, port=0, handle_signals=False, on_ready=ready.set_result)
    )
    base = await ready
    async with site.visitor() as visitor:
        await visitor.page.goto(base)
        await visitor.page.wait_for_selector("#pulse.on")
        server.cancel()
        await asyncio.wait({server})
        await visitor.page.wait_for_selector("#pulse.off")
        assert await visitor.page.inner_text("#pulse") == "not live"

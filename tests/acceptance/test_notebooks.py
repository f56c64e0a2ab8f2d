"""Notebooks: `await` at the top level of a cell, in a loop that already runs."""

from __future__ import annotations

import asyncio
import html.parser
from typing import Any

import pytest

from polos import runs, schedules, workflow
from polos.testing import VirtualTime


@pytest.mark.usefixtures("own_database")
async def test_cells_await_schedule_and_work(notebook: Any) -> None:
    await notebook.cell("""
from datetime import timedelta
from polos import PolosClient, Worker, runs, schedules, workflow
client = PolosClient()
@workflow(id="digest", schedule=True)
async def digest(ctx, payload):
    return await ctx.step.run("greet", "hello {}".format, ctx.key)
""")
    await notebook.cell("worker = Worker(client); await worker.start()")
    shown = await notebook.cell("""
id = await schedules.create(client, digest, cron="0 8 * * *", key="ada")
await schedules.list(client)
""")
    assert "<td" in shown._repr_html_()
    assert await notebook.cell("await (await schedules.trigger(client, id)).result(10)") == (
        "hello ada"
    )
    # A cell is executed again after an edit: the new function applies.
    await notebook.cell("""
@workflow(id="digest", schedule=True)
async def digest(ctx, payload):
    return "edited"
""")
    await notebook.cell("await worker.close(); worker = Worker(client); await worker.start()")
    assert await notebook.cell("await (await schedules.trigger(client, id)).result(10)") == "edited"
    await notebook.cell("await worker.close(); await client.aclose()")


@pytest.mark.usefixtures("own_database")
async def test_blocking_calls_work_where_a_loop_runs(notebook: Any) -> None:
    assert (
        await notebook.cell("""
from polos import PolosClient, schedules
with PolosClient() as client:
    found = schedules.sync.list(client)
found
""")
        == []
    )


class Text(html.parser.HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data + " "


async def test_schedules_runs_and_lists_are_tables(polos_clock: VirtualTime) -> None:
    @workflow(schedule=True)
    async def digest(ctx: Any) -> str:
        await ctx.step.run("greet", len, "ab")
        return "<b>done</b>"

    t = polos_clock
    id = await schedules.create(t.client, digest, cron="0 8 * * *", key="<script>ada</script>")
    await t.advance(days=2)
    shown = Text((await schedules.get(t.client, id))._repr_html_())
    assert "<script>ada</script>" in shown.text
    assert "script" not in shown.tags
    assert "2026-01-03 08:00:00 UTC" in shown.text
    assert "0 8 * * *" in shown.text

    listed = await runs.list(t.client)
    rows = Text(listed._repr_html_())  # type: ignore[attr-defined]
    assert rows.tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert rows.text.count("succeeded") == 2
    run = Text((await runs.get(t.client, listed[0].id))._repr_html_())
    assert "greet: succeeded" in run.text
    assert "<b>done</b>" in run.text
    history = await schedules.history(t.client, id)
    assert Text(history._repr_html_()).text.count("ran") == 2  # type: ignore[attr-defined]
    assert Text(schedules.sync.list(t.client)._repr_html_()).tags >= {"table"}  # type: ignore[attr-defined]


async def test_long_and_odd_things_are_shortened(polos_clock: VirtualTime) -> None:
    @workflow
    async def long(ctx: Any, number: int) -> str:
        return "x" * 10_000

    t = polos_clock
    await asyncio.gather(*(long.run(t.client, number) for number in range(103)))
    shown = (await runs.list(t.client, limit=None))._repr_html_()  # type: ignore[attr-defined]
    assert "and 3 more" in shown
    assert len(shown) < 150_000
    empty = await runs.list(t.client, status="failed")
    assert empty._repr_html_() == "[]"  # type: ignore[attr-defined]
    assert empty == []

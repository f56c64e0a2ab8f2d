"""``polos init``: write a small working project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from polos import __version__
from polos.cli.ui.console import HAPPENED, TYPED_WRONG, fail, out, say

__all__ = ["init"]

_APP = '''\
"""Workflows and their schedules. `polos dev app.py` executes them while you change them."""

from datetime import timedelta

import polos
from polos import SchedulePayload, WorkflowContext, workflow


async def fetch_total() -> int:
    return 200


@workflow(id="morning-report", schedule={"cron": "0 9 * * 1-5", "timezone": "Europe/Paris"})
async def morning_report(ctx: WorkflowContext, payload: SchedulePayload) -> str:
    # A finished step is not executed again when the run resumes after a crash.
    total = await ctx.step.run("fetch", fetch_total, retries=3)
    return f"{payload.timestamp:%A}: {total}; next on {payload.upcoming:%A}"


@workflow(id="heartbeat", schedule={"every": timedelta(seconds=10), "overlap": "skip"})
async def heartbeat(ctx: WorkflowContext) -> None:
    ctx.log.info("alive")


if __name__ == "__main__":
    polos.run()
'''

_TEST = '''\
"""What the workflows do in virtual time: a week takes milliseconds, and no file is written."""

import asyncio

import polos.testing

import app


def test_the_report_comes_on_working_days() -> None:
    async def week() -> None:
        async with polos.testing.clock(
            "2026-03-06T12:00:00+01:00", workflows=[app.morning_report]
        ) as time:
            await time.advance(days=7)
            runs = await time.runs(workflow="morning-report")
            assert [f"{run.timestamp:%a %H:%M}" for run in runs] == [
                "Mon 09:00", "Tue 09:00", "Wed 09:00", "Thu 09:00", "Fri 09:00",
            ]
            assert runs[-1].result == "Friday: 200; next on Monday"

    asyncio.run(week())
'''

_PYPROJECT = """\
[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.10"
dependencies = ["polos>={version}"]

[dependency-groups]
dev = ["polos[dev]", "pytest>=8"]

[tool.pytest.ini_options]
pythonpath = ["."]
"""

_GITIGNORE = """\
polos.db*
__pycache__/
.venv/
"""


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to write it; created if needed.")
    ] = Path("."),
) -> None:
    """Write a small working project.

    Writes app.py, a test of it, pyproject.toml, and .gitignore.
    Overwrites nothing: if one of these files exists, writes none.
    """
    files = {
        "app.py": _APP,
        "test_app.py": _TEST,
        "pyproject.toml": _PYPROJECT.format(name=_name(folder), version=__version__),
        ".gitignore": _GITIGNORE,
    }
    if folder.exists() and not folder.is_dir():
        fail(f"`{folder}` is a file; name a folder", TYPED_WRONG)
    there = [name for name in files if os.path.lexists(folder / name)]
    if there:
        names = " and ".join(f"`{folder / name}`" for name in there)
        fail(f"{names} would be overwritten; name another folder: polos init FOLDER", HAPPENED)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            with (folder / name).open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
            out(str(folder / name))
    except OSError as error:
        fail(f"can't write to `{folder}`: {error.strerror or error}")
    where = "" if folder == Path(".") else f"cd {folder} && "
    say(f"next: {where}polos run app.py    or with a dashboard: {where}polos dev app.py")


def _name(folder: Path) -> str:
    """Return a project name that packaging tools accept."""
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in folder.resolve().name.lower())
    return name.strip("-") or "app"

"""The examples of `docs/integrations.md` with the real libraries."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

import polos.otel
from polos import PolosClient, Worker, workflow
from polos.testing import VirtualTime

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "integrations.md"


def blocks(language: str = "python") -> list[tuple[str, str]]:
    """Return title and code of the page's blocks."""
    pattern = rf'^```{language}(?: title="(.*)")?\n((?:.*\n)*?)^```$'
    return re.findall(pattern, PAGE.read_text(), re.MULTILINE)


def block_with(text: str, language: str = "python") -> str:
    (found,) = [code for title, code in blocks(language) if text in code and not title]
    return found


def executed(code: str) -> types.ModuleType:
    module = types.ModuleType("block_of_a_document")
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    return module


@pytest.mark.usefixtures("own_database")
async def test_fastapi(served: Any) -> None:
    module = executed(block_with("FastAPI"))
    async with served(module.app) as web:
        answer = await web.put("/users/ada/digest?hour=8&timezone=Europe/London")
        assert answer.status_code == 200
        handle = await polos.schedules.trigger(module.client, answer.json())
        assert await handle.result(timeout=30) == "opened"
    assert module.app.pool == "closed"
    await module.client.aclose()


@pytest.mark.usefixtures("own_database")
async def test_a_notebook(notebook: Any) -> None:
    shown = await notebook.cell(block_with("await worker.start()", "ipython"))
    assert "ada" in shown._repr_html_()
    await notebook.cell("await worker.close(); await client.aclose()")


def test_uvloop(client: PolosClient) -> None:
    @workflow
    async def job() -> str:
        return type(asyncio.get_running_loop()).__module__

    async def main() -> str:
        async with Worker(client):
            return await job.run(client)

    assert uvloop.run(main()).startswith("uvloop")


async def test_logging(polos_clock: VirtualTime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    executed(block_with("basicConfig")).configure()
    (handler,) = logging.getLogger().handlers
    lines: list[str] = []
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(handler.format(record)))

    @workflow
    async def job() -> None:
        logging.getLogger("library").warning("here")

    handle = await job.invoke(polos_clock.client)
    await handle.result()
    assert lines[0].endswith(f"WARNING job {handle.id} here")


async def test_structlog(polos_clock: VirtualTime, capsys: pytest.CaptureFixture[str]) -> None:
    module = executed(block_with("structlog"))

    @workflow
    async def job() -> None:
        module.log.info("here", amount=3)

    handle = await job.invoke(polos_clock.client)
    await handle.result()
    logged = json.loads(capsys.readouterr().out)
    assert logged == {
        "event": "here", "amount": 3, "run_id": handle.id, "workflow": "job", "key": "global",
    }  # fmt: skip


async def test_opentelemetry_with_the_global_providers(polos_clock: VirtualTime) -> None:
    executed(block_with("polos.otel")).configure()

    @workflow
    async def job(ctx: Any) -> int:
        return await ctx.step.run("count", len, [1])

    try:
        assert await job.run(polos_clock.client) == 1, "also without any provider"
    finally:
        polos.otel.uninstrument()


# --- Django ----------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Create the page's project as a reader would."""
    for title, code in blocks():
        if title:
            file = tmp_path / title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code)
    for folder in ("shop", "shop/management", "shop/management/commands"):
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "settings.py").write_text(f"""
SECRET_KEY = "of a test"
ROOT_URLCONF = "urls"
INSTALLED_APPS = ["shop"]
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": {str(tmp_path / "shop.sqlite3")!r},
    }}
}}
POLOS_DATABASE = {str(tmp_path / "jobs.db")!r}
LOGGING = {{
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {{"plain": {{"format": "%(levelname)s %(name)s %(message)s"}}}},
    "handlers": {{"console": {{"class": "logging.StreamHandler", "formatter": "plain"}}}},
    "root": {{"handlers": ["console"], "level": "INFO"}},
}}
""")
    (tmp_path / "urls.py").write_text(
        "from django.urls import path\nfrom shop import views\n"
        "urlpatterns = [path('digest/<str:user>/', views.subscribe)]\n"
    )
    return tmp_path


WEB = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django
django.setup()
from django.db import connection
from django.test import Client
from shop.models import Digest
with connection.schema_editor() as editor:
    editor.create_model(Digest)
answer = Client().post("/digest/ada/", {"hour": "8", "timezone": "Europe/London"})
assert answer.status_code == 200, answer.content
print("subscribed", answer.json()["upcoming"][11:16])
from polos import schedules
from shop.jobs import client
handle = schedules.sync.trigger(client, answer.json()["id"])
print("triggered", handle.id)
print("result", handle.sync.result(timeout=30))
print("sent", [digest.user for digest in Digest.objects.all()])
"""

COMMAND = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "run_schedules"])
"""


@pytest.mark.files
def test_django_views_subscribe_and_its_command_works(
    project: Path, start: Callable[..., Any]
) -> None:
    env = {"PYTHONPATH": os.pathsep.join([str(ROOT / "python"), str(project)])}
    web = start(WEB, name="web.py", env=env)
    assert web.wait_for_line("subscribed") == "08:00"
    web.wait_for_line("triggered")
    worker = start(COMMAND, name="command.py", env=env)
    assert web.wait_for_line("result") == "1"
    assert web.wait_for_line("sent") == "['ada']"
    assert web.ends() == 0
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0, worker.errors
    assert "Error" not in worker.errors
    started = [line for line in worker.errors.splitlines() if " worker of `" in line]
    assert started == [
        f"INFO polos.worker worker of `shop` started: database `{project / 'jobs.db'}`, project "
        "`default`, 1 workflow: `digest`"
    ]


@pytest.mark.usefixtures("own_database")
def test_threads_without_a_loop() -> None:
    module = executed(block_with("threading"))
    assert not module.thread.is_alive()

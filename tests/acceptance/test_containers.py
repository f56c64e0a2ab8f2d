"""Workers in containers: environment variables instead of options, and the examples."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from polos import PolosClient, schedules, workers

Command = Callable[..., Any]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "containers"
VARIABLES = set(re.findall(r"^\| `(POLOS_\w+)`", (ROOT / "docs/containers.md").read_text(), re.M))

APP = """
from polos import workflow

@workflow(id="daily", schedule="0 6 * * *")
async def daily(ctx): ...
"""


# --- variables -------------------------------------------------------------------------------


@pytest.mark.files
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("POLOS_CONCURRENCY", "many", "POLOS_CONCURRENCY"),
        ("POLOS_CONCURRENCY", "0", "POLOS_CONCURRENCY"),
        ("POLOS_DRAIN", "-1", "POLOS_DRAIN"),
        ("POLOS_LOG_LEVEL", "loud", "POLOS_LOG_LEVEL: `loud` given, expected one of debug, info"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    message: str,
) -> None:
    (tmp_path / "service.py").write_text(APP)
    monkeypatch.setenv(variable, value)
    result = command("run", str(tmp_path / "service.py"))
    assert result.code == 2
    assert message in result.err


async def test_a_worker_is_what_its_variables_say(
    database: Any, tmp_path: Path, start: Any, eventually: Any
) -> None:
    (tmp_path / "service.py").write_text(APP)
    worker = start(
        """
        from polos.cli.typer_app import app
        app(["run", "service.py"])
        """,
        env={
            "POLOS_DATABASE_URL": str(database),
            "POLOS_PROJECT": "production",
            "POLOS_OWNER": "billing",
            "POLOS_DRAIN": "3",
            "POLOS_LOG_LEVEL": "debug",
        },
    )
    async with PolosClient(database, project_id="production") as client:
        (peer,) = await eventually(lambda: workers.list(client))
        (daily,) = await schedules.list(client)
        assert (daily.owner, peer.app) == ("billing", "billing")
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0
    assert "DEBUG" in worker.errors


def test_the_project_is_that_of_all_commands(
    command: Command, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PolosClient(database, project_id="production") as client:
        from polos import workflow

        @workflow(id="digest", schedule=True)
        async def digest(ctx: Any) -> None: ...

        id = schedules.sync.create(client, digest, "0 8 * * *")
    assert command("schedules", "list").lines[1:] == []
    monkeypatch.setenv("POLOS_PROJECT", "production")
    assert id in command("schedules", "list").out
    assert id not in command("schedules", "list", "--project", "default").out
    monkeypatch.setenv("POLOS_PROJECT", "")
    assert id not in command("schedules", "list").out, "an empty variable counts as absent"


# --- the examples ----------------------------------------------------------------------------


def manifest() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / "kubernetes.yaml").read_text())
    return found


def test_the_manifest_sets_existing_variables_and_leaves_time_to_end() -> None:
    pod = manifest()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert variables.keys() == VARIABLES
    assert all(value is None or isinstance(value, str) for value in variables.values())
    assert pod["terminationGracePeriodSeconds"] > float(variables["POLOS_DRAIN"]) + 5
    assert variables["POLOS_VERSION"] == container["image"].split(":")[1]


def test_labels_of_the_manifest_agree() -> None:
    spec = manifest()["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]


def test_the_image_starts_the_worker_without_a_shell_and_without_privileges() -> None:
    lines = (EXAMPLES / "Dockerfile").read_text().splitlines()
    orders = dict(line.split(" ", 1) for line in lines if line and line[0] not in "# ")
    program, *arguments = json.loads(orders["CMD"])
    assert (program, arguments) == ("polos", ["run", "app.py"])
    assert orders["USER"].split(":")[0] not in ("0", "root")
    assert re.fullmatch(r"python:3\.1\d-slim", orders["FROM"])


def test_the_page_names_all_variables_of_the_command(command: Command) -> None:
    text = command("run", "--help").out
    known = {"POLOS_DATABASE_URL", "POLOS_LOG_LEVEL"} | set(re.findall(r"POLOS_[A-Z_]+", text))
    assert known == VARIABLES
    assert os.environ.keys().isdisjoint(VARIABLES - {"POLOS_DATABASE_URL"})

"""Each command reports invalid values and missing things in one sentence, with a status."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from polos import PolosClient, schedules, workflow

Command = Callable[..., Any]

# Arguments for every command that reads a database.
READING = [
    "schedules list",
    "schedules show digest/ada",
    "schedules next",
    "schedules next digest/ada",
    "schedules history digest/ada",
    "schedules pause digest/ada",
    "schedules update digest/ada --every 6h",
    "schedules resume digest/ada",
    "schedules skip digest/ada",
    "schedules trigger digest/ada",
    "schedules delete digest/ada --yes",
    "schedules delete --workflow digest --yes",
    "schedules pause --workflow digest --yes",
    "schedules resume --workflow digest --yes",
    "schedules create digest --every 1h",
    "schedules backfill digest/ada --from 2026-01-01 --to 2026-01-02 --yes",
    "runs list",
    "runs show digest",
    "runs cancel digest",
    "runs retry digest",
    "runs watch digest",
    "runs watch",
    "top",
    "doctor",
]

with_each_command = pytest.mark.parametrize("typed", READING)


@pytest.fixture(autouse=True)
def digest() -> None:
    @workflow(id="digest", schedule=True)
    async def digest(ctx): ...

    @workflow(id="by-hand")
    async def by_hand(ctx): ...


@pytest.fixture
def ada(client: PolosClient) -> str:
    return schedules.sync.create(client, "digest", cron="0 8 * * *", key="ada")


def is_one_sentence(result: Any, code: int) -> str:
    """Return the message; check that it is one line without internals of polos."""
    assert result.code == code, result
    assert result.out == ""
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith("polos: ")
    assert "Traceback" not in result.err
    return str(result.err)


def message(result: Any, typed: str) -> str:
    """Return the message about the database."""
    assert "Traceback" not in result.err
    if typed == "doctor":
        assert result.code == 1
        return str(result.out)
    assert result.code != 0
    return is_one_sentence(result, result.code)


# --- the database ----------------------------------------------------------------------------


@pytest.mark.files
@with_each_command
def test_a_database_that_isnt_there_is_named_and_not_made(
    command: Command, tmp_path: Path, typed: str
) -> None:
    text = message(command(*typed.split()), typed)
    assert f"`{tmp_path / 'polos.db'}` doesn't exist" in text
    assert "polos run" in text
    assert list(tmp_path.iterdir()) == []


@with_each_command
@pytest.mark.parametrize(
    "given",
    [
        "postgresql:/ada:s3cret@db/app",
        "host=db password=s3cret",
        "postgresql://ada:s3c@s3cret@db/app",
        "",
        ":memory:",
    ],
)
def test_what_isnt_a_database_is_refused_without_its_password(
    command: Command, tmp_path: Path, typed: str, given: str
) -> None:
    before = list(tmp_path.iterdir())
    text = is_one_sentence(command(*typed.split(), "--database", given), 2)
    assert text.startswith("polos: database: ")
    assert "s3c" not in text
    assert list(tmp_path.iterdir()) == before


def test_an_argument_too_many_shows_no_password(command: Command) -> None:
    text = is_one_sentence(command("runs", "list", "postgresql://ada:s3cret@db/app"), 2)
    assert "s3c" not in text


@pytest.mark.parametrize("option", ["--to", "--from"])
def test_migrate_names_the_option_that_isnt_a_database(command: Command, option: str) -> None:
    given = {"--to": "postgresql://h/d", "--from": "polos.db", option: "ada:s3cret@db/app"}
    words = [word for pair in given.items() for word in pair]
    text = is_one_sentence(command("migrate", *words), 2)
    assert text.startswith(f"polos: {option}: ")
    assert "s3c" not in text


@pytest.mark.files
@with_each_command
def test_an_empty_file_stays_empty(command: Command, tmp_path: Path, typed: str) -> None:
    (tmp_path / "empty.db").touch()
    text = message(command(*typed.split(), "--database", "empty.db"), typed)
    assert "is empty" in text
    assert (tmp_path / "empty.db").stat().st_size == 0


@pytest.mark.files
@with_each_command
def test_a_file_that_isnt_ours_is_left_alone(command: Command, tmp_path: Path, typed: str) -> None:
    content = b"this is no database, though it is long enough" * 100
    (tmp_path / "notes.txt").write_bytes(content)
    text = message(command(*typed.split(), "--database", "notes.txt"), typed)
    assert "not a polos database" in text
    assert (tmp_path / "notes.txt").read_bytes() == content


@pytest.mark.files
@with_each_command
def test_a_truncated_file_is_reported_as_damaged(
    command: Command, tmp_path: Path, ada: str, client: PolosClient, typed: str
) -> None:
    client.close()
    whole = (tmp_path / "polos.db").read_bytes()
    (tmp_path / "torn.db").write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    text = message(command(*typed.split(), "--database", "torn.db"), typed)
    assert "torn.db" in text
    assert "damaged" in text


@pytest.mark.files
@with_each_command
def test_a_database_of_a_newer_release_asks_for_it(
    command: Command, tmp_path: Path, ada: str, client: PolosClient, typed: str
) -> None:
    client.close()
    shutil.copy(tmp_path / "polos.db", tmp_path / "newer.db")
    with_sqlite(tmp_path / "newer.db", "PRAGMA user_version = 9999")
    text = message(command(*typed.split(), "--database", "newer.db"), typed)
    assert "newer" in text
    assert "newer.db" in text


def with_sqlite(path: Path, statement: str) -> None:
    """Use sqlite3 in another process: closing the file here would release the locks of polos."""
    script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2])"
    subprocess.run([sys.executable, "-c", script, str(path), statement], check=True)


@with_each_command
def test_a_server_that_doesnt_answer(command: Command, typed: str) -> None:
    url = "postgresql://somebody:secret@127.0.0.1:1/none?connect_timeout=1"
    text = message(command(*typed.split(), "--database", url), typed)
    assert "127.0.0.1" in text
    assert "secret" not in text


@with_each_command
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--database", "mysql://host/db"], "`mysql://` isn't supported"),
        (["--database", ""], "database"),
        (["--project", " "], "project_id"),
    ],
)
def test_an_invalid_path(command: Command, typed: str, options: list[str], expected: str) -> None:
    assert expected in is_one_sentence(command(*typed.split(), *options), 2)


def test_another_project_sees_nothing(command: Command, ada: str) -> None:
    result = command("schedules", "show", "digest/ada", "--project", "other")
    assert "in project `other`" in is_one_sentence(result, 3)


# --- what was typed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "code", "expected"),
    [
        # names
        ("schedules show digest/adda", 3, "did you mean `digest/ada`?"),
        ("schedules show digset", 3, "did you mean `digest`?"),
        ("schedules show xyz", 3, "`polos schedules list` shows all"),
        ("schedules show sch_zzzz", 3, "there is no schedule `sch_zzzz`"),
        ("schedules show run_x", 3, "is a run's id"),
        ("schedules history digest/eve", 3, "did you mean `digest/ada`?"),
        ("schedules pause digest/eve", 3, "there is no schedule"),
        ("schedules resume nope", 3, "there is no schedule"),
        ("schedules skip nope", 3, "there is no schedule"),
        ("schedules trigger nope", 3, "there is no schedule"),
        ("schedules delete nope --yes", 3, "there is no schedule"),
        ("schedules backfill nope --from 2026-01-01", 3, "there is no schedule"),
        ("schedules next nope", 3, "there is no schedule"),
        ("schedules create digets --every 1h", 3, "did you mean `digest`?"),
        ("runs show run_nope", 3, "there is no run `run_nope`"),
        ("runs show nope", 3, "there is no run `nope`"),
        ("runs cancel run_nope", 3, "there is no run"),
        ("runs retry run_nope", 3, "there is no run"),
        ("runs watch run_nope", 3, "there is no run"),
        ("runs list --schedule digest/adda", 3, "did you mean `digest/ada`?"),
        # times and durations
        ("schedules backfill digest --from yesterday", 2, "--from: `yesterday` isn't a time"),
        ("schedules backfill digest --from 2026-02-30", 2, "--from: `2026-02-30` isn't a time"),
        ("schedules backfill digest --from 2030-01-01", 2, "must be later than `start`"),
        ("schedules backfill digest --from now --to 2100-01-01", 2, "in the future"),
        ("schedules backfill digest --from 0001-01-01", 2, "in shorter parts"),
        ("schedules history digest --before never", 2, "--before: `never` isn't a time"),
        ("schedules next --within soon", 2, "--within: `soon` isn't a duration"),
        ("schedules next --within 99999999w", 2, "--within"),
        ("schedules create digest --every soon", 2, "--every: `soon` isn't a duration"),
        ("schedules create digest --every 0.5s", 2, "1 second or more"),
        ("schedules create digest --at never", 2, "--at: `never` isn't a time"),
        ("schedules create digest --every 1h --skip 2026-13-01", 2, "isn't a date"),
        ("schedules create digest --every 1h --jitter -1s", 2, "--jitter"),
        ("runs list --since ages", 2, "--since: `ages` isn't a time"),
        ("explain @daily --after never", 2, "--after: `never` isn't a time"),
        # other values
        ("schedules create digest", 2, "exactly one of `cron`, `every` and `at`"),
        ("schedules create digest --cron @daily --every 1h", 2, "exactly one"),
        ("schedules create digest --cron @dayly", 2, "@dayly"),
        ("schedules create digest --cron @daily --tz Europe/Pariss", 2, "`Europe/Paris`"),
        ("schedules create digest --every 1h --overlap skp", 2, "did you mean `skip`?"),
        ("schedules create digest --every 1h --catch-up al", 2, "did you mean `all`?"),
        ("schedules create digest --every 1h --input {", 2, "isn't JSON"),
        ("schedules create digest --every 1h --max-runs 0", 2, "max_runs"),
        ("schedules create by-hand --every 1h", 1, "registered without `schedule=`"),
        ("schedules list --status activ", 2, "did you mean `active`?"),
        ("schedules list --after nope", 2, "--after: `nope` given"),
        ("runs list --after nope", 3, "there is no run `nope`"),
        ("schedules create digest --every 1h --input NaN", 2, "isn't JSON"),
        ("schedules show \udcff", 2, "isn't text"),
        ("schedules list --limit 0", 2, "--limit"),
        ("schedules list --limit x", 2, "--limit"),
        ("schedules delete", 2, "name the schedules, or pass filters"),
        ("schedules delete digest --workflow digest", 2, "not both"),
        ("schedules delete digest", 2, "pass --yes"),
        ("schedules pause -", 2, "stdin is empty"),
        ("schedules pause", 2, "name the schedules, or pass filters"),
        ("runs retry", 2, "name the runs, or pass filters"),
        ("schedules resume digest/ada --workflow digest", 2, "not both"),
        ("schedules skip", 2, "missing argument"),
        ("schedules lst", 2, "did you mean 'list'"),
        ("runs list --status succeded", 2, "did you mean `succeeded`?"),
        ("runs watch digest --workflow digest", 2, "work only without RUN"),
        ("runs cancel -", 2, "stdin is empty"),
        ("top --interval 0", 2, "--interval"),
        ("completion tcsh", 2, "expected `bash`, `zsh` or `fish`"),
        ("init notes.txt", 2, "`notes.txt` is a file"),
        ("dev nope.py --no-ui", 2, "there is no file `nope.py`"),
        ("run nope.py --reload", 2, "there is no file `nope.py`"),
        ("run notes.txt --reload", 2, "isn't a Python file"),
        ("list", 2, "no such command"),
    ],
)
def test_invalid_values_get_one_sentence(
    command: Command, tmp_path: Path, ada: str, typed: str, code: int, expected: str
) -> None:
    (tmp_path / "notes.txt").touch()
    text = is_one_sentence(command(*typed.split()), code)
    assert expected.lower() in text.lower()


def test_several_schedules_of_a_workflow_need_a_key(
    command: Command, client: PolosClient, ada: str
) -> None:
    schedules.sync.create(client, "digest", cron="0 8 * * *", key="bob")
    text = is_one_sentence(command("schedules", "show", "digest"), 2)
    assert "`digest/KEY`" in text
    schedules.sync.create(client, "digest", cron="0 8 * * *")
    assert command("schedules", "show", "digest", "--json").objects[0]["key"] == "global"


def test_an_expression_that_the_shell_has_expanded(command: Command, tmp_path: Path) -> None:
    (tmp_path / "app.py").touch()
    names = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("."))
    typed = ("schedules", "create", "digest", "--cron", "*/5", *names * 4)
    text = is_one_sentence(command(*typed), 2)
    assert "quotes, such as '*/5 * * * *'" in text


def test_a_mistyped_id_is_answered_with_the_nearest(command: Command, ada: str) -> None:
    wrong = ada[:-2] + ada[-1] + ada[-2] if ada[-1] != ada[-2] else ada[:-1]
    assert f"did you mean `{ada}`?" in is_one_sentence(command("schedules", "show", wrong), 3)


@pytest.mark.files
@pytest.mark.skipif(os.name == "nt", reason="rights as POSIX has them")
@pytest.mark.skipif(os.name != "nt" and os.geteuid() == 0, reason="root may do all")
def test_a_file_that_may_not_be_written(command: Command, client: PolosClient, ada: str) -> None:
    client.close()
    Path("polos.db").chmod(0o400)
    is_one_sentence(command("schedules", "list"), 1)


@pytest.fixture
def locked(tmp_path: Path, client: PolosClient, ada: str) -> Iterator[None]:
    """Let another process hold the write lock of the file."""
    client.close()
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "polos.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.kill()


@pytest.mark.files
def test_a_file_that_another_process_holds_can_be_read(command: Command, locked: None) -> None:
    assert command("schedules", "show", "digest/ada").code == 0
    assert "digest/ada" in command("schedules", "list").out

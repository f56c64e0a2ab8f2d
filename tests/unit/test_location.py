"""The database of a path or URL, invalid ones, and the masking of passwords."""

from __future__ import annotations

import os
import re
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polos import PolosClient, Worker, schedules
from polos._core.location import _PARAMETERS, DatabaseLocation, locate
from polos._validate.formatting import may_hold_password
from polos.exceptions import InvalidArgumentError

# --- paths -----------------------------------------------------------------------------------

PATHS = [
    ("app.db", "app.db"),
    ("app", "app"),
    ("some where/the app.db", "some where/the app.db"),
    ("./app.db", "app.db"),
    ("données.db", "données.db"),
    ("sqlite:///app.db", "app.db"),
    ("sqlite:///sub/app.db", "sub/app.db"),
]


@pytest.mark.parametrize(("text", "expected"), PATHS)
def test_a_relative_path_is_absolute_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    client = PolosClient(text)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert client.database == str(tmp_path / expected)
    assert repr(client) == f"PolosClient({str(tmp_path / expected)!r}, project_id='default')"


@pytest.mark.parametrize("text", ["./a=b.db", "./a?b.db", "../x@y.db", "./~", "./$HOME.db"])
def test_a_path_that_begins_with_a_dot_may_have_any_name(tmp_path: Path, text: str) -> None:
    assert os.path.normpath(locate(text).name) == os.path.normpath(tmp_path / text)


@pytest.mark.parametrize("name", ["x/a=b;.db", "a?b.db", "~", "user@host.db", "'quoted'"])
def test_a_path_object_may_have_any_name(tmp_path: Path, name: str) -> None:
    assert locate(Path(name)).path == str(tmp_path / name)


def test_the_environment_is_resolved_from_the_start_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLOS_DATABASE_URL", "sqlite:///app.db")
    from_environment = PolosClient()
    monkeypatch.delenv("POLOS_DATABASE_URL")
    default = PolosClient()
    monkeypatch.chdir("/")
    assert from_environment.database == str(tmp_path / "app.db")
    assert default.database == str(tmp_path / "polos.db")


def test_symbolic_links_stay(tmp_path: Path) -> None:
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "inner")
    assert locate("link/app.db").path == str(tmp_path / "link" / "app.db")
    # For a link, `..` is the parent of its target.
    path = locate("link/../app.db").path
    assert path is not None
    assert os.path.realpath(path) == str(tmp_path / "real" / "app.db")


def test_files_that_a_url_names_are_absolute_from_the_start(tmp_path: Path) -> None:
    url = locate("postgresql://u@h/d?sslrootcert=my%20ca.pem&sslkey=/k&schema=s").url
    folder = str(tmp_path).replace(" ", "%20")
    assert url == f"postgresql://u@h/d?sslrootcert={folder}/my%20ca.pem&sslkey=/k&schema=s"
    system = "postgresql://u@h/d?sslrootcert=system"
    assert locate(system).url == system


def test_a_removed_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InvalidArgumentError, match="current folder doesn't exist"):
        locate("app.db")
    assert locate("/app.db").path == "/app.db"


# --- invalid paths ---------------------------------------------------------------------------

SERVER = "postgresql://user:password@host:5432/database"
REFUSED = [
    ("", "is empty"),
    ("  ", "is empty"),
    ("\n", "is empty"),
    ("polos.db\n", "white space"),
    (" polos.db", "white space"),
    ("po\nlos.db", "control character"),
    ("a\0b", "control character"),
    (":memory:", "polos.testing.clock"),
    ("sqlite:///:memory:", "polos.testing.clock"),
    ("sqlite:///", "polos.testing.clock"),
    ("file:x?mode=memory", "expected a path"),
    ("file:///srv/x.db", "expected a path"),
    ("FILE:x", "expected a path"),
    ("sqlite:///x.db?mode=ro", "no parameters"),
    ("sqlite:///x.db#x", "no parameters"),
    ("sqlite:///my%20app.db", "percent"),
    ("sqlite://x.db", "three slashes"),
    ("sqlite://host/x.db", "three slashes"),
    ("sqlite:x.db", "three slashes"),
    ("sqlite:/x.db", "three slashes"),
    ("SQLite:///x.db", "lower case"),
    ("sqlite+aiosqlite:///x.db", "driver"),
    ("host=db dbname=app password=secret", SERVER),
    ("host = db", SERVER),
    ("dbname=app", SERVER),
    ("postgresql:/u:pw@h/db", SERVER),
    ("postgresql:u:pw@h/db", SERVER),
    ("postgres+asyncpg://u:pw@h/db", SERVER),
    ("postgresql+psycopg2://u:pw@h/db", SERVER),
    ("PostgreSQL://u:pw@h/db", SERVER),
    ("pgsql://u:pw@h/db", SERVER),
    ("cockroachdb://u:pw@h/db", SERVER),
    ("mysql://u:pw@h/db", "`mysql://` isn't supported"),
    ("redis://h", "`redis://` isn't supported"),
    ("jdbc:postgresql://h/db", SERVER),
    ("ftp://x", "scheme isn't known"),
    ("//u@h/db", SERVER),
    ("u:pw@h/db", SERVER),
    ("h:5432/db", SERVER),
    ("user@h/db", "isn't clearly a path"),
    ("'polos.db'", "without quotes"),
    (f'"{SERVER}"', SERVER),
    ("~/polos.db", "expanduser"),
    ("$HOME/polos.db", "isn't clearly a path"),
    ("postgresql://u:p w@h/db", "no blanks"),
    ("postgresql://u:p%w@h/db", "%25"),
    ("postgresql://u:p@w@h/db", "%40"),
    ("postgresql://u:p/w@h/db", "%2F"),
    ("postgresql://u:p?w@h/db", "%3F"),
    ("postgresql://h:port/db", "host 1"),
    ("postgresql://a,h:65536/db", "host 2"),
    ("postgresql://h/db?sslmod=require", "did you mean `sslmode`"),
    ("postgresql://h/db?sslmode=yes", "`verify-full`"),
    ("postgresql://h/db?target_session_attrs=x", "`read-write`"),
    ("postgresql://h/db?connect_timeout=soon", "whole number"),
    ("postgresql://h/db?port=x", "`port`"),
    ("postgresql://h/db?require", "keyword=value"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_isnt_clearly_a_path_or_url_is_refused_with_the_form(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        PolosClient(text)
    message = str(caught.value)
    assert message.startswith("database: ")
    assert reason in message
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    "text", [":memory:", "file:x", SERVER, "sqlite:///x.db", "host=db", "mysql://h", "a\nb"]
)
def test_a_path_object_doesnt_hide_what_isnt_a_path(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^database: "):
        PolosClient(Path(text))


@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_an_empty_variable_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("POLOS_DATABASE_URL", value)
    with pytest.raises(InvalidArgumentError, match=r"\(POLOS_DATABASE_URL\): it is empty"):
        PolosClient()
    assert PolosClient("given.db").database.endswith("given.db")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (SERVER, "postgresql://user@host:5432/database"),
        ("postgres://h", "postgres://h"),
        ("postgresql://", "postgresql://"),
        ("postgresql:///db?host=/tmp&password=p%40w", "postgresql:///db"),
        (
            "postgresql://u:p@a:1,b,[::1]:2/d?target_session_attrs=any",
            "postgresql://u@a:1,b,[::1]:2/d",
        ),
        ("postgresql://u:p%40%2F%3F@%2Ftmp/d", "postgresql://u@%2Ftmp/d"),
        ("postgresql://u:a:b#c@h/d", "postgresql://u@h/d"),
    ],
)
def test_urls_of_servers_are_shown_without_password_and_parameters(url: str, name: str) -> None:
    location = locate(url)
    assert (location.url, location.name, location.path) == (url, name, None)


def test_a_change_of_folder_doesnt_change_which_database_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A forked process compares it with what its parent has open.
    for text in ["app.db", "postgresql://u:p@h/d?schema=a", "postgresql://u:p@h/d?schema=b"]:
        location = locate(text)
        before = location.identity
        with monkeypatch.context() as patch:
            patch.chdir("/")
            assert location.identity == before
    assert len({locate(f"postgresql://h/d?schema={name}").identity for name in "ab"}) == 2


def test_the_documented_parameters_of_a_url_are_known() -> None:
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
    section = page.partition("## Parameters of the URL")[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("| ")]
    # Parentheses contain values.
    text = re.sub(r"\([^)]*\)", "", " ".join(rows))
    names = {word.partition("=")[0] for word in re.findall(r"`([^`]+)`", text)}
    assert {"pgbouncer", "sslmode", "schema", "require_auth"} <= names
    assert names <= _PARAMETERS


# --- passwords -------------------------------------------------------------------------------

PIECES = [":", "/", "//", "@", "?", "&", "=", "%", "%4", "#", " ", "\n", "\0", ",", "[", "]", ";"]
PIECES += ["x", "é", "'", '"', "~", "$", "5432", "\\", "host=", "sslmode="]


@st.composite
def mutated_urls(draw: st.DrawFn) -> tuple[str, str]:
    """Generate a URL with mistakes, and the password in it.

    The `:` or `password=` before the password stays, since without it the password can't be
    distinguished from a name. Everything else is cut, doubled, replaced, or inserted into, even the
    password.
    """
    core = "Qz7Kw9Xv"
    behind = draw(st.sampled_from(["@", "", "%40", "/"]))
    # A character that ends the password can't be recognized as a part of it.
    reserved = [":", "/", "?", "#", "%"] if behind == "@" else ["", "!", "-"]
    password = draw(st.sampled_from(reserved)).join([core, core[::-1]])
    before, after = draw(
        st.sampled_from(
            [
                ("postgresql://ada:", f"{behind}db.example:5432/app?sslmode=require"),
                ("postgres://ada:", f"{behind}db1,db2/app"),
                ("postgresql+asyncpg://ada:", f"{behind}db/app"),
                ("mysql://ada:", f"{behind}db/app"),
                ("sqlite://ada:", f"{behind}db/app.db"),
                ("ada:", "@db/app"),
                ("postgresql://ada@db/app?password=", "&sslmode=require"),
                ("postgresql://db/app?sslmode=require&password=", ""),
                ("host=db user=ada password=", " dbname=app"),
            ]
        )
    )
    keeps = "password=" if before.endswith("password=") else ":"
    head = before.removesuffix(keeps)
    if behind == "@" or keeps == "password=" or "@" in after:
        head = mutated(draw, head)
    else:
        # Without a character after the password, only the scheme shows that it is a URL.
        scheme, slashes, user = head.partition("://")
        head = mutated(draw, scheme) + "xy" + slashes + mutated(draw, user)
    if "@" in after:
        # After the character that ends it, as above.
        place = after.index("@") + 1
        tail = after[:place] + mutated(draw, after[place:])
    else:
        tail = mutated(draw, after)
    return head + keeps + password + tail, password


def mutated(draw: st.DrawFn, text: str) -> str:
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        end = draw(st.integers(at, min(len(text), at + 3)))
        text = text[:at] + draw(st.sampled_from(["", *PIECES])) + text[end:]
    return draw(st.sampled_from([text, text, text.upper(), f" {text}"]))


def everything_shown(action: Any) -> str:
    """Return everything that may be shown or logged: result, message, exceptions, traceback."""
    try:
        made = action()
    except Exception as error:
        return f"{error!s} {error!r} {''.join(traceback.format_exception(error))}"
    if isinstance(made, DatabaseLocation):
        return f"{made!r} {made} {made.name}"
    return f"{made!r} {made.database if isinstance(made, PolosClient) else made}"


@settings(
    derandomize=True,
    max_examples=2_000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(mutated_urls())
def test_no_part_of_a_password_is_shown(given_: tuple[str, str]) -> None:
    text, password = given_
    secrets = {password, password[:8], password[-8:]}
    for what in (text, Path(text), os.fspath(Path(text))):
        shown = everything_shown(lambda what=what: PolosClient(what))
        if isinstance(shown, str) and "PolosClient('/" in shown:
            raise AssertionError(f"a URL was treated as a path: {text!r}")
        assert not [secret for secret in secrets if secret in shown], (text, shown)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(mutated_urls())
def test_a_url_in_place_of_a_client_shows_no_password(given_: tuple[str, str]) -> None:
    text, password = given_
    if not may_hold_password(text):
        return  # it doesn't look like a URL, and nothing else is known about the argument
    for action in (
        lambda: Worker(text),  # type: ignore[arg-type]
        lambda: schedules.sync.list(text),  # type: ignore[arg-type]
        lambda: PolosClient(durability=text),
    ):
        shown = everything_shown(action)
        assert password[:8] not in shown, (text, shown)
        assert password[-8:] not in shown, (text, shown)

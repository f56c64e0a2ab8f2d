"""Read tables of another tool's database. Every connection is read-only."""

from __future__ import annotations

import importlib
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any
from urllib.parse import quote, unquote

from polos._validate.formatting import shown
from polos.cli.ui.console import NOT_FOUND, TYPED_WRONG, fail

__all__ = ["Stored", "opened", "public_name"]


class Stored:
    """An open database."""

    def __init__(self, connection: Any, url: str, *, tables: str) -> None:
        self._connection = connection
        self.name = public_name(url)
        self.tables = {str(row[0]) for row in self._select(tables)}

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table that exists, by column."""
        quoted = table.replace('"', '""')
        return self._select(f'SELECT * FROM "{quoted}"', named=True)

    def need(self, table: str, tool: str) -> None:
        """End the command if there is no such table."""
        if table not in self.tables:
            there = ", ".join(f"`{name}`" for name in sorted(self.tables)[:10]) or "none"
            fail(
                f"{self.name} has no table `{table}`, so it is no database of {tool}; its tables: "
                f"{there}",
                NOT_FOUND,
            )

    def _select(self, sql: str, *, named: bool = False) -> list[Any]:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(sql)
            found = cursor.fetchall()
            names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in found] if named else found


def public_name(url: str) -> str:
    """Return the URL in backticks, without user and password."""
    return f"`{re.sub(r'//[^/]*@', '//', url)}`"


@contextmanager
def opened(url: str) -> Iterator[Stored]:
    """Open a SQLite file (a path, or SQLAlchemy's URL) or a PostgreSQL database."""
    scheme, colon, rest = url.partition("://")
    kind = scheme.partition("+")[0].lower() if colon else "sqlite"
    if kind == "sqlite":
        path = unquote(rest.partition("?")[0].removeprefix("/")) if colon else url
        with _sqlite(path) as connection:
            yield Stored(
                connection, url, tables="SELECT name FROM sqlite_master WHERE type = 'table'"
            )
    elif kind in ("postgresql", "postgres"):
        with _postgres(f"postgresql://{rest}") as connection:
            yield Stored(
                connection,
                url,
                tables="SELECT table_name FROM information_schema.tables "
                "WHERE table_schema = ANY (current_schemas(false))",
            )
    else:
        fail(
            f"{shown(kind + '://')} given, expected the path of a SQLite file, `sqlite:///PATH`, "
            f"or `postgresql://...`; copy the tables to a SQLite file to convert them",
            TYPED_WRONG,
        )


@contextmanager
def _sqlite(path: str) -> Iterator[sqlite3.Connection]:
    if not os.path.isfile(path):
        if os.path.exists(path):
            kind = "a folder" if os.path.isdir(path) else "no regular file"
            fail(f"{shown(path)} is {kind}; expected a SQLite file", TYPED_WRONG)
        fail(f"the database {shown(path)} doesn't exist", NOT_FOUND)
    if os.path.getsize(path) == 0:
        fail(f"the database {shown(path)} is empty", NOT_FOUND)
    location = f"file:{quote(os.path.abspath(path))}?mode=ro"
    try:
        with closing(sqlite3.connect(location, uri=True)) as connection:
            connection.text_factory = lambda data: data.decode(errors="replace")
            yield connection
    except sqlite3.DatabaseError as error:
        fail(f"{shown(path)} can't be read as a SQLite database: {error}")


@contextmanager
def _postgres(url: str) -> Iterator[Any]:
    driver = _driver()
    try:
        with closing(driver.connect(url)) as connection:
            with closing(connection.cursor()) as cursor:
                cursor.execute("SET TRANSACTION READ ONLY")
            yield connection
    except driver.Error as error:
        fail(f"{public_name(url)} can't be read: {str(error).strip()}")


def _driver() -> Any:
    """Return a driver for PostgreSQL that is installed."""
    for name in ("psycopg", "psycopg2"):
        with suppress(ImportError):
            return importlib.import_module(name)
    fail("a PostgreSQL URL needs a driver: pip install 'psycopg[binary]'")

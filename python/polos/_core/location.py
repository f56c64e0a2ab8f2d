"""Read the location of a database, a path or URL, once and strictly, and never show a password.

A value that is not clearly a path or a URL is rejected. If it were taken for a file name, every
process would get its own database. No message quotes the given value, because a string that cannot
be parsed may contain a password anywhere.
"""

from __future__ import annotations

import os
import re

from polos._validate.formatting import nearest, shown
from polos.exceptions import InvalidArgumentError

__all__ = ["DATABASE_VARIABLE", "DEFAULT_DATABASE", "DatabaseLocation", "locate"]

DATABASE_VARIABLE = "POLOS_DATABASE_URL"
DEFAULT_DATABASE = "polos.db"

_SERVER_FORM = "`postgresql://user:password@host:5432/database`"
_FILE_FORM = "`polos.db`, `/srv/polos.db`, or `sqlite:////srv/polos.db`"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Every keyword of libpq's connection URIs, `schema`, and those that poolers and other drivers add
# to their URLs. The core reports those that it does not support.
_PARAMETERS = _words(
    """
    application_name channel_binding client_encoding connect_timeout dbname
    fallback_application_name gssdelegation gssencmode gsslib host hostaddr keepalives
    keepalives_count keepalives_idle keepalives_interval keepalives_retries krbsrvname
    load_balance_hosts max_protocol_version min_protocol_version oauth_client_id
    oauth_client_secret oauth_issuer oauth_scope options passfile password port replication
    require_auth requirepeer requiressl scram_client_key scram_server_key schema service
    servicefile ssl ssl_max_protocol_version ssl_min_protocol_version sslcert sslcertmode
    sslcompression sslcrl sslcrldir sslkey sslkeylogfile sslmode sslnegotiation sslpassword
    sslrootcert sslsni target_session_attrs tcp_user_timeout user
    pgbouncer supa connection_limit pool_timeout socket_timeout statement_cache_size
    uselibpqcompat
    """
)
_CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": (
        *("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    ),
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "load_balance_hosts": ("disable", "random"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
}
_NUMBERS = _words(
    """
    connect_timeout keepalives keepalives_count keepalives_idle keepalives_interval
    keepalives_retries sslsni tcp_user_timeout
    """
)
# Files that are read again for each connection.
_FILES = _words("sslcert sslkey sslrootcert sslcrl sslcrldir passfile")

# Schemes that a message may name: fixed words, never a part of the input.
_OTHER_SERVERS = _words("mysql mariadb mssql oracle redis rediss mongodb mongodb+srv http https")

# Not compiled before the first use, because most programs open one database or none.
_SCHEME_ANYWHERE = r"\w\w[\w+.\-]*:/"
_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-_]+(?=:)"
_KEYWORD_VALUE = r"\s*[A-Za-z_]+\s*="
_BAD_ESCAPE = r"%(?![0-9A-Fa-f]{2})"
_HOST = r"(?:\[[0-9A-Fa-f:.%\w]+\]|[\w.%\-~]*)(?::([0-9]{0,5}))?"
_USER_AND_PASSWORD = r":[^@]*@"
_UNUSUAL = frozenset(":=@?*\"'<>|$`;&#{}")


class DatabaseLocation:
    """Either the absolute path of a file or the URL of a server."""

    __slots__ = ("name", "path", "url")

    def __init__(self, *, name: str, path: str | None = None, url: str | None = None) -> None:
        self.name = name
        """For people: an absolute path, or a URL without its password and parameters."""
        self.path = path
        self.url = url

    def __repr__(self) -> str:
        return f"DatabaseLocation({self.name!r})"

    @property
    def identity(self) -> str:
        """The same value for all spellings of one file. May contain a password: never show it."""
        return os.path.realpath(self.path) if self.path is not None else self.url or self.name

    def options(self) -> dict[str, str]:
        """The options with which the core opens it. May contain a password: never show them."""
        if self.path is not None:
            return {"path": self.path}
        return {} if self.url is None else {"url": self.url}


def locate(given: str | os.PathLike[str] | None, *, argument: str = "database") -> DatabaseLocation:
    """Read a path or URL; ``None`` means ``POLOS_DATABASE_URL``, else ``polos.db``.

    :param argument: the name of the argument in messages.

    A relative path is resolved here, once: a later change of the current folder has no effect.
    Raises :class:`InvalidArgumentError` for a value that is not clearly a path or a valid URL.
    """
    if given is None:
        if DATABASE_VARIABLE in os.environ:
            given, argument = os.environ[DATABASE_VARIABLE], f"database ({DATABASE_VARIABLE})"
        else:
            given = DEFAULT_DATABASE
    elif not isinstance(given, (str, os.PathLike)):
        raise InvalidArgumentError(
            f"{argument}: {shown(given)} given, expected a path or a URL such as {_FILE_FORM}, "
            f"or {_SERVER_FORM}"
        )
    try:
        return _parsed(given)
    except _RefusedError as error:
        reason = str(error)
    # Not chained: another exception's text could contain the input, and so a password.
    raise InvalidArgumentError(f"{argument}: {reason}")


class _RefusedError(Exception):
    """The reason why a location is rejected. Its text contains nothing of the given value."""


def _parsed(given: str | os.PathLike[str]) -> DatabaseLocation:
    text = os.fsdecode(given)
    if not text or text.isspace():
        raise _RefusedError(
            f"it is empty; expected a path or URL such as {_FILE_FORM}, or {_SERVER_FORM}. "
            f"Unset {DATABASE_VARIABLE} and give no argument to use `{DEFAULT_DATABASE}`"
        )
    if text != text.strip():
        raise _RefusedError(
            "there is white space before or after it, such as the line break at the end of a "
            "file that it was read from; use `.strip()`"
        )
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in text):
        raise _RefusedError("it contains a control character, such as a line break or NUL")
    if text.startswith(("postgresql://", "postgres://")):
        return _server(text)
    if text.startswith("sqlite:///"):
        return _file_of_url(text.removeprefix("sqlite:///"))
    _refuse_other_forms(text)
    if isinstance(given, str) and not _is_explicit(text):
        _refuse_unusual(text)
    return _file(text)


# --- files -----------------------------------------------------------------------------------


def _file(path: str) -> DatabaseLocation:
    """Return the file at ``path``. Symbolic links stay, because their target may change."""
    try:
        # After a symbolic link, `..` is not the folder that the text suggests.
        has_parents = ".." in path.split(os.sep)
        absolute = os.path.join(os.getcwd(), path) if has_parents else os.path.abspath(path)
    except OSError:
        absolute = None
    if absolute is None:
        raise _RefusedError(
            "the path is relative and the current folder doesn't exist any more; "
            "give an absolute path"
        )
    return DatabaseLocation(name=absolute, path=absolute)


def _file_of_url(path: str) -> DatabaseLocation:
    """Return ``relative.db`` or ``/absolute.db``, the part after ``sqlite:///``."""
    if "?" in path or "#" in path:
        raise _RefusedError(
            "a `sqlite:///` URL takes no parameters (polos opens its file for reading and "
            "writing, with settings of its own); expected `sqlite:///relative.db` or "
            "`sqlite:////absolute/path.db`"
        )
    if "%" in path and not re.search(_BAD_ESCAPE, path):
        raise _RefusedError(
            "a `sqlite:///` URL isn't percent-decoded; write the character itself, "
            "or give the path without `sqlite:///`"
        )
    if not path or path == ":memory:":
        raise _RefusedError(_NO_MEMORY)
    _refuse_other_forms(path)
    return _file(path)


def _is_explicit(path: str) -> bool:
    """Whether a value can only be a path."""
    start = (os.sep, f".{os.sep}", f"..{os.sep}", "./", "../")
    return path.startswith(start) or os.path.isabs(path)


_NO_MEMORY = (
    "a database in memory would be lost with its process; expected a file such as "
    "`polos.db`. For tests, `polos.testing.clock` keeps everything in memory"
)


def _refuse_other_forms(text: str) -> None:
    """Reject values that are not paths in other tools, however they are spelled."""
    lower = text.lower()
    scheme_match = re.match(_SCHEME, lower)
    scheme = scheme_match[0] if scheme_match else ""
    if ":memory:" in lower:
        raise _RefusedError(_NO_MEMORY)
    if scheme == "file":
        raise _RefusedError(
            f"URIs that begin with `file:` aren't supported; expected a path: {_FILE_FORM}"
        )
    if scheme.partition("+")[0] == "sqlite":
        raise _RefusedError(
            "a URL of a SQLite file is `sqlite:///relative.db` (three slashes) or "
            "`sqlite:////absolute/path.db` (four), in lower case, without the name of a driver"
        )
    if scheme.partition("+")[0] in ("postgres", "postgresql", "psql", "pgsql", "cockroachdb"):
        raise _RefusedError(
            f"a URL of a PostgreSQL database begins with `postgresql://`, in lower case, with two "
            f"slashes and without the name of a driver; expected {_SERVER_FORM}"
        )
    if scheme in _OTHER_SERVERS and "://" in text:
        raise _RefusedError(
            f"`{scheme}://` isn't supported: polos keeps its data in a SQLite file or in "
            f"PostgreSQL; expected {_FILE_FORM}, or {_SERVER_FORM}"
        )
    is_drive = os.name == "nt" and re.match(r"[A-Za-z]:[\\/]", text)
    is_without_scheme = text.startswith("//") and os.name != "nt"
    if re.search(_SCHEME_ANYWHERE, text) or (scheme and not is_drive) or is_without_scheme:
        raise _RefusedError(
            f"it looks like a URL whose scheme isn't known; expected {_FILE_FORM}, "
            f"or {_SERVER_FORM}"
        )
    if re.match(_KEYWORD_VALUE, text):
        raise _RefusedError(
            f"it looks like libpq's `keyword=value` form; write it as a URL: {_SERVER_FORM}, "
            f"with further keywords behind `?` (`?sslmode=require`)"
        )
    if re.search(_USER_AND_PASSWORD, text) or "password=" in lower:
        raise _RefusedError(
            f"it looks like a part of a URL with user and password; expected {_SERVER_FORM}"
        )


def _refuse_unusual(text: str) -> None:
    """Reject a relative path that is more likely to be something else."""
    if text[0] in "'\"" or text[-1] in "'\"":
        raise _RefusedError("the quotes are part of it; give it without quotes")
    if text.startswith("~"):
        raise _RefusedError(
            "`~` isn't expanded here; give an absolute path (`os.path.expanduser` makes one)"
        )
    if found := sorted(_UNUSUAL.intersection(text)):
        signs = " ".join(found)
        raise _RefusedError(
            f"it isn't clearly a path, because of the characters {signs}; expected {_FILE_FORM}, "
            f"or {_SERVER_FORM}. A file that has such a name is written with `./` before it"
        )


# --- servers ---------------------------------------------------------------------------------


def _server(url: str) -> DatabaseLocation:
    scheme, _, rest = url.partition("://")
    if any(sign.isspace() for sign in rest):
        raise _RefusedError(f"a URL has no blanks, `%20` stands for one; expected {_SERVER_FORM}")
    if re.search(_BAD_ESCAPE, rest):
        raise _RefusedError(
            "`%` in a URL begins an escape such as `%25`, which is `%` itself; two hexadecimal "
            "digits are expected behind it"
        )
    place, question, query = rest.partition("?")
    hosts_at = place.rfind("@") + 1
    user, _, password = place[: max(hosts_at - 1, 0)].partition(":")
    hosts, slash, database = place[hosts_at:].partition("/")
    if "@" in query or "@" in database or any(sign in "@/" for sign in user + password):
        raise _RefusedError(
            f"the sign `@` ends user and password, and may occur once; in a user name, a "
            f"password, or a parameter write `@` as %40, `/` as %2F, `?` as %3F; "
            f"expected {_SERVER_FORM}"
        )
    for number, host in enumerate(hosts.split(","), 1):
        found = re.fullmatch(_HOST, host)
        if found is None or (found[1] and not 0 < int(found[1]) < 65536):
            raise _RefusedError(
                f"host {number} isn't `name`, `name:port`, `1.2.3.4:port`, or `[::1]:port` with a "
                f"port from 1 to 65535; expected {_SERVER_FORM}, or several hosts as "
                f"`host1:5432,host2:5432`"
            )
    if not all(sign.isprintable() for sign in rest):
        raise _RefusedError("it contains a character that can't be printed; write it as %XX")
    checked = [_parameter(number, item) for number, item in enumerate(query.split("&"), 1) if item]
    name = f"{scheme}://{user}{'@' if hosts_at else ''}{hosts}{slash}{database}"
    whole = f"{scheme}://{place}{question}{'&'.join(checked)}"
    return DatabaseLocation(name=name, url=whole)


def _parameter(number: int, item: str) -> str:
    """Return a parameter of a server's URL, with file paths made absolute."""
    from urllib.parse import quote, unquote  # most programs open a file

    key, separator, value = item.partition("=")
    if not separator or key not in _PARAMETERS:
        hint = nearest(key, _PARAMETERS) if separator else "; expected `keyword=value`"
        raise _RefusedError(
            f"parameter {number} of the URL isn't known{hint}; parameters are those of libpq, and "
            f"`schema`; in a value write `&` as %26"
        )
    decoded = unquote(value)
    if key in _CHOICES and decoded not in _CHOICES[key]:
        raise _RefusedError(f"`{key}` is one of `{'`, `'.join(_CHOICES[key])}`")
    if key in _NUMBERS and re.fullmatch(r"-?\d{1,9}", decoded, re.ASCII) is None:
        raise _RefusedError(f"`{key}` is a whole number")
    if key == "port" and re.fullmatch(r"\d{1,5}(,\d{1,5})*", decoded, re.ASCII) is None:
        raise _RefusedError("`port` is a number from 1 to 65535, or one for each host")
    if key in _FILES and decoded and decoded != "system" and not os.path.isabs(decoded):
        return f"{key}={quote(_file(decoded).path or '')}"
    return item

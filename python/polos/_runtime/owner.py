"""Determine a worker's application, which owns the schedules that its decorators declare.

The name is derived from where the code is, not from how the process was started:
``/srv/billing/main.py`` is ``billing/main.py`` under ``python``, ``polos run``, uvicorn, and
gunicorn.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from polos._validate.schedule_options import IDENTIFIER_LENGTH_MAX

__all__ = ["CodeFile", "Owner", "calling_file", "owner_of"]

_UNKNOWN = "interactive"

# Names that older releases derived if a server or a shell had started the process.
_OLD_LAUNCHERS = ("uvicorn", "gunicorn", "hypercorn", "granian", "daphne", "fastapi", _UNKNOWN)

_INSTALLED = frozenset(("site-packages", "dist-packages"))


@dataclass(frozen=True)
class CodeFile:
    """A Python file of the application.

    ``module`` is the name under which it is imported; ``None`` for a file that is run or loaded by
    its path.
    """

    path: str
    module: str | None = None

    @property
    def identity(self) -> str:
        """The folder that imports start from, by its name alone, and the path below it."""
        path = os.path.abspath(self.path)
        root = os.path.dirname(path)
        if self.module is not None:
            depth = self.module.count(".") + (os.path.basename(path) == "__init__.py")
            for _ in range(depth):
                root = os.path.dirname(root)
        # A file of a package that was started by its path is the same file when it is imported.
        while os.path.exists(os.path.join(root, "__init__.py")) and root != os.path.dirname(root):
            root = os.path.dirname(root)
        below = os.path.relpath(path, root).replace(os.sep, "/")
        folder = os.path.basename(root)
        name = below if folder in _INSTALLED or not folder else f"{folder}/{below}"
        return _as_identifier(name)

    @property
    def old_names(self) -> tuple[str, ...]:
        """What releases without owners by file called it."""
        name = os.path.basename(self.path)
        return (name,) if self.module is None else (name, self.module)


@dataclass(frozen=True)
class Owner:
    """An application: its name, and other names under which its schedules may be stored."""

    name: str
    aliases: tuple[str, ...]
    """Other identities of this very code: what they declared earlier is this owner's."""

    former: tuple[str, ...]
    """Names that other programs may have had, too."""


def owner_of(
    app: str | None, main: CodeFile | None, creator: CodeFile | None, workflows: Iterable[Any]
) -> Owner:
    """Return the owner for a worker.

    :param app: the requested name.
    :param main: the application's own file: the argument of ``polos run``, or the caller of
        ``lifespan``.
    :param creator: the file that created the worker.
    :param workflows: the functions that the worker executes.
    """
    declaring = list(dict.fromkeys(found for fn in workflows if (found := _file_of(fn))))
    if main is not None:
        first: CodeFile | None = main
    elif len(declaring) == 1:
        first = declaring[0]
    else:
        first = creator or _main_file()
    files = dict.fromkeys(file for file in (first, creator, *declaring) if file is not None)
    identities = list(dict.fromkeys(file.identity for file in files))
    old = [_old_app_name(), *(name for file in files for name in file.old_names), *_OLD_LAUNCHERS]
    if app is None:
        name = identities[0] if identities else _UNKNOWN
        aliases = identities
    else:
        # The name was chosen to distinguish it from other programs with the same code.
        name, aliases, old = app, [], [*identities, *old]
    own = dict.fromkeys((name, *aliases))
    former = tuple(each for each in dict.fromkeys(map(_as_identifier, old)) if each not in own)
    return Owner(name, tuple(own)[1:], former)


def calling_file() -> CodeFile | None:
    """Return the file outside of this package whose code called into it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] not in ("polos", "pytest_polos"):
            return _file_of_module(name, frame.f_globals)
        frame = frame.f_back
    return None


def _file_of(fn: Any) -> CodeFile | None:
    while hasattr(fn, "__wrapped__"):
        fn = fn.__wrapped__
    name = getattr(fn, "__module__", None)
    module = sys.modules.get(name) if isinstance(name, str) else None
    return None if module is None else _file_of_module(str(name), vars(module))


def _main_file() -> CodeFile | None:
    main = sys.modules.get("__main__")
    return None if main is None else _file_of_module("__main__", vars(main))


def _file_of_module(name: str, names: dict[str, Any]) -> CodeFile | None:
    path = names.get("__file__")
    if not isinstance(path, str):
        return None
    spec = names.get("__spec__")
    if name == "__main__":
        # With `python -m`, the module's real name.
        name = getattr(spec, "name", None) or "__main__"
    if name == "__main__" or getattr(spec, "origin", None) is None:
        return CodeFile(os.path.abspath(path))
    return CodeFile(os.path.abspath(path), name)


def _as_identifier(name: str) -> str:
    """Convert ``name`` to a valid application name."""
    shown = "".join(c if c.isprintable() else "?" for c in name).strip()
    return shown[-IDENTIFIER_LENGTH_MAX:].strip() or _UNKNOWN


def _old_app_name() -> str:
    """Return the name that older releases gave this program: its file or module."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name not in ("__main__",):
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return os.path.basename(file) if file else _UNKNOWN

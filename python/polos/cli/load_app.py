"""Import the user's file or module that defines the workflows.

Errors in it are reported as errors of that code, with its own traceback and without frames of
polos.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import polos
from polos._runtime.owner import CodeFile
from polos._validate.formatting import nearest
from polos.cli.ui.console import TYPED_WRONG, fail, say
from polos.exceptions import PolosError

__all__ = ["check_target", "imported", "named"]

_GUARD = 'put it under `if __name__ == "__main__":`'


def imported(target: str) -> CodeFile | None:
    """Import the file or module, and return its file."""
    if _is_file(target):
        path = _existing(Path(target))
        with _theirs(target):
            _import_file(path)
        return CodeFile(str(path))
    if not all(part.isidentifier() for part in target.split(".")):
        suggestion = nearest(target, _files(Path()))
        fail(f"`{target}` is neither a file nor the name of a module{suggestion}", TYPED_WRONG)
    sys.path.insert(0, os.getcwd())
    with _theirs(target):
        module = importlib.import_module(target)
    file = getattr(module, "__file__", None)
    return CodeFile(file, target) if isinstance(file, str) else None


def named(reference: str, option: str) -> Any:
    """Return what ``MODULE:NAME`` refers to. The application has been imported before."""
    module_name, colon, name = reference.partition(":")
    if not colon or not all(part.isidentifier() for part in f"{module_name}.{name}".split(".")):
        fail(f"{option}: `{reference}` given, expected `module:name`", TYPED_WRONG)
    with _theirs(module_name):
        found: Any = importlib.import_module(module_name)
    for part in name.split("."):
        if not hasattr(found, part):
            known = [key for key in dir(found) if not key.startswith("_")]
            fail(f"{option}: `{module_name}` has no `{name}`{nearest(part, known)}", TYPED_WRONG)
        found = getattr(found, part)
    return found


def check_target(target: str) -> None:
    """Fail for a missing file, which a reload cannot fix, unlike an error in the code."""
    if _is_file(target):
        _existing(Path(target))


def _is_file(target: str) -> bool:
    return target.endswith(".py") or "/" in target or os.sep in target or os.path.isfile(target)


def _existing(path: Path) -> Path:
    if path.is_dir():
        fail(f"`{path}` is a folder; name a file in it, or a module: `package.module`", TYPED_WRONG)
    if not path.exists():
        if not path.parent.is_dir():
            fail(f"there is no folder `{path.parent}`", TYPED_WRONG)
        suggestion = nearest(path.name, _files(path.parent))
        fail(f"there is no file `{path}`{suggestion}", TYPED_WRONG)
    if path.suffix != ".py":
        fail(f"`{path}` isn't a Python file; expected one that ends in `.py`", TYPED_WRONG)
    if path.stem in sys.modules or path.stem in sys.stdlib_module_names:
        fail(
            f"`{path.name}` would hide the module `{path.stem}` from all who import it; "
            f"give the file another name",
            TYPED_WRONG,
        )
    return path.absolute()


def _import_file(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "the file ends in .py"
    assert spec.loader is not None, "the file ends in .py"
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    # As an import statement does: pickle, dataclasses, and the codec look up classes there.
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)


def _files(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.suffix == ".py")
    except OSError:
        return []


class _RunCalledError(BaseException):
    """The imported code called ``polos.run()``."""


@contextmanager
def _theirs(target: str) -> Iterator[None]:
    """End the command if the import raises, and report the error as one of the imported code."""

    def reject_run(*args: Any, **options: Any) -> NoReturn:
        raise _RunCalledError

    original, polos.run = polos.run, reject_run
    try:
        yield
    except _RunCalledError:
        fail(f"`{target}` calls `polos.run()` when it is imported; {_GUARD}")
    except SystemExit as ended:
        fail(
            f"`{target}` ends the program when it is imported (exit code {ended.code!r}); what "
            f"does so: {_GUARD}"
        )
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{target}.".startswith(f"{error.name}."):
            known = [name.removesuffix(".py") for name in _files(Path())]
            fail(f"no module `{error.name}` here or installed{nearest(target, known)}", TYPED_WRONG)
        _print_traceback(error)
        hint = ""
        if isinstance(error, ImportError) and "relative import" in str(error):
            hint = "; for a file of a package give the module's name, such as `package.module`"
        fail(f"`{target}` can't be imported{hint}")
    finally:
        polos.run = original


def _print_traceback(error: Exception) -> None:
    """Print the traceback with only the user's frames."""
    report = traceback.TracebackException.from_exception(error)
    ours = [importlib.__file__, "<frozen importlib", os.path.dirname(__file__) + os.sep]
    if isinstance(error, PolosError):  # raised on purpose: only the line that caused it matters
        ours.append(os.path.dirname(polos.__file__) + os.sep)
    frames = [frame for frame in report.stack if not frame.filename.startswith(tuple(ours))]
    report.stack = traceback.StackSummary.from_list(frames)
    say("".join(report.format()).rstrip())

"""Names for functions that another process can import, and the import there."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from polos._codec.class_refs import main_module_name
from polos._validate.signature import innermost
from polos.exceptions import InvalidArgumentError

__all__ = ["FunctionRef", "hints_of_arguments", "load", "reference"]

_ADVICE = (
    "a step with `process=True` executes in another process, which imports the function by its "
    "name; use a function that is defined at the top level of a module"
)


class FunctionRef:
    """Where another process finds a function.

    ``file`` is the file of its module, if it has one. ``is_script`` is whether that is the file
    that was started as the program, which is not imported by a name.
    """

    __slots__ = ("file", "is_script", "module", "name")

    def __init__(self, module: str, name: str, file: str | None, is_script: bool) -> None:
        self.module = module
        self.name = name
        self.file = file
        self.is_script = is_script

    def __repr__(self) -> str:
        return f"{self.module}.{self.name}"


def reference(step: str, fn: Callable[..., Any]) -> FunctionRef:
    """Return where another process finds ``fn``.

    Raises :class:`InvalidArgumentError` for a function that no other process can import.
    """
    module, name = _names(step, fn)
    holder = sys.modules.get(module)
    if holder is None:
        raise _refused(step, f"the module `{module}` of `{name}` is not imported here")
    if _resolved(holder, name) != fn:
        raise _refused(
            step, f"`{module}.{name}` is not the given function but another object, or missing"
        )
    file = getattr(holder, "__file__", None)
    file = os.path.abspath(file) if isinstance(file, str) and os.path.exists(file) else None
    if module in ("__main__", "__mp_main__"):
        return _in_main(step, holder, name, file)
    if getattr(holder, "__spec__", None) is None and file is None:
        raise _refused(
            step, f"the module `{module}` of `{name}` was made at run time and has no file"
        )
    return FunctionRef(module, name, file, False)


def _names(step: str, fn: Any) -> tuple[str, str]:
    if isinstance(fn, functools.partial):
        raise InvalidArgumentError(
            f"step `{step}`: a `functools.partial` was given with `process=True`, expected the "
            f"function itself; pass its arguments to `ctx.step.run`"
        )
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    if name is not None and name.rpartition(".")[2] == "<lambda>":
        raise _refused(step, "a lambda was given")
    if isinstance(name, str) and "<locals>" in name:
        raise _refused(step, f"`{name}` was given, a function inside another function")
    if isinstance(fn, types.MethodType) and not isinstance(fn.__self__, type):
        raise _refused(step, f"`{name}` was given, a method of an object")
    if not isinstance(module, str) or not isinstance(name, str):
        raise _refused(step, f"an object of type `{type(fn).__qualname__}` was given")
    return module, name


def _in_main(step: str, main: Any, name: str, file: str | None) -> FunctionRef:
    spec_name = getattr(getattr(main, "__spec__", None), "name", None)
    if isinstance(spec_name, str) and spec_name not in ("__main__", "__mp_main__"):
        return FunctionRef(spec_name, name, file, False)  # python -m package.module
    if file is None:
        raise _refused(
            step, f"`{name}` was given, which is defined in a shell, a notebook, or `python -c`"
        )
    return FunctionRef(main_module_name(), name, file, True)


def _refused(step: str, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"step `{step}`: {what}; {_ADVICE}")


def _resolved(holder: Any, name: str) -> Any:
    found = holder
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def hints_of_arguments(
    fn: Callable[..., Any], positional: int, keywords: list[str]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the annotations under which ``fn`` receives its arguments; ``None`` for unknown."""
    by_position: list[Any] = [None] * positional
    by_name: dict[str, Any] = dict.fromkeys(keywords)
    try:
        hints = typing.get_type_hints(innermost(fn), include_extras=True)
        parameters = list(inspect.signature(fn).parameters.values())
    except Exception:  # written in C, or annotated with names for type checkers only
        return by_position, by_name
    index = 0
    for parameter in parameters:
        hint = hints.get(parameter.name)
        if parameter.kind is parameter.VAR_POSITIONAL:
            by_position[index:] = [hint] * (positional - index)
        elif parameter.kind is parameter.VAR_KEYWORD:
            known = {other.name for other in parameters}
            by_name.update((name, hint) for name in keywords if name not in known)
        else:
            if parameter.kind is not parameter.KEYWORD_ONLY and index < positional:
                by_position[index] = hint
                index += 1
            if parameter.name in by_name:
                by_name[parameter.name] = hint
    return by_position, by_name


def load(ref: FunctionRef) -> Any:
    """Import the function in the process of a step. Raises what the import raises."""
    if ref.is_script:
        assert ref.file is not None
        module = sys.modules.get(ref.module)
        if module is None or getattr(module, "__file__", None) != ref.file:
            module = _load_file(ref.module, ref.file)
            sys.modules["__main__"] = module
    else:
        module = _load_module(ref)
    return _resolved(module, ref.name)


def _load_module(ref: FunctionRef) -> Any:
    try:
        module = importlib.import_module(ref.module)
    except ModuleNotFoundError as error:
        # Not on the path, such as a test module that pytest has imported by its file.
        if ref.file is None or not f"{ref.module}.".startswith(f"{error.name}."):
            raise
        return _load_file(ref.module, ref.file)
    file = getattr(module, "__file__", None)
    if ref.file is None or not isinstance(file, str) or os.path.samefile(file, ref.file):
        return module
    if "." in ref.module:
        raise ImportError(f"`{ref.module}` is `{ref.file}` in the worker, and here `{file}`")
    return _load_file(ref.module, ref.file)


def _load_file(name: str, file: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"`{file}` is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module

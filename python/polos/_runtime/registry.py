"""The workflows that this process has registered."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from polos._codec.class_refs import main_module_name
from polos._codec.known_classes import register_workflow
from polos._validate.signature import defining_frame, innermost, location
from polos.exceptions import DuplicateWorkflowError

if TYPE_CHECKING:
    from polos.workflow import Workflow

__all__ = ["RegisteredWorkflow", "isolated_registry", "register", "registered", "registry"]


class RegisteredWorkflow:
    """The base of :class:`Workflow`, for modules that :mod:`polos.workflow` imports."""


_lock = threading.Lock()
_workflows: dict[str, Workflow[Any, Any]] = {}


def registry() -> dict[str, Workflow[Any, Any]]:
    """Return all workflows that this process has registered, by id (a copy)."""
    with _lock:
        return dict(_workflows)


def registered(id: str) -> Workflow[Any, Any] | None:
    """Return the workflow that this process has registered under ``id``, or ``None``."""
    return _workflows.get(id)


@contextmanager
def isolated_registry(*, keep: bool = False) -> Iterator[None]:
    """Use an empty registry inside the block, for tests, and restore the old one afterward.

    With ``keep``, start with a copy of the current registry. This affects the whole process,
    including other threads.
    """
    global _workflows
    with _lock:
        outer, _workflows = _workflows, dict(_workflows) if keep else {}
    try:
        yield
    finally:
        with _lock:
            _workflows = outer


def register(made: Workflow[Any, Any]) -> Workflow[Any, Any]:
    with _lock:
        known = _workflows.get(made.id)
        if known is not None and not _is_same(known.fn, made.fn):
            raise DuplicateWorkflowError(
                f"workflow id `{made.id}` is used by two functions: "
                f"`{_name(known.fn)}` at {location(known.fn)} and "
                f"`{_name(made.fn)}` at {location(made.fn)}; change one of the ids"
            )
        _workflows[made.id] = made
    register_workflow(made)
    return made


def _name(fn: Any) -> str:
    return str(getattr(innermost(fn), "__qualname__", type(fn).__qualname__))


def _is_same(old: Any, new: Any) -> bool:
    """Whether ``new`` is the same function as ``old``, reloaded or imported under another name.

    Two functions with the same name in one file are not the same, because the first would be lost.
    Neither are two closures of one function.
    """
    if old is new:
        return True
    old_fn, new_fn = innermost(old), innermost(new)
    old_code, new_code = getattr(old_fn, "__code__", None), getattr(new_fn, "__code__", None)
    if old_code is None or new_code is None:
        return False
    if _name(old) != _name(new):
        return False
    if old_code.co_filename != new_code.co_filename and _module(old_fn) != _module(new_fn):
        return False
    if getattr(old_fn, "__globals__", None) is not getattr(new_fn, "__globals__", None):
        return True
    if old_code is new_code:
        return _holds(old) == _holds(new)
    return not _defined_together(old_code, new_code)


def _module(fn: Any) -> str:
    module = getattr(fn, "__module__", None) or ""
    return main_module_name() if module in ("__main__", "__mp_main__") else module


def _holds(fn: Any) -> list[int]:
    """Return what distinguishes handlers with the same code: ids of all captured objects."""
    if isinstance(fn, functools.partial):
        return [*_holds(fn.func), *map(id, fn.args), *map(id, fn.keywords.values())]
    if isinstance(fn, MethodType):
        return [id(fn.__self__), *_holds(fn.__func__)]
    if hasattr(fn, "__wrapped__"):
        return _holds(fn.__wrapped__)
    if not isinstance(fn, FunctionType):
        return [id(fn)]
    values = [*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values()]
    for cell in fn.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            values.append(cell)
    return [id(value) for value in values]


def _defined_together(old_code: Any, new_code: Any) -> bool:
    """Whether one module or function that is executing now contains both definitions."""
    frame = defining_frame(new_code)
    return frame is not None and any(code is old_code for code in frame.f_code.co_consts)

"""Decide which classes stored data may be rebuilt as.

A row can name any class, so a name alone is not enough. There are two levels:

- *Known* classes: the reader's annotation mentions them, the application has registered them, or
  this process has stored them itself. If such a class has changed since the value was stored, its
  validators decide whether they accept the old values.
- *Related* classes: subclasses of known ones, and classes that the code of a handler, or of the
  step function whose result is read, names. They are rebuilt only where that runs none of their
  code: with unchanged fields, and without ``__del__``.

What the annotations of a workflow mention is registered with the workflow. What those of a step
function mention is registered when its result is stored or read.
"""

from __future__ import annotations

import re
import threading
import types
import typing
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from polos._codec.class_refs import (
    annotated_classes,
    find_class,
    is_stored_by_us,
    mentioned_classes,
)
from polos._validate.formatting import is_class, shown
from polos._validate.signature import innermost
from polos.exceptions import InvalidArgumentError

__all__ = [
    "is_known",
    "is_related",
    "register_function",
    "register_types",
    "register_workflow",
    "undeclared_types",
]

# The modules of our own payload and of types that pydantic defines by their text alone.
_SAFE_MODULES = ("polos.payload", "pydantic.networks", "pydantic_core._pydantic_core")
# General base classes: being related to one of them does not make a class known.
_GENERAL = ("builtins", "typing", "typing_extensions", "abc", "enum", "collections", "pydantic")
_CODE_DEPTH_MAX = 5
_TYPE_NAMES = r'\{"\$polos":"(?:model|dataclass|namedtuple|enum|flag)","type":"([^"\\]{1,500})"'

_LOOKED_THROUGH_MAX = 20_000

_registered: WeakSet[type] = WeakSet()
_named_by_handlers: WeakSet[type] = WeakSet()
_functions: WeakSet[types.FunctionType] = WeakSet()
_pending: list[Callable[[], None]] = []
_lock = threading.Lock()


def register_types(*hints: Any) -> None:
    """Let polos rebuild stored values of these classes for any reader.

    :param hints: classes, or type hints such as ``list[Order] | Refund``. Every class that they
        mention is registered, with the classes of its fields.

    You need this only for classes that no annotation of a workflow, or of the step function that
    returned them, mentions. Raises :class:`InvalidArgumentError` for a hint without a class.
    """
    for hint in hints:
        if not mentioned_classes(hint):
            raise InvalidArgumentError(
                f"register_types: {shown(hint)} given, expected a class or a type hint that "
                f"mentions one"
            )
    with _lock:
        _pending.append(lambda: _registered.update(_classes_of(*hints)))


def register_workflow(workflow: Any) -> None:
    """Register the classes that the annotations of a workflow's handler mention."""

    def register() -> None:
        _registered.update(_classes_of(workflow.payload_type, workflow.result_type))
        _named_by_handlers.update(classes_named_by(workflow.fn))

    with _lock:
        _pending.append(register)


def register_function(fn: Callable[..., Any]) -> None:
    """Register the classes that the annotations of a step function mention."""
    function = innermost(fn)
    if type(function) is not types.FunctionType or function in _functions:
        return
    _functions.add(function)
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # names imported for type checkers only
        return
    _registered.update(_classes_of(*hints.values()))


def _classes_of(*hints: Any) -> set[type]:
    found: set[type] = set()
    for hint in hints:
        found |= set(mentioned_classes(hint).values())
    return found


def _catch_up() -> None:
    """Process registrations when they are first needed, because annotations may name what a module
    defines later.
    """
    while _pending:
        with _lock:
            register = _pending.pop(0) if _pending else None
        if register is not None:
            register()


def is_known(cls: type, annotation: Any) -> bool:
    """Whether ``cls`` may be rebuilt, including its validators."""
    return is_stored_by_us(cls) or _is_declared(cls, annotation)


def _is_declared(cls: type, annotation: Any) -> bool:
    if cls.__module__ in _SAFE_MODULES:
        return True
    if annotation is not None and cls in annotated_classes(annotation).values():
        return True
    _catch_up()
    return cls in _registered


def is_related(cls: type, annotation: Any, reader: Callable[..., Any] | None) -> bool:
    """Whether ``cls`` may be rebuilt where that runs none of its code."""
    bases = cls.__mro__
    if any("__del__" in vars(base) for base in bases):
        return False
    _catch_up()
    if cls in _named_by_handlers or (reader is not None and cls in classes_named_by(reader)):
        return True
    mentioned = annotated_classes(annotation).values() if annotation is not None else ()
    return any(
        (base in mentioned or base in _registered)
        and base.__module__.partition(".")[0] not in _GENERAL
        for base in bases[1:]
    )


def undeclared_types(data: str, annotation: Any, function: Callable[..., Any]) -> list[str]:
    """Return the types in stored data that another process would not rebuild."""
    register_function(function)
    tags = dict.fromkeys(re.findall(_TYPE_NAMES, data[:_LOOKED_THROUGH_MAX]))
    return [tag for tag in tags if not _is_rebuilt_elsewhere(tag, annotation, function)]


def _is_rebuilt_elsewhere(tag: str, annotation: Any, function: Callable[..., Any]) -> bool:
    cls = find_class(tag, annotation)
    origin = (getattr(cls, "__pydantic_generic_metadata__", None) or {}).get("origin")
    candidates = [candidate for candidate in (cls, origin) if isinstance(candidate, type)]
    return any(
        _is_declared(candidate, annotation) or is_related(candidate, annotation, function)
        for candidate in candidates
    )


def classes_named_by(fn: Callable[..., Any]) -> set[type]:
    """Return the classes that the code of a function names: globals, names in modules, captures.

    It only reads namespaces and runs no code.
    """
    function = innermost(fn)
    code, outer = getattr(function, "__code__", None), getattr(function, "__globals__", None)
    if not isinstance(code, types.CodeType) or type(outer) is not dict:
        return set()
    names = _names(code, 0)
    found = [outer.get(name) for name in names]
    for module in [item for item in found if type(item) is types.ModuleType]:
        namespace = object.__getattribute__(module, "__dict__")
        found += [namespace.get(name) for name in names]
    for cell in getattr(function, "__closure__", None) or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    return {item for item in found if is_class(item)}


def _names(code: types.CodeType, depth: int) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType) and depth < _CODE_DEPTH_MAX:
            names |= _names(constant, depth + 1)
    return names

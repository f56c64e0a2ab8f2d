"""Names for classes in stored data, and the lookup from a name to a class.

A class is named ``"module:Qual.Name"``. The lookup only searches: the classes that the reader's
annotation mentions, the modules that the application has already imported, and the classes that
this process has stored itself (the only way to find a class defined inside a function). A stored
name never makes polos import, call, or read attributes that could run code. ``_known_classes``
decides whether a class that was found may be rebuilt.

A class of a script is in ``__main__`` when the script is run, and in a module with the file's name
when it is imported. Both are named after the file, so each finds what the other stored.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

from polos._validate.formatting import is_class

__all__ = [
    "annotated_classes",
    "class_tag",
    "find_class",
    "is_stored_by_us",
    "main_module_name",
    "mentioned_classes",
    "remember",
]

_MAIN_NAMES = ("__main__", "__mp_main__")  # the latter in children of multiprocessing
_ANNOTATION_CLASSES_MAX = 2_000

_NO_CLASSES: dict[str, type] = {}
_seen: WeakValueDictionary[str, type] = WeakValueDictionary()
# Names of classes that this process has stored and that are found in a module. Names rather than
# classes, because they remain correct when the module is reloaded.
_stored_tags: set[str] = set()


def main_module_name() -> str:
    """Return the main script's module name if it were imported; ``__main__`` if unknown."""
    main = sys.modules.get("__main__")
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if isinstance(name, str) and name:  # python -m package.module
        return name
    file = getattr(main, "__file__", None)
    return _path_parts(file)[-1] if isinstance(file, str) and file else "__main__"


@lru_cache(maxsize=8)
def _path_parts(file: str) -> tuple[str, ...]:
    from pathlib import PurePath

    return PurePath(file).with_suffix("").parts


def class_tag(cls: type) -> str:
    """Return the name under which ``cls`` is stored."""
    return f"{_module_name(cls)}:{cls.__qualname__}"


def _module_name(cls: type) -> str:
    module = cls.__module__
    return main_module_name() if module in _MAIN_NAMES else module


def remember(cls: type) -> None:
    """Note that this process has stored ``cls``. :func:`find_class` then finds it as long as it is
    alive, even if no module contains it.
    """
    tag = class_tag(cls)
    if _find_in_modules(tag) is cls:
        _stored_tags.add(tag)
    else:
        _seen[tag] = cls
    origin = (getattr(cls, "__pydantic_generic_metadata__", None) or {}).get("origin")
    if is_class(origin):
        remember(origin)


def is_stored_by_us(cls: type) -> bool:
    """Whether this process has stored a value of ``cls``."""
    tag = class_tag(cls)
    return _seen.get(tag) is cls or (tag in _stored_tags and _find_in_modules(tag) is cls)


def find_class(tag: str, annotation: Any = None) -> type | None:
    """Return the class that was stored as ``tag``, or ``None`` if this process does not have it.

    ``annotation`` is the reader's type hint, if there is one. Classes that it mentions, at any
    depth, take precedence. A class that has moved to another module is found through it.
    """
    hinted = annotated_classes(annotation) if annotation is not None else _NO_CLASSES
    return (
        hinted.get(tag)
        or _find_in_modules(tag)
        or _seen.get(tag)
        or hinted.get(tag.partition(":")[2])
    )


def _find_in_modules(tag: str) -> type | None:
    module_name, _, qualname = tag.partition(":")
    for module in _modules(module_name):
        found = _look_up(module, qualname)
        # The name may refer to another class by now, one that was imported under it.
        if (
            found is not None
            and found.__qualname__ == qualname
            and _is_named(found.__module__, module_name)
        ):
            return found
    return None


def _modules(name: str) -> Iterator[Any]:
    """Return imported modules that may now contain a class stored under module ``name``."""
    main = sys.modules.get("__main__")
    # The running script first: its classes are the ones that its own handlers use.
    if main is not None and (name == main_module_name() or _is_file_of(main, name)):
        yield main
    if name in _MAIN_NAMES:
        return
    if name in sys.modules:
        yield sys.modules[name]
        return
    # `python pkg/app.py` stores the module as `app`, and `polos run pkg.app` as `pkg.app`, ...
    ending = "." + name
    alike = [module for other, module in list(sys.modules.items()) if other.endswith(ending)]
    if len(alike) == 1:
        yield alike[0]
    # ... and the reverse.
    short = sys.modules.get(name.rpartition(".")[2])
    if short is not None and _is_file_of(short, name):
        yield short


def _is_file_of(module: Any, name: str) -> bool:
    """Whether a module's file is where a module called ``name`` would be."""
    try:
        file = object.__getattribute__(module, "__dict__").get("__file__")
    except AttributeError:
        return False
    parts = tuple(name.split("."))
    return isinstance(file, str) and _path_parts(file)[-len(parts) :] == parts


def _is_named(module: str, name: str) -> bool:
    if module in _MAIN_NAMES or module == name:
        return True
    return module.endswith("." + name) or name.endswith("." + module)


def _look_up(module: Any, qualname: str) -> type | None:
    found = module
    for part in qualname.split("."):
        try:
            # Bypass `__getattr__`, properties, and metaclasses: no application code may run here.
            names = (
                type.__getattribute__(found, "__dict__")
                if isinstance(found, type)
                else object.__getattribute__(found, "__dict__")
            )
        except AttributeError:
            return None
        found = names.get(part)
        if found is None:
            return None
    return found if isinstance(found, type) else None


@lru_cache(maxsize=256)
def _annotated_classes_cached(annotation: Any) -> dict[str, type]:
    return mentioned_classes(annotation)


def annotated_classes(annotation: Any) -> dict[str, type]:
    """Return the classes that a type hint mentions at any depth, by tag, and by qualified name for
    a class that has moved.
    """
    try:
        return _annotated_classes_cached(annotation)
    except TypeError:  # unhashable, such as Annotated[int, []]
        return mentioned_classes(annotation)


def mentioned_classes(annotation: Any) -> dict[str, type]:
    """Return what :func:`annotated_classes` returns, as far as names can be resolved by now."""
    by_name: dict[str, type] = {}
    seen: set[int] = set()
    keep: list[Any] = []  # keeps the objects alive whose ids are in `seen`
    todo = [annotation]
    while todo and len(seen) < _ANNOTATION_CLASSES_MAX:
        hint = todo.pop()
        if id(hint) in seen:
            continue
        seen.add(id(hint))
        keep.append(hint)
        # Generic aliases, unions, Annotated, Literal; NewType; `type X = ...`.
        todo.extend(typing.get_args(hint))
        todo.append(typing.get_origin(hint))
        if is_class(hint):
            if hint.__module__ not in ("builtins", "typing", "types"):
                by_name.setdefault(hint.__qualname__, hint)
                by_name.setdefault(class_tag(hint), hint)
                todo.extend(_field_hints(hint))
                metadata = hint.__dict__.get("__pydantic_generic_metadata__") or {}
                todo.extend((metadata.get("origin"), *metadata.get("args", ())))
        elif hint is not None:
            todo.append(getattr(hint, "__supertype__", None))
            todo.append(getattr(hint, "__value__", None))
    return by_name


def _field_hints(cls: type) -> list[Any]:
    import pydantic  # the access to a name in it loads most of pydantic

    if pydantic.BaseModel in cls.__mro__:
        assert issubclass(cls, pydantic.BaseModel)
        if cls.__pydantic_complete__:
            return [field.annotation for field in cls.model_fields.values()]
    elif not (dataclasses.is_dataclass(cls) or "__annotations__" in cls.__dict__):
        return []
    try:
        return list(typing.get_type_hints(cls, include_extras=True).values())
    except Exception:  # unresolvable names; the hints are optional
        return []

"""Data given by hand, made into what a handler's annotation asks for."""

from __future__ import annotations

import dataclasses
import typing
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation
from pydantic_core import to_json

from polos._decoding import validation_text
from polos._describe import is_class, shown, type_name
from polos.exceptions import InvalidArgumentError

__all__ = ["payload_for"]


def payload_for(annotation: Any, data: Any, *, name: str = "payload") -> Any:
    """``data`` as the type that ``annotation`` stands for.

    ``data`` may be that already, JSON data that describes it (a ``dict`` for a model, ISO text
    for a datetime), or another object with the same fields: a :class:`SchedulePayload` becomes
    an application's own model of it, or a ``dict``. Without an annotation (``None``, ``Any``,
    or a text that couldn't be resolved) ``data`` is given back as it is.

    Raises :class:`InvalidArgumentError`, which names the fields that don't fit and why; the
    values themselves are left out, since they may be secret.
    """
    if annotation is None or annotation is Any or isinstance(annotation, str):
        return data
    if is_class(annotation) and type(data) is annotation:
        return data
    adapter = _adapter(annotation)
    if adapter is None:
        return _instance(annotation, data, name)
    if isinstance(data, BaseModel) and not _takes_objects(annotation):
        data = {field: getattr(data, field) for field in type(data).model_fields}
    try:
        return adapter.validate_python(data, from_attributes=_is_object(data))
    except ValidationError as error:
        problem = error
    try:
        # What only JSON may say, such as text for a datetime in a strict model.
        return adapter.validate_json(to_json(data))
    except ValueError:
        pass  # the first answer is about what was given
    raise InvalidArgumentError(
        f"{name}: not a valid `{_hint_name(annotation)}`: {validation_text(problem)}"
    )


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        return _cached_adapter(annotation)
    except TypeError:  # unhashable, such as Annotated[int, []]
        return _new_adapter(annotation)


def _new_adapter(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation):
        return None


# Bounded, since an application may make types as it goes.
_cached_adapter = lru_cache(maxsize=512)(_new_adapter)


def _is_object(data: Any) -> bool:
    return isinstance(data, BaseModel) or (
        dataclasses.is_dataclass(data) and not isinstance(data, type)
    )


def _takes_objects(annotation: Any) -> bool:
    """Whether validation reads the attributes of a foreign object by itself (models do)."""
    hints = [annotation, *typing.get_args(annotation)]
    return any(is_class(hint) and issubclass(hint, BaseModel) for hint in hints)


def _instance(annotation: Any, data: Any, name: str) -> Any:
    """For classes that pydantic knows nothing about: the object itself, or nothing."""
    cls = typing.get_origin(annotation) or annotation
    if not is_class(cls) or isinstance(data, cls):
        return data
    raise InvalidArgumentError(
        f"{name}: {shown(type_name(type(data)))} given, and `{_hint_name(annotation)}` can't be "
        f"made from it; annotate the handler's payload with a pydantic model, a dataclass, a "
        f"TypedDict or a JSON type"
    )


def _hint_name(annotation: Any) -> str:
    return type_name(annotation) if is_class(annotation) else str(annotation)

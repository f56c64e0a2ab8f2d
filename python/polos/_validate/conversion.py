"""Convert data from callers to the type in a handler's annotation."""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import lru_cache
from typing import Any

import pydantic  # the module only: the first access to a name in it loads most of pydantic
import typing_extensions
from pydantic_core import to_json

from polos._validate.formatting import shown, type_name
from polos.exceptions import InvalidArgumentError

__all__ = ["payload_for"]

_LITERALS: tuple[Any, ...] = (typing.Literal, typing_extensions.Literal)
_REQUIREMENTS: tuple[Any, ...] = (typing_extensions.Required, typing_extensions.NotRequired)


def payload_for(annotation: Any, data: Any, *, name: str = "payload") -> Any:
    """Convert ``data`` to the type that ``annotation`` names.

    ``data`` can be an instance already, JSON data that describes one (a ``dict`` for a model, ISO
    text for a datetime), or another object with the same fields: a :class:`SchedulePayload` becomes
    an application's own model of it, or a ``dict``. If the annotation says nothing (``Any``,
    ``object``, ``None``, a text that cannot be resolved), ``data`` is returned unchanged.

    Raises :class:`InvalidArgumentError` with the fields that do not fit and the reasons. It leaves
    out the values, because they may be secret.
    """
    if annotation in (None, Any, object) or isinstance(annotation, str):
        return data
    if isinstance(annotation, type) and type(data) is annotation:
        return data
    adapter = _adapter(annotation)
    if adapter is None:
        return _instance(annotation, data, name)
    if isinstance(data, pydantic.BaseModel) and not _takes_objects(annotation):
        data = {field: getattr(data, field) for field in type(data).model_fields}
    try:
        return adapter.validate_python(data, from_attributes=_is_object(data))
    except pydantic.ValidationError as error:
        problem = error
    try:
        # Values allowed only in JSON, such as text for a datetime in a strict model.
        return adapter.validate_json(to_json(data))
    except ValueError:
        pass  # report the first error, which is about the original value
    from polos._codec.decoder import validation_text

    raise InvalidArgumentError(
        f"{name}: not a valid `{_hint_name(annotation)}`: {validation_text(problem)}"
    )


def _adapter(annotation: Any) -> pydantic.TypeAdapter[Any] | None:
    try:
        return _cached_adapter(annotation)
    except TypeError:  # unhashable, such as Annotated[int, []]
        return _new_adapter(annotation)


def _new_adapter(annotation: Any) -> pydantic.TypeAdapter[Any] | None:
    try:
        return pydantic.TypeAdapter(annotation)
    except (pydantic.PydanticSchemaGenerationError, pydantic.PydanticUndefinedAnnotation):
        return None
    except pydantic.PydanticUserError as error:
        if error.code != "typed-dict-version":
            return None
    try:
        return pydantic.TypeAdapter(_with_readable_typed_dicts(annotation))
    except (
        pydantic.PydanticUserError,
        pydantic.PydanticUndefinedAnnotation,
        RecursionError,
        TypeError,
        NameError,
    ):
        return None


def _with_readable_typed_dicts(annotation: Any) -> Any:
    """Replace each ``typing.TypedDict`` in ``annotation`` by one of ``typing_extensions``, the only
    kind that pydantic supports before Python 3.12.
    """
    if typing.is_typeddict(annotation):
        hints = typing_extensions.get_type_hints(annotation, include_extras=True)
        fields = {}
        for name, hint in hints.items():
            is_required = name in annotation.__required_keys__
            marked = typing_extensions.Required if is_required else typing_extensions.NotRequired
            marker: Any = typing_extensions.get_origin(hint)
            if marker in _REQUIREMENTS:
                (hint,) = typing.get_args(hint)
            fields[name] = marked[_with_readable_typed_dicts(hint)]
        return typing_extensions.TypedDict(annotation.__name__, fields)  # type: ignore[operator]
    origin: Any = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if not arguments or any(origin is literal for literal in _LITERALS):
        return annotation
    made = tuple(
        item if item is Ellipsis else _with_readable_typed_dicts(item) for item in arguments
    )
    if made == arguments:
        return annotation
    is_union = origin is typing.Union or isinstance(annotation, types.UnionType)
    return typing.Union[made] if is_union else origin[made]  # noqa: UP007


# Bounded, because an application may create types dynamically.
_cached_adapter = lru_cache(maxsize=512)(_new_adapter)


def _is_object(data: Any) -> bool:
    return isinstance(data, pydantic.BaseModel) or (
        dataclasses.is_dataclass(data) and not isinstance(data, type)
    )


def _takes_objects(annotation: Any) -> bool:
    """Whether validation reads attributes of objects of other classes, as models can."""
    hints = [annotation, *typing.get_args(annotation)]
    return any(_is_class(hint) and issubclass(hint, pydantic.BaseModel) for hint in hints)


def _instance(annotation: Any, data: Any, name: str) -> Any:
    """Return a validator for a class without a pydantic schema; it accepts only instances."""
    cls = dict if typing.is_typeddict(annotation) else typing.get_origin(annotation) or annotation
    if not isinstance(cls, type) or isinstance(data, cls):
        return data
    raise InvalidArgumentError(
        f"{name}: {shown(type_name(type(data)))} given, and `{_hint_name(annotation)}` can't be "
        f"made from it; annotate the handler's payload with a pydantic model, a dataclass, a "
        f"TypedDict or a JSON type"
    )


def _hint_name(annotation: Any) -> str:
    return type_name(annotation) if _is_class(annotation) else str(annotation)


def _is_class(annotation: Any) -> typing.TypeGuard[type]:
    """Whether it is a class. On Python 3.10 `list[int]` too is an instance of `type`."""
    return isinstance(annotation, type) and typing.get_origin(annotation) is None

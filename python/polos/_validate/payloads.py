"""Decide by annotations what the handler of a run gets, and whether a given payload is that.

A scheduled run gets its slot (a :class:`SchedulePayload`) or, if its handler is annotated with a
type of its own, the schedule's ``input``. Whatever an annotation does not rule out is allowed.
"""

from __future__ import annotations

import dataclasses
import typing
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any

from polos._validate.formatting import is_class, shown, type_name
from polos.exceptions import InvalidArgumentError, InvalidScheduleError

if TYPE_CHECKING:
    from polos.workflow import Workflow

__all__ = ["check_event", "check_given", "scheduled_input", "takes_none", "takes_slot"]

_ALIASES = ("__supertype__", "__value__")  # NewType; `type X = ...`


def takes_slot(hint: Any) -> bool:
    """Whether a scheduled run passes its slot, rather than the schedule's input, as the payload.

    ``hint`` is the payload's annotation; ``None`` if it is missing or cannot be resolved.
    """
    from polos.payload import SchedulePayload

    return any(
        _says_nothing(part) or (is_class(part) and issubclass(part, SchedulePayload))
        for part in _parts(hint)
    )


def scheduled_input(workflow: Workflow[Any, Any], hint: Any, value: Any) -> Any:
    """Return a schedule's input as the payload that the handler takes, annotated with ``hint``.

    Raises :class:`InvalidScheduleError` for an input that does not fit, or a missing one that the
    handler needs.
    """
    if takes_slot(hint):
        return value
    if value is not None:
        from polos._validate.conversion import payload_for  # loads pydantic

        name = f"input of a schedule of workflow `{workflow.id}`"
        try:
            return payload_for(hint, value, name=name)
        except InvalidArgumentError as error:
            raise InvalidScheduleError(str(error)) from None
    if workflow.payload_has_default or takes_none(hint):
        return None
    raise InvalidScheduleError(
        f"workflow `{workflow.id}` takes {_named(hint)}, which its scheduled runs get from the "
        f"schedule's input, and none was given; pass `input={_shape(hint)}`, or annotate the "
        f"payload with `SchedulePayload` to get the slot"
    )


def check_given(workflow: Workflow[Any, Any], payload: Any) -> None:
    """Raise :class:`InvalidArgumentError` for a payload that the handler does not take, and for a
    missing one that it needs.
    """
    if payload is not None:
        if workflow.arity < 2:
            raise InvalidArgumentError(
                f"workflow `{workflow.id}` takes no payload, and one of type "
                f"{shown(type_name(type(payload)))} was given; add a parameter to its handler "
                f"(`ctx, payload`), or leave the payload out"
            )
        return
    if not workflow.needs_payload:
        return
    hint = workflow.payload_type
    advice = f"pass one: `invoke(client, {_shape(hint)})`"
    if workflow.takes_slot:
        advice = "its schedules provide one: `schedules.trigger(client, id)` starts a run of them"
    raise InvalidArgumentError(
        f"workflow `{workflow.id}` takes a payload, {_named(hint)}, and none was given; {advice}; "
        f"or annotate it with `| None`"
    )


def check_event(name: str, workflow: Workflow[Any, Any], hint: Any, event: type) -> None:
    """Raise :class:`InvalidArgumentError` for a workflow that cannot be given an ``event``, because
    of its payload's annotation ``hint``.

    An application's own class fits if the event has all fields that it requires.

    :param name: what to call it in the error.
    """
    fields = {field.name for field in dataclasses.fields(event)}
    lacks: set[str] = set()
    for part in _parts(hint):
        if _says_nothing(part) or not is_class(part) or issubclass(event, part):
            return
        required = _required_fields(part)
        if required is not None and required <= fields:
            return
        lacks |= (required or set()) - fields
    needs = ", ".join(f"`{field}`" for field in sorted(lacks))
    raise InvalidArgumentError(
        f"{name}: workflow `{workflow.id}` given, which would be passed a `{event.__name__}`; its "
        f"payload is {_named(hint)}{f', which requires {needs} too' if lacks else ''}. Annotate "
        f"the payload with `polos.{event.__name__}`"
    )


def _required_fields(part: type) -> set[str] | None:
    """Return the fields without which there is no such value; ``None`` if it is not made of fields.

    Fields with aliases are left out.
    """
    if issubclass(part, dict):
        return set(getattr(part, "__required_keys__", ()))
    if dataclasses.is_dataclass(part):
        missing = dataclasses.MISSING
        return {
            field.name
            for field in dataclasses.fields(part)
            if field.init and field.default is missing and field.default_factory is missing
        }
    found = getattr(part, "model_fields", None)
    if found is None:
        return None
    return {
        field
        for field, info in found.items()
        if info.is_required() and info.alias is None and info.validation_alias is None
    }


def _says_nothing(part: Any) -> bool:
    """Whether an annotation leaves open what the value is."""
    return (
        part is None
        or part is Any
        or part is object
        or isinstance(part, (str, typing.TypeVar, typing.ForwardRef))
    )


def _parts(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the hint itself, without aliases and annotations."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _parts(typing.get_args(hint)[0])
    if origin in (typing.Union, UnionType):
        return tuple(part for member in typing.get_args(hint) for part in _parts(member))
    for name in _ALIASES:
        if origin is None and not is_class(hint) and hasattr(hint, name):
            return _parts(getattr(hint, name))
    return (hint,)


def takes_none(hint: Any) -> bool:
    """Whether the hint accepts ``None``, or may accept it."""
    return any(
        _says_nothing(part)
        or part is NoneType
        or (typing.get_origin(part) is typing.Literal and None in typing.get_args(part))
        for part in _parts(hint)
    )


def _named(hint: Any) -> str:
    return f"`{type_name(hint)}`" if is_class(hint) else f"`{hint}`"


def _shape(hint: Any) -> str:
    return f"{hint.__name__}(...)" if is_class(hint) else "payload"

"""Decide by annotations which workflows can be scheduled, and which payloads they take.

A scheduled run gets a :class:`SchedulePayload`. A handler that needs something else would fail at
every slot, so it is rejected when it is scheduled. Whatever an annotation does not rule out is
allowed.
"""

from __future__ import annotations

import dataclasses
import typing
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any

import pydantic  # the module only: the first access to a name in it loads most of pydantic

from polos._validate.formatting import is_class, shown, type_name
from polos.exceptions import InvalidArgumentError, WorkflowNotSchedulableError

if TYPE_CHECKING:
    from polos.workflow import Workflow

__all__ = ["check_given", "check_schedulable"]

_ALIASES = ("__supertype__", "__value__")  # NewType; `type X = ...`


def check_schedulable(workflow: Workflow[Any, Any], hint: Any) -> None:
    """Raise :class:`WorkflowNotSchedulableError` if the handler cannot take a schedule's payload.

    ``hint`` is the payload's annotation; ``None`` if it is missing or cannot be resolved.
    """
    if workflow.arity < 2:
        return
    if hint is None:
        return
    missing = _not_in_schedule_payload(hint)
    if missing is None:
        return
    raise WorkflowNotSchedulableError(
        f"workflow `{workflow.id}` can't be scheduled: its handler takes {_named(hint)}{missing}, "
        f"but a scheduled run gets a `SchedulePayload`; annotate `payload: SchedulePayload` "
        f"and take your data from `ctx.input` (`input=...` of the schedule), or schedule a "
        f"workflow that invokes this one"
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
    hint = workflow.payload_type
    if workflow.arity < 2 or workflow.payload_has_default or _takes_none(hint):
        return
    advice = f"pass one: `invoke(client, {_shape(hint)})`"
    if workflow.takes_schedule_payload:
        advice = "its schedules provide one: `schedules.trigger(client, id)` starts a run of them"
    raise InvalidArgumentError(
        f"workflow `{workflow.id}` takes a payload, {_named(hint)}, and none was given; {advice}; "
        f"or annotate it with `| None`"
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


def _takes_none(hint: Any) -> bool:
    """Whether the hint accepts ``None``, or may accept it."""
    return any(
        part is None or part is NoneType or part is Any or part is object
        or (typing.get_origin(part) is typing.Literal and None in typing.get_args(part))
        or isinstance(part, (str, typing.TypeVar, typing.ForwardRef))
        for part in _parts(hint)
    )  # fmt: skip


def _not_in_schedule_payload(hint: Any) -> str | None:
    """Return why no member of a hint takes a :class:`SchedulePayload`; ``None`` if one does."""
    reason = None
    for part in _parts(hint):
        if part is NoneType:
            continue
        reason = _lacking(part)
        if reason is None:
            return None
    return reason


def _lacking(hint: Any) -> str | None:
    from polos.payload import SchedulePayload

    cls = typing.get_origin(hint) or hint
    if cls is typing.Literal:
        return ""
    if not is_class(cls):
        return None
    if typing.is_typeddict(cls):
        required = set(getattr(cls, "__required_keys__", ()))
    elif pydantic.BaseModel in cls.__mro__:
        if issubclass(cls, pydantic.RootModel):
            return None
        required = _required_fields(cls)
    elif dataclasses.is_dataclass(cls):
        required = {
            field.name
            for field in dataclasses.fields(cls)
            if field.init
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        }
    elif cls.__module__ == "builtins":
        # `dict` and `object` take it; numbers, text and lists don't.
        return None if cls in (dict, object) else ""
    else:
        return None  # protocols, mappings, and classes for which pydantic may have a schema
    missing = sorted(required - set(SchedulePayload.model_fields))
    return f", which needs `{missing[0]}`" if missing else None


def _required_fields(cls: Any) -> set[str]:
    required = set()
    for name, field in cls.model_fields.items():
        if field.is_required():
            alias = field.validation_alias
            required.add(alias if isinstance(alias, str) and not _takes_names(cls) else name)
    return required


def _takes_names(cls: Any) -> bool:
    config = cls.model_config
    return bool(config.get("populate_by_name") or config.get("validate_by_name"))


def _named(hint: Any) -> str:
    return f"`{type_name(hint)}`" if is_class(hint) else f"`{hint}`"


def _shape(hint: Any) -> str:
    return f"{hint.__name__}(...)" if is_class(hint) else "payload"

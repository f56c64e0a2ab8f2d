"""Inspect a handler's signature before it is called."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from polos._validate.formatting import shown
from polos.exceptions import InvalidArgumentError

__all__ = ["Handler", "defining_frame", "innermost", "location"]

_ALLOWED = "a handler takes `()`, `(ctx)` or `(ctx, payload)`"


class Handler:
    """A handler's signature: how many arguments it takes, whether it is async, its annotations.

    Raises :class:`InvalidArgumentError` for what cannot be a handler.
    """

    def __init__(self, fn: Callable[..., Any], workflow_id: str) -> None:
        self._fn: Any = fn
        self._what = f"workflow `{workflow_id}`"
        self._check_kind()
        self._signature = _signature(fn)
        self._local_names = self._names_around()
        self.arity = self._positional_arity()
        call = getattr(type(fn), "__call__", None)  # noqa: B004 - the method is what is inspected
        self.is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(call)

    def _check_kind(self) -> None:
        fn = self._fn
        what = ""
        if isinstance(fn, type):
            what = "a class"
        elif isinstance(fn, classmethod):
            what = "a class method; put `@workflow` on a function at the top level instead"
        elif not callable(fn):
            what = f"{shown(fn)}, which can't be called"
        else:
            for test in (inspect.isasyncgenfunction, inspect.isgeneratorfunction):
                if test(fn) or test(getattr(type(fn), "__call__", None)):  # noqa: B004
                    what = "a generator function; use `return` instead of `yield`"
        if what:
            raise InvalidArgumentError(f"{self._what}: the handler is {what}; {_ALLOWED}")

    def _positional_arity(self) -> int:
        required = allowed = 0
        names = []
        for parameter in self._signature.parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                allowed = 2
            elif parameter.kind is parameter.KEYWORD_ONLY:
                if parameter.default is parameter.empty:
                    raise InvalidArgumentError(
                        f"{self._what}: the handler's keyword `{parameter.name}` has no default, "
                        f"and polos does not pass it; {_ALLOWED}"
                    )
            elif parameter.kind is not parameter.VAR_KEYWORD:
                names.append(parameter.name)
                allowed += 1
                required += parameter.default is parameter.empty
        if names[:1] in (["self"], ["cls"]) and "." in getattr(self._fn, "__qualname__", ""):
            raise InvalidArgumentError(
                f"{self._what}: the handler is a method of a class, and there is no object to "
                f"call it on; use a function at the top level, or register a bound method with "
                f"`workflow(id=...)(obj.{getattr(self._fn, '__name__', 'method')})`"
            )
        if required > 2:
            listed = ", ".join(names)
            raise InvalidArgumentError(
                f"{self._what}: the handler takes `({listed})`; {_ALLOWED}, and further "
                f"parameters need defaults"
            )
        return min(allowed, 2)

    def _names_around(self) -> dict[str, Any]:
        """Return the names that text annotations of an inner function may mention. They are not in
        its closure and are gone once the outer function has returned.
        """
        code = getattr(innermost(self._fn), "__code__", None)
        if "<locals>" not in getattr(self._fn, "__qualname__", ""):
            return {}
        frame = defining_frame(code)
        if frame is None:
            return {}
        annotations = [p.annotation for p in self._signature.parameters.values()]
        annotations.append(self._signature.return_annotation)
        text = " ".join(hint for hint in annotations if isinstance(hint, str))
        here = frame.f_locals
        return {name: here[name] for name in set(re.findall(r"\w+", text)) if name in here}

    def has_own_payload(self) -> bool:
        """Whether the payload is annotated as anything but a :class:`SchedulePayload`."""
        if self.arity < 2:
            return False
        positional = [
            p for p in self._signature.parameters.values() if p.kind is not p.KEYWORD_ONLY
        ]
        hint: Any = positional[1].annotation if len(positional) > 1 else inspect.Parameter.empty
        if hint is inspect.Parameter.empty:
            return False
        name = hint if isinstance(hint, str) else getattr(hint, "__name__", "")
        return name.rpartition(".")[2].strip("'\"") != "SchedulePayload"

    def payload_has_default(self) -> bool:
        """Whether the handler can be called without a payload."""
        positional = [
            p for p in self._signature.parameters.values() if p.kind is not p.KEYWORD_ONLY
        ]
        if len(positional) < 2 or positional[0].kind is inspect.Parameter.VAR_POSITIONAL:
            return True
        second = positional[1]
        return second.default is not second.empty or second.kind is second.VAR_POSITIONAL

    def payload_hint(self) -> Any:
        """Return the resolved annotation of the payload; ``None`` if it is missing or cannot be
        resolved.
        """
        positional = [
            parameter
            for parameter in self._signature.parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        return self._resolved(positional[1].annotation) if len(positional) > 1 else None

    def result_hint(self) -> Any:
        """Return the resolved annotation of the result; ``None`` if it is missing or cannot be
        resolved.
        """
        return self._resolved(self._signature.return_annotation)

    def _resolved(self, annotation: Any) -> Any:
        if annotation is inspect.Parameter.empty:
            return None
        fn = innermost(self._fn)
        code = getattr(fn, "__code__", None)
        closure = getattr(fn, "__closure__", None) or ()
        names = dict(self._local_names)
        for name, cell in zip(getattr(code, "co_freevars", ()), closure, strict=False):
            try:
                names[name] = cell.cell_contents
            except ValueError:  # assigned later in the enclosing function
                continue
        # Imported here because it loads pydantic. Handlers may name it without importing it.
        from polos.payload import SchedulePayload

        known = {"SchedulePayload": SchedulePayload, **getattr(fn, "__globals__", {})}

        def probe() -> None: ...

        probe.__annotations__ = {"it": annotation}
        try:
            return typing.get_type_hints(probe, known, names, include_extras=True)["it"]
        except Exception:
            # Names imported for type checkers only, or never; the handler works without them.
            return None


def _signature(fn: Callable[..., Any]) -> inspect.Signature:
    try:
        if sys.version_info >= (3, 14):
            from annotationlib import Format

            return inspect.signature(fn, annotation_format=Format.FORWARDREF)
        return inspect.signature(fn)
    except (TypeError, ValueError):
        # Some callables written in C have no signature; pass them every argument.
        parameters = [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY)
            for name in ("ctx", "payload")
        ]
        return inspect.Signature(parameters)


def underlying(fn: Any) -> Any:
    """Return the plain function inside a partial, a method, or a callable object."""
    for _ in range(20):
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif isinstance(fn, (types.MethodType, staticmethod, classmethod)):
            fn = fn.__func__
        elif not hasattr(fn, "__code__") and isinstance(
            getattr(type(fn), "__call__", None),  # noqa: B004
            types.FunctionType,
        ):
            fn = type(fn).__call__
        else:
            break
    return fn


def is_async_function(fn: Any) -> bool:
    """Whether calling ``fn`` returns a coroutine, also if it is a partial or a callable object."""
    return inspect.iscoroutinefunction(underlying(fn)) or inspect.iscoroutinefunction(
        getattr(fn, "__call__", None)  # noqa: B004
    )


def innermost(fn: Any) -> Any:
    """Return the function that was written as the handler, inside decorators too."""
    return underlying(inspect.unwrap(underlying(fn)))


def defining_frame(code: Any) -> types.FrameType | None:
    """Return the executing frame of the module or function that defines ``code``."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if any(constant is code for constant in frame.f_code.co_consts):
            return frame
        frame = frame.f_back
    return None


def location(fn: Any) -> str:
    """Return ``file:line`` of a handler, for errors."""
    code = getattr(innermost(fn), "__code__", None)
    if code is None:
        return f"module `{getattr(fn, '__module__', '?')}`"
    return f"{code.co_filename}:{code.co_firstlineno}"


def result_hint_of(fn: Callable[..., Any]) -> Any:
    """Return the resolved return annotation of ``fn``; ``None`` if it is missing or cannot be
    resolved.
    """
    target = inspect.unwrap(underlying(fn))
    try:
        return typing.get_type_hints(target, include_extras=True).get("return")
    except Exception:
        # Names imported for type checkers only; rely on the tag stored with the value.
        return None

"""Whether a failure is worth a retry. How often and when to retry is decided elsewhere."""

from __future__ import annotations

import builtins

from polos._codec.class_refs import class_tag
from polos._core.safe_logging import loggable, quiet_logger
from polos._validate.retry_on import RetryOn
from polos.exceptions import PermanentError, RecordedError, RunFailedError, StepError

__all__ = ["why_not_retried"]

_log = quiet_logger("polos.run")

_group: type[BaseException] | None = getattr(builtins, "BaseExceptionGroup", None)  # Python 3.11

# How deep steps of child runs and groups may be nested in each other.
_DEPTH_MAX = 50


def why_not_retried(error: BaseException, retry_on: RetryOn | None) -> str | None:
    """Return why a failure must not be retried, or ``None`` if it may be.

    A :class:`StepError` is judged by its cause, also if the step belongs to a child run. A group is
    retried only if each of its members is. ``retry_on=None`` means every failure. Never raises: a
    function that fails decides nothing, and the failure may be retried.
    """
    try:
        return _reason(error, retry_on, 0)
    except BaseException as failure:  # code of the application: a function, or a metaclass
        _log.error(
            "`retry_on` failed for a %s, which therefore counts as worth a retry",
            type(error).__name__,
            exc_info=loggable(failure),
        )
        return None


def _reason(error: BaseException, retry_on: RetryOn | None, depth: int) -> str | None:
    # Not `isinstance`, which reads the exception's own `__class__`.
    kind = type(error)
    if issubclass(kind, StepError) and depth < _DEPTH_MAX:
        assert isinstance(error, StepError)
        cause = error.__cause__
        if cause is None or issubclass(type(cause), RunFailedError):
            # The error of another run, whose result was awaited.
            return _reason_by_name(error.cause_type, error, retry_on)
        return _reason(cause, retry_on, depth + 1)
    if issubclass(kind, RecordedError):
        assert isinstance(error, RecordedError)
        return _reason_by_name(error.type, error, retry_on)
    if issubclass(kind, PermanentError):
        return f"it is a `{kind.__name__}`"
    is_included = isinstance(retry_on, (type, tuple)) and issubclass(kind, retry_on)
    if _group is not None and issubclass(kind, _group) and depth < _DEPTH_MAX:
        members: tuple[BaseException, ...] = _group.__dict__["exceptions"].__get__(error)
        of_members = None if is_included else retry_on
        reasons = (_reason(member, of_members, depth + 1) for member in members)
        return next((reason for reason in reasons if reason is not None), None)
    if retry_on is None or is_included:
        return None
    if isinstance(retry_on, (type, tuple)):
        return f"`retry_on` does not include `{kind.__name__}`"
    if not issubclass(kind, Exception):
        return f"`retry_on` is a function, and `{kind.__name__}` is not an `Exception`"
    return None if retry_on(error) else f"`retry_on` returned false for `{kind.__name__}`"  # type: ignore[arg-type]


def _reason_by_name(name: str, error: Exception, retry_on: RetryOn | None) -> str | None:
    """Judge an exception of which only the name of its class is known here."""
    short = name.rpartition(".")[2]
    if _is_named(name, PermanentError):
        return f"it is a `{short}`"
    if retry_on is None:
        return None
    if not isinstance(retry_on, (type, tuple)):
        return None if retry_on(error) else f"`retry_on` returned false for `{short}`"
    classes = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    if any(_includes(cls, name) for cls in classes):
        return None
    return f"`retry_on` does not include `{short}`"


def _includes(cls: type[BaseException], name: str) -> bool:
    """Whether a class of this name is ``cls`` or derived from it. One that this process has not
    imported counts as an ``Exception``.
    """
    if cls is Exception:
        return _is_named(name, Exception) or not _is_named(name, BaseException)
    return cls is BaseException or _is_named(name, cls)


def _is_named(name: str, cls: type[BaseException]) -> bool:
    seen = {cls}
    rest = [cls]
    while rest:
        known = rest.pop()
        if class_tag(known).removeprefix("builtins:").replace(":", ".") == name:
            return True
        derived = [other for other in type.__subclasses__(known) if other not in seen]
        seen.update(derived)
        rest.extend(derived)
    return False

"""How runs are started: :class:`Invocation` and :class:`Debounce`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from polos._core.instants import micros_of
from polos._core.real_datetime import datetime
from polos._runtime.backoff import duration
from polos._validate.formatting import shown
from polos._validate.schedule_options import check_identifier
from polos.exceptions import InvalidArgumentError

__all__ = ["Debounce", "Invocation"]

PayloadT = TypeVar("PayloadT", covariant=True)


@dataclass(frozen=True)
class Invocation(Generic[PayloadT]):
    """One run of ``Workflow.invoke_many`` that has options of its own.

    :param payload: the payload for the handler.
    :param key: the key of the run, ``ctx.key``; by default ``global``.
    :param delay: how long to wait before the start, in seconds or as ``timedelta``.
    :param at: when to start, as an aware ``datetime``, instead of ``delay``. A time in the past is
        now.
    :param priority: from 0 to 9; by default that of the workflow.
    :param idempotency_key: a second invocation with the same key is the run of the first.
    """

    payload: PayloadT
    key: str | None = None
    delay: float | timedelta | None = None
    at: datetime | None = None
    idempotency_key: str | None = None
    priority: int | None = None


@dataclass(frozen=True, init=False)
class Debounce:
    """Makes calls in quick succession one run, with the payload of the last call.

    As long as no worker has claimed the run, each further call with the same workflow and key
    replaces the payload and the priority and moves the start. After that, the next call creates a
    new run.

    :param key: calls with the same key belong together, such as a user's id.
    :param delay: how long after the last call the run starts, in seconds or as ``timedelta``.
    :param at_most: how long after the first call the run starts at the latest, in seconds or as
        ``timedelta``; by default there is no limit. That of the first call counts.

    Raises :class:`InvalidArgumentError` for a negative or infinite time, and for an ``at_most``
    that is shorter than ``delay``.
    """

    key: str
    delay: timedelta
    at_most: timedelta | None

    def __init__(
        self,
        key: str,
        *,
        delay: float | timedelta,
        at_most: float | timedelta | None = None,
    ) -> None:
        set_field = object.__setattr__
        set_field(self, "key", check_identifier("debounce key", key))
        set_field(self, "delay", duration("debounce delay", delay))
        limit = None if at_most is None else duration("debounce at_most", at_most)
        set_field(self, "at_most", limit)
        if limit is not None and limit < self.delay:
            raise InvalidArgumentError(
                f"debounce at_most: {shown(at_most)} given with delay {shown(delay)}; the latest "
                f"start can't be before the first one, so give an at_most of at least the delay"
            )

    def _for_core(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "delay": micros_of(self.delay),
            "at_most": None if self.at_most is None else micros_of(self.at_most),
        }

"""Limits, as the ``@workflow`` decorator takes them. No dependency on clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, overload

from polos._core.safe_logging import quiet_logger
from polos._validate.formatting import shown
from polos._validate.schedule_options import check_identifier
from polos.exceptions import InvalidArgumentError

if TYPE_CHECKING:
    from polos.workflow import Workflow

__all__ = ["Limit", "checked_priority", "declared_limits", "limit_for"]

_COUNT_MAX = 1_000_000
_PERIOD_MAX = timedelta(days=366)
PRIORITY_MAX = 9

_SEVERAL = ""  # no workflow's id

_log = quiet_logger("polos.workflow")


class Limit:
    """How many runs may be in progress at once, and how many may start in a period.

    A limit counts the claimed runs of its workflows in the whole project, on all workers. Several
    workflows share a limit that has a name; a limit without one belongs to the one workflow that
    it is given to, and has its name.

    ``Limit(10, per_key=1)``, ``Limit("openai", 20)``, ``Limit("mail", rate=100, per=60)``.

    It can't be changed, because the limit that counts is stored in the database.
    """

    __slots__ = ("_used_by", "max", "name", "per", "per_key", "rate")

    _used_by: str | None

    name: str | None
    """Unique in the project; ``None`` for that of the workflow."""

    max: int | None
    """Most runs in progress at once; ``None`` for any number."""

    per_key: int | None
    """Most runs in progress at once with the same key."""

    rate: int | None
    """Most starts in any period of the length :attr:`per`."""

    per: timedelta | None
    """The period of :attr:`rate`."""

    @overload
    def __init__(
        self,
        name: str,
        max: int | None = None,
        /,
        *,
        per_key: int | None = None,
        rate: int | None = None,
        per: float | timedelta | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        max: int | None = None,
        /,
        *,
        per_key: int | None = None,
        rate: int | None = None,
        per: float | timedelta | None = None,
    ) -> None: ...
    def __init__(
        self,
        name: Any = None,
        max: int | None = None,
        /,
        *,
        per_key: int | None = None,
        rate: int | None = None,
        per: float | timedelta | None = None,
    ) -> None:
        """Declare a limit.

        :param name: unique in the project; a number in its place is ``max``.
        :param max: most runs in progress at once.
        :param per_key: most runs in progress at once with the same key.
        :param rate: most runs that start or resume in any period of the length ``per``.
        :param per: that period: seconds or ``timedelta``.

        Raises :class:`InvalidArgumentError`.
        """
        if name is not None and not isinstance(name, str):
            if max is not None:
                raise InvalidArgumentError(
                    f"Limit, name: {shown(name)} given, expected a text; write "
                    '`Limit("name", 20)`, or `Limit(20)` for a limit of one workflow'
                )
            name, max = None, name
        set_field = super().__setattr__
        set_field("name", None if name is None else check_identifier("Limit, name", name))
        set_field("max", None if max is None else _count("Limit, max", max, least=0))
        set_field("per_key", None if per_key is None else _count("Limit, per_key", per_key))
        set_field("rate", None if rate is None else _count("Limit, rate", rate))
        set_field("per", None if per is None else _period("Limit, per", per))
        set_field("_used_by", None)
        if (self.rate is None) != (self.per is None):
            raise InvalidArgumentError(
                "Limit: `rate` and `per` belong together, such as `rate=100, per=60` for 100 runs "
                "in any minute"
            )
        if self.max is None and self.per_key is None and self.rate is None:
            raise InvalidArgumentError(
                "Limit: no value given, expected a number of runs, `per_key`, or `rate` and `per`, "
                'such as `Limit(10)`, `Limit("openai", 20)`, or `Limit("mail", rate=100, per=60)`'
            )

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        self._refuse(name)

    def __delattr__(self, name: str) -> NoReturn:
        self._refuse(name)

    def _refuse(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{self!r} can't be changed (`{name}`): make another `Limit` before the workflows are "
            "declared, or change the stored limit with `limits.set` or `polos limits set`"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # To copy and pickle it without setting attributes.
        named = (self.max,) if self.name is None else (self.name, self.max)
        options = {"per_key": self.per_key, "rate": self.rate, "per": self.per}
        return partial(Limit, *named, **options), ()

    def _note_use(self, workflow_id: str) -> None:
        """Warn once if a limit without a name is given to several workflows, which don't share it
        then.
        """
        first = self._used_by
        if self.name is not None or first in (workflow_id, _SEVERAL):
            return
        if first is not None:
            _log.warning(
                "workflows `%s` and `%s` were given one %r, which has no name, so each of them has "
                "a limit of its own; to share it, name it, as in `Limit('shared', 20)`",
                first,
                workflow_id,
                self,
            )
        super().__setattr__("_used_by", workflow_id if first is None else _SEVERAL)

    def __repr__(self) -> str:
        options = [repr(value) for value in (self.name, self.max) if value is not None]
        options += [
            f"{name}={value!r}"
            for name in ("per_key", "rate", "per")
            if (value := getattr(self, name)) is not None
        ]
        return f"Limit({', '.join(options)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Limit):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[Any, ...]:
        return self.name, self.max, self.per_key, self.rate, self.per


def _count(name: str, value: Any, *, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _COUNT_MAX:
        raise InvalidArgumentError(
            f"{name}: {shown(value)} given, expected a whole number from {least} to {_COUNT_MAX:,}"
        )
    return int(value)


def _period(name: str, value: Any) -> timedelta:
    from polos._runtime.backoff import duration

    period = duration(name, value, zero=False)
    if period > _PERIOD_MAX:
        raise InvalidArgumentError(
            f"{name}: {shown(value)} given, expected at most {_PERIOD_MAX.days} days"
        )
    return period


def limit_for(workflow_id: str, value: Any) -> Limit | None:
    """Return the limit that ``concurrency=`` of a workflow means."""
    if value is None:
        return value
    if isinstance(value, Limit):
        value._note_use(workflow_id)
        return value
    name = f"workflow `{workflow_id}`, concurrency"
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _COUNT_MAX:
        raise InvalidArgumentError(
            f"{name}: {shown(value)} given, expected a whole number of 1 or more, or a "
            "`polos.Limit`"
        )
    return Limit(value)


def checked_priority(name: str, value: Any) -> int:
    """Return a valid priority."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= PRIORITY_MAX:
        raise InvalidArgumentError(
            f"{name}: {shown(value)} given, expected a whole number from 0 to {PRIORITY_MAX} "
            "(higher is earlier)"
        )
    return int(value)


def declared_limits(
    workflows: Mapping[str, Workflow[Any, Any]],
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the limits that the workflows declare, by name, and each workflow's limit.

    Raises :class:`InvalidArgumentError` if two limits of different values have one name.
    """
    limits: dict[str, Limit] = {}
    users: dict[str, str] = {}
    of: dict[str, str] = {}
    for id, workflow in workflows.items():
        limit = workflow.concurrency
        if limit is None:
            continue
        name = of[id] = limit.name or id
        known = limits.setdefault(name, limit)
        first = users.setdefault(name, id)
        if _values(known) != _values(limit) or (first != id and None in (known.name, limit.name)):
            raise InvalidArgumentError(
                f"workflows `{first}` and `{id}` declare two limits named `{name}`: {known!r} and "
                f"{limit!r}; share one `polos.Limit`, or give them different names"
            )
    return {name: _values(limit) for name, limit in limits.items()}, of


def _values(limit: Limit) -> dict[str, Any]:
    from polos._core.instants import micros_of

    return {
        "max": limit.max,
        "per_key": limit.per_key,
        "rate": limit.rate,
        "per_us": None if limit.per is None else micros_of(limit.per),
    }


def described(values: Iterable[tuple[str, Any]]) -> str:
    """Return values of a limit as text, such as ``20 at once, 1 per key``."""
    given = {name: value for name, value in values if value is not None}
    parts = []
    if "max" in given:
        parts.append(f"{given['max']} at once")
    if "per_key" in given:
        parts.append(f"{given['per_key']} per key")
    if "rate" in given and "per" in given:
        seconds = given["per"].total_seconds()
        parts.append(f"{given['rate']} in {seconds:g} s")
    return ", ".join(parts)

"""The payload of a scheduled handler: the slot of its run."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from pydantic import BaseModel, field_serializer, model_validator
from typing_extensions import Self

__all__ = ["SchedulePayload"]

_set = object.__setattr__


class SchedulePayload(BaseModel):
    """The slot of a scheduled run.

    All times are aware, in ``zoneinfo.ZoneInfo(timezone)``, and nominal: ``timestamp`` is when
    the run was due, however late it started. They survive JSON: the result of
    ``model_validate_json(payload.model_dump_json())`` is equal and in the same zone, also for the
    two passes of an hour that a DST change repeats (``fold``).

    Raises ``pydantic.ValidationError`` (a ``ValueError``) for a naive ``datetime`` or for a
    ``timezone`` that is not an IANA name.
    """

    timestamp: datetime
    """The slot: when this run was scheduled to start."""

    last_timestamp: datetime | None
    """The slot of the schedule's previous run; ``None`` on the first."""

    timezone: str
    """The schedule's time zone, an IANA name."""

    schedule_id: str
    """The schedule's id."""

    key: str
    """The schedule's key; ``"global"`` by default."""

    upcoming: datetime
    """The schedule's next slot."""

    @model_validator(mode="after")
    def _in_own_zone(self) -> Self:
        zone = _zone(self.timezone)[0]
        values = self.__dict__
        for name in ("timestamp", "last_timestamp", "upcoming"):
            value = values[name]
            if value is None or value.tzinfo is zone:
                continue
            if value.utcoffset() is None:
                raise ValueError(
                    f"`{name}` is `{value.isoformat()}`, without a time zone; "
                    f'pass an aware datetime, for example with tzinfo=ZoneInfo("{self.timezone}")'
                )
            values[name] = value.astimezone(zone)
        return self

    @field_serializer("timestamp", "last_timestamp", "upcoming", when_used="json")
    def _as_instant(self, value: datetime | None) -> str | None:
        if value is None:
            return None
        offset = value.utcoffset()
        if offset is not None and offset % timedelta(minutes=1):
            # Local mean time, before zones were standardized, has offsets with seconds, which
            # RFC 3339 does not support. Only the instant matters: validation restores the zone.
            value = value.astimezone(timezone.utc)
        return value.isoformat()

    @classmethod
    def _from_micros(
        cls,
        timestamp_us: int,
        last_us: int | None,
        timezone: str,
        schedule_id: str,
        key: str,
        upcoming_us: int,
    ) -> Self:
        """Build a payload from microseconds since the epoch, without validation.

        For values that the core has computed. The result is exact (integer arithmetic) for every
        instant whose local time is in the years 1 to 9999; others raise ``OverflowError``.
        """
        zone, epoch = _zone(timezone)
        fromutc = zone.fromutc
        # The sums are computed on UTC fields. `fromutc` converts them to local time and chooses the
        # right pass (`fold`) of a repeated hour.
        payload = cls.__new__(cls)
        _set(
            payload,
            "__dict__",
            {
                "timestamp": fromutc(epoch + timedelta(0, 0, timestamp_us)),
                "last_timestamp": (
                    None if last_us is None else fromutc(epoch + timedelta(0, 0, last_us))
                ),
                "timezone": timezone,
                "schedule_id": schedule_id,
                "key": key,
                "upcoming": fromutc(epoch + timedelta(0, 0, upcoming_us)),
            },
        )
        _set(payload, "__pydantic_fields_set__", set(_FIELDS))
        _set(payload, "__pydantic_extra__", None)
        _set(payload, "__pydantic_private__", None)
        return payload


_FIELDS = frozenset(SchedulePayload.model_fields)
_zones: dict[str, tuple[ZoneInfo, datetime]] = {}


def _zone(name: str) -> tuple[ZoneInfo, datetime]:
    """Return the zone, and the epoch in UTC labeled with it (the base of `_from_micros`)."""
    known = _zones.get(name)
    if known is None:
        try:
            zone = ZoneInfo(name)
        except Exception as error:
            # ZoneInfo raises KeyError, OSError, or ValueError for an unknown name.
            raise ValueError(
                f"unknown time zone `{name[:80]}`; expected an IANA name such as `America/New_York`"
            ) from error
        # Bounded by the number of zones that exist.
        known = _zones[name] = (zone, datetime(1970, 1, 1, tzinfo=zone))
    return known

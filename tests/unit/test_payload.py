"""The schedule's payload: zones, passes of a repeated hour, JSON, construction by the core."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from polos._codec.codec import decode, encode
from polos.payload import SchedulePayload

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
ZONES = [
    "UTC", "America/New_York", "Europe/Dublin", "Asia/Kolkata", "Australia/Lord_Howe",
    "Pacific/Apia", "Africa/Casablanca", "Asia/Kathmandu", "Etc/GMT+12", "America/St_Johns",
]  # fmt: skip
# Years 1 to 9999 without the first and last day, which a time zone may move out of range.
MICROS = st.integers(-62_135_500_000 * 10**6, 253_402_200_000 * 10**6)


def payload(at: datetime, zone: str = "America/New_York") -> SchedulePayload:
    return SchedulePayload(
        timestamp=at,
        last_timestamp=None,
        timezone=zone,
        schedule_id="sch_1",
        key="global",
        upcoming=at + timedelta(hours=1),
    )


def test_the_fields_are_those_of_the_documentation() -> None:
    assert list(SchedulePayload.model_fields) == [
        "timestamp",
        "last_timestamp",
        "timezone",
        "schedule_id",
        "key",
        "upcoming",
    ]


def test_times_are_in_the_schedules_own_zone() -> None:
    it = payload(datetime(2026, 1, 1, 22, tzinfo=timezone.utc))
    assert f"Syncing at {it.timestamp} Eastern Time" == (
        "Syncing at 2026-01-01 17:00:00-05:00 Eastern Time"
    )
    assert it.timestamp.tzinfo is ZoneInfo("America/New_York")
    assert it.upcoming.tzinfo is ZoneInfo("America/New_York")


def test_naive_times_are_refused_with_advice() -> None:
    with pytest.raises(ValidationError, match=r"without a time zone; pass an aware datetime"):
        payload(datetime(2026, 1, 1))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/passwd", "a\0b"])
def test_unknown_zones_are_refused(zone: str) -> None:
    with pytest.raises(ValidationError, match="unknown time zone"):
        payload(datetime(2026, 1, 1, tzinfo=timezone.utc), zone)


@given(MICROS, st.none() | MICROS, st.sampled_from(ZONES), MICROS)
def test_the_core_builds_what_validation_would(
    at: int, last: int | None, zone: str, upcoming: int
) -> None:
    built = SchedulePayload._from_micros(at, last, zone, "sch_1", "k", upcoming)
    validated = SchedulePayload(
        timestamp=EPOCH + timedelta(microseconds=at),
        last_timestamp=None if last is None else EPOCH + timedelta(microseconds=last),
        timezone=zone,
        schedule_id="sch_1",
        key="k",
        upcoming=EPOCH + timedelta(microseconds=upcoming),
    )
    assert built == validated
    assert built.model_fields_set == validated.model_fields_set
    assert built.timestamp.fold == validated.timestamp.fold
    assert (built.timestamp - EPOCH) // timedelta(microseconds=1) == at


@given(MICROS, st.sampled_from(ZONES), MICROS)
def test_json_and_back_is_equal_and_in_the_same_zone(at: int, zone: str, upcoming: int) -> None:
    it = SchedulePayload._from_micros(at, at, zone, "sch_1", "k", upcoming)
    for found in (
        SchedulePayload.model_validate_json(it.model_dump_json()),
        SchedulePayload.model_validate(it.model_dump(mode="json")),
        SchedulePayload.model_validate(it.model_dump()),
        decode(encode(it)),
        pickle.loads(pickle.dumps(it)),
        copy.deepcopy(it),
    ):
        assert found == it
        for name in ("timestamp", "last_timestamp", "upcoming"):
            there, here = getattr(found, name), getattr(it, name)
            assert (there.fold, there.utcoffset()) == (here.fold, here.utcoffset())
            assert there.tzinfo.key == zone


def test_both_passes_of_a_repeated_hour_survive_json() -> None:
    first = payload(datetime(2026, 11, 1, 5, 30, tzinfo=timezone.utc))
    second = payload(datetime(2026, 11, 1, 6, 30, tzinfo=timezone.utc))
    assert [p.timestamp.tzname() for p in (first, second)] == ["EDT", "EST"]
    for it in (first, second):
        found = SchedulePayload.model_validate_json(it.model_dump_json())
        assert found.timestamp.tzname() == it.timestamp.tzname()


@pytest.mark.parametrize("micros", [-1, 0, 1, -(2**53) - 1, 2**53 + 1, 1767225600000001])
def test_microseconds_are_exact(micros: int) -> None:
    it = SchedulePayload._from_micros(micros, None, "Asia/Kolkata", "s", "k", micros)
    assert (it.timestamp - EPOCH) // timedelta(microseconds=1) == micros
    assert it.last_timestamp is None


def test_a_handlers_own_class_may_have_it_as_a_field() -> None:
    class Envelope(BaseModel):
        payload: SchedulePayload

    it = Envelope(payload=payload(datetime(2026, 1, 1, tzinfo=timezone.utc)))
    assert Envelope.model_validate_json(it.model_dump_json()) == it


def test_each_pass_of_a_repeated_hour_is_its_own_slot() -> None:
    first = datetime(2026, 11, 1, 5, 30, tzinfo=timezone.utc)  # 01:30 in New York, twice
    for slot in (first, first + timedelta(hours=1)):
        micros = int(slot.timestamp()) * 1_000_000
        payload = SchedulePayload._from_micros(
            micros, micros, "America/New_York", "sch_1", "global", micros
        )
        for value in (payload.timestamp, payload.last_timestamp, payload.upcoming):
            assert value is not None
            assert value.astimezone(timezone.utc) == slot
            assert (value.hour, value.minute, value.fold) == (1, 30, int(slot > first))

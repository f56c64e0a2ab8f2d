"""Payloads are converted to the handler's annotation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Literal, Optional, Union
from zoneinfo import ZoneInfo

import pytest
import sample_types as t
from pydantic import BaseModel, SecretStr
from typing_extensions import TypedDict

from polos._validate.conversion import payload_for
from polos.exceptions import InvalidArgumentError
from polos.payload import SchedulePayload

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
SCHEDULED = SchedulePayload._from_micros(0, None, "Asia/Tokyo", "sch_1", "user_1", 10**9)


class Copy(BaseModel):
    timestamp: datetime
    last_timestamp: datetime | None
    timezone: str
    schedule_id: str
    key: str
    upcoming: datetime


class Options(TypedDict):
    a: int
    at: datetime


@dataclass
class Data:
    key: str
    upcoming: datetime | None = None


ACCEPTED = [
    (None, {"a": 1}, {"a": 1}),
    (Any, AT, AT),
    ("NotResolved", {"a": 1}, {"a": 1}),
    (int, 5, 5),
    (int, "5", 5),
    (str, "x", "x"),
    (dict, {"a": 1}, {"a": 1}),
    (list[int], ["1", 2], [1, 2]),
    (tuple[int, str], [1, "a"], (1, "a")),
    (Optional[int], None, None),  # noqa: UP045
    (Union[int, None], 3, 3),  # noqa: UP007
    (datetime, AT.isoformat(), AT),
    (Decimal, "1.50", Decimal("1.50")),
    (Literal["a"], "a", "a"),
    (t.Colour, 1, t.Colour.RED),
    (t.User, {"id": 1, "email": "e"}, t.User(id=1, email="e")),
    (t.User, t.User(id=1, email="e"), t.User(id=1, email="e")),
    (t.User | None, {"id": 1, "email": "e"}, t.User(id=1, email="e")),
    (t.Aliased, {"userId": 1, "o": 2}, t.Aliased.model_validate({"userId": 1, "o": 2})),
    (t.Plain, {"a": 1, "b": "x"}, t.Plain(1, "x")),
    (t.Plain, t.Plain(1), t.Plain(1)),
    (t.Point, [1, 2], t.Point(1, 2)),
    (Options, {"a": 1, "at": AT.isoformat()}, {"a": 1, "at": AT}),
    (t.StrictModel, {"at": "2026-01-01T00:00:00", "level": 1},
     t.StrictModel(at=datetime(2026, 1, 1), level=t.Level.LOW)),
    (t.Crate[int], {"held": "5"}, t.Crate[int](held=5)),
    (t.NotIdempotent, t.NotIdempotent(parts="a,b"), t.NotIdempotent(parts="a,b")),
    (SchedulePayload, SCHEDULED, SCHEDULED),
    (SchedulePayload, SCHEDULED.model_dump(mode="json"), SCHEDULED),
    (dict, SCHEDULED, SCHEDULED.model_dump()),
    (dict[str, Any], SCHEDULED, SCHEDULED.model_dump()),
    (Copy, SCHEDULED, Copy(**SCHEDULED.model_dump())),
    (Copy | None, SCHEDULED, Copy(**SCHEDULED.model_dump())),
    (Data, SCHEDULED, Data("user_1", SCHEDULED.upcoming)),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "data", "expected"), ACCEPTED)
def test_what_is_made_of_it(annotation: Any, data: Any, expected: Any) -> None:
    found = payload_for(annotation, data)
    assert found == expected
    assert type(found) is type(expected)


def test_an_own_copy_of_the_schedules_payload_keeps_the_zone() -> None:
    assert payload_for(Copy, SCHEDULED).timestamp.tzinfo is ZoneInfo("Asia/Tokyo")


class Mine(SchedulePayload):
    """A subclass of the application with an additional field."""

    note: str = ""


def test_a_subclass_of_the_schedules_payload_is_made_from_it() -> None:
    found = payload_for(Mine, SCHEDULED)
    assert type(found) is Mine
    assert found.timestamp == SCHEDULED.timestamp


class Secret(BaseModel):
    a: int
    password: SecretStr
    more: list[int]


REFUSED = [
    (int, "x", "payload: not a valid `int`: input should be a valid integer"),
    (int, None, "not a valid `int`"),
    (t.User, {"id": "x"}, "`sample_types.User`: `id`: input should be a valid integer, unable"),
    (t.User, {"id": 1}, "`email`: field required"),
    (t.User, "x", "not a valid `sample_types.User`"),
    (t.User | None, 5, "not a valid `sample_types.User | None`"),
    (t.Plain, {}, "`a`: "),
    (list[int], {"a": 1}, "not a valid `list[int]`"),
    (Secret, {"a": "hunter2", "password": 5, "more": ["hunter2"] * 9}, "; and 8 more"),
    (t.NotStorable, {"a": 1}, "`dict` given, and `sample_types.NotStorable` can't be made from it"),
]


@pytest.mark.parametrize(("annotation", "data", "message"), REFUSED)
def test_what_does_not_fit_is_named_without_its_value(
    annotation: Any, data: Any, message: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        payload_for(annotation, data)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_other_classes_are_passed_on() -> None:
    it = t.NotStorable()
    assert payload_for(t.NotStorable, it) is it

"""The types of payloads and errors. Checked by mypy, never run."""

from __future__ import annotations

from datetime import datetime

from typing_extensions import assert_type

from polos.exceptions import InvalidCronError, StepError
from polos.payload import SchedulePayload


def fields(payload: SchedulePayload) -> None:
    assert_type(payload.timestamp, datetime)
    assert_type(payload.last_timestamp, datetime | None)
    assert_type(payload.timezone, str)
    assert_type(payload.schedule_id, str)
    assert_type(payload.key, str)
    assert_type(payload.upcoming, datetime)
    payload.last_timestamp.isoformat()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    payload.next_timestamp  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def errors(error: StepError) -> None:
    assert_type(error.step, str)
    assert_type(error.attempts, int)
    value_error: ValueError = InvalidCronError("x")
    StepError("message", "step")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    raise value_error

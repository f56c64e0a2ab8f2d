"""The text that identifies a specification in the core."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest

from polos._core import specs
from polos._core.specs import compile_spec
from polos._validate.schedule_options import normalise_schedule
from polos.exceptions import InvalidCronError, InvalidTimezoneError

DAILY = {"cron": "0 9 * * *", "skip": [date(2026, 12, 25)], "max_runs": 3}


def test_equal_options_have_equal_texts() -> None:
    options = {"jitter": timedelta(0), "overlap": "buffer_one", **dict(reversed(DAILY.items()))}
    text, is_frequent = compile_spec(normalise_schedule(DAILY))
    assert compile_spec(normalise_schedule(options)) == (text, False)
    fields = json.loads(text)
    assert fields["skip_dates"] == ["2026-12-25"]
    assert fields["max_runs"] == 3
    assert not is_frequent


def test_only_a_calendar_of_the_application_changes_the_text() -> None:
    spec = normalise_schedule(DAILY)
    with_calendar, _ = compile_spec(spec, has_calendar=True)
    without, _ = compile_spec(spec | {"key": "k", "input": '"data"'})
    assert json.loads(with_calendar) == json.loads(without) | {"skip_calendar": True}


def test_the_core_compiles_a_specification_once() -> None:
    specs._compile.cache_clear()
    for _ in range(3):
        compile_spec(normalise_schedule(DAILY))
    assert specs._compile.cache_info().misses == 1


def test_what_the_core_refuses_is_not_remembered() -> None:
    for _ in range(2):
        with pytest.raises(InvalidCronError, match="25"):
            compile_spec(normalise_schedule({"cron": "0 25 * * *"}))
        with pytest.raises(InvalidTimezoneError, match="Nowhere"):
            compile_spec(normalise_schedule({"cron": "0 9 * * *", "timezone": "Nowhere"}))

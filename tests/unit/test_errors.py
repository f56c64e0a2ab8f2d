"""Exceptions: those of polos can be pickled, all can be recorded, most can be rebuilt."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import pickle
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
import sample_types as t
from counting import lines_executed

from polos import PolosClient, exceptions, schedules
from polos._codec.codec import encode
from polos._codec.exceptions import error_from_record, error_record
from polos.exceptions import (
    PayloadTooLargeError,
    PolosError,
    RecordedError,
    RunFailedError,
    RunTimeoutError,
    ScheduleFrequencyWarning,
    StepCrashedError,
    StepError,
    StepSerializationError,
)

OURS = [
    getattr(exceptions, name)
    for name in exceptions.__all__
    if issubclass(getattr(exceptions, name), PolosError)
]
DETAILED = [
    StepError("m", step="s", attempts=3, cause_type="ValueError", cause_message="x"),
    StepSerializationError("m", step="s"),
    PayloadTooLargeError("m", size=5, limit=4),
    RunFailedError("m", run_id="r", workflow="w", error_type="E", error_message="x"),
    RunTimeoutError("m", run_id="r"),
    StepCrashedError("m", step="s", signal=11, exit_code=None, peak_memory=1),
    RecordedError("m", type="E", message="x", traceback="t"),
    StepError.from_record("s", 1, {"type": "builtins:ValueError", "message": "x"}),
]


@pytest.mark.parametrize(
    "error", [*(cls("m") for cls in OURS), *(cls() for cls in OURS), *DETAILED]
)
def test_ours_are_copied_pickled_and_recorded_whole(error: PolosError) -> None:
    for found in (
        pickle.loads(pickle.dumps(error)),
        copy.copy(error),
        copy.deepcopy(error),
        error_from_record(error_record(error)),
    ):
        assert type(found) is type(error)
        assert (str(found), found.args, vars(found)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize(
    ("name", "bases"),
    [
        ("InvalidCronError", (exceptions.InvalidScheduleError, ValueError)),
        ("InvalidTimezoneError", (exceptions.InvalidScheduleError, ValueError)),
        ("InvalidArgumentError", (PolosError, ValueError)),
        ("PayloadTooLargeError", (exceptions.SerializationError, ValueError)),
        ("StepSerializationError", (exceptions.SerializationError, ValueError)),
        ("DuplicateWorkflowError", (ValueError,)),
        ("DuplicateStepError", (ValueError,)),
        ("WorkflowNotFoundError", (LookupError,)),
        ("WorkflowNotSchedulableError", (ValueError,)),
        ("ScheduleNotFoundError", (LookupError,)),
        ("RunNotFoundError", (LookupError,)),
        ("RunTimeoutError", (TimeoutError,)),
        ("StoreUnavailableError", (exceptions.StoreError,)),
        ("StoreCorruptError", (exceptions.StoreError,)),
        ("StoreVersionError", (exceptions.StoreError,)),
    ],
)
def test_the_hierarchy(name: str, bases: tuple[type, ...]) -> None:
    assert all(issubclass(getattr(exceptions, name), base) for base in (PolosError, *bases))
    assert issubclass(ScheduleFrequencyWarning, UserWarning)


def test_a_step_error_reads_the_same_before_and_after_a_restart() -> None:
    cause = ValueError("no such user")
    record = json.loads(json.dumps(error_record(cause)))
    before = StepError.from_record("get_user", 3, record, cause)
    after = StepError.from_record("get_user", 3, record, error_from_record(record))
    assert str(before) == "step `get_user` failed 3 times, last with ValueError: no such user"
    assert (str(after), vars(after)) == (str(before), vars(before))
    assert before.__cause__ is cause
    assert repr(after.__cause__) == repr(cause)
    unknown = StepError.from_record("get_user", 1, record | {"type": "gone:Gone"}).__cause__
    assert isinstance(unknown, RecordedError)
    assert (unknown.type, unknown.message) == ("gone.Gone", "no such user")


@pytest.mark.parametrize("record", [None, {}, {"type": 5, "message": []}, [], "x"])
def test_damaged_records_still_give_errors(record: Any) -> None:
    assert (
        str(StepError.from_record("s", 2, record)) == "step `s` failed 2 times, last with an error"
    )
    assert str(RunFailedError.from_record(record, run_id="r")) == "run `r` failed with an error"
    assert error_from_record(record) is None


class Http(Exception):
    """An exception whose constructor has other arguments than `args`."""

    def __init__(self, status: int, *, url: str) -> None:
        super().__init__(f"{status} from {url}")
        self.status = status
        self.user = t.User(id=1, email=url)
        CONSTRUCTED.append(self)


class Slotless(OSError):
    def __init__(self, code: int, text: str, note: str) -> None:
        super().__init__(code, text)
        self.note = note


CONSTRUCTED: list[Any] = []


def test_an_exception_comes_back_without_its_constructor() -> None:
    error = Http(404, url="https://a.example")
    CONSTRUCTED.clear()
    found = error_from_record(json.loads(json.dumps(error_record(error))))
    assert type(found) is Http
    assert (str(found), found.args, vars(found)) == (str(error), error.args, vars(error))
    assert CONSTRUCTED == []


REBUILT = [
    ValueError("x"), ValueError(), ValueError(1, ("a",), None), KeyError("k"), StopIteration(5),
    OSError(2, "gone"), FileNotFoundError(2, "gone", "/x"), ConnectionResetError(104, "reset"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), ZeroDivisionError("division by zero"),
    TimeoutError(), RecursionError("deep"), MemoryError(), AssertionError(), Slotless(5, "t", "n"),
    json.JSONDecodeError("bad", "doc", 2), ValueError("\ud800"), ValueError("NUL \0"),
    ValueError(t.Colour.RED), NotImplementedError("later"), StopAsyncIteration(),
]  # fmt: skip


@pytest.mark.parametrize("error", REBUILT, ids=repr)
def test_what_comes_back(error: Exception) -> None:
    found = error_from_record(json.loads(json.dumps(error_record(error))))
    assert type(found) is type(error)
    assert (found.args, vars(found), str(found)) == (error.args, vars(error), str(error))
    for name in ("errno", "filename", "reason", "object", "value"):
        assert getattr(found, name, None) == getattr(error, name, None)


class EvilStr(Exception):
    def __str__(self) -> str:
        raise SystemExit("no")

    __repr__ = __str__


class EvilText(str):
    def __getitem__(self, key: Any) -> Any:
        raise RuntimeError("no")

    __len__ = __format__ = encode = __getitem__  # type: ignore[assignment]


class EvilArgs(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no")

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no")


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("held")
        self.lock = lambda: None

    def __reduce__(self) -> Any:
        raise TypeError("no")


class NumberStr(Exception):
    def __str__(self) -> Any:
        return 5


NOT_REBUILT = [
    (EvilStr("x"), "<no message: __str__ raised SystemExit>"),
    (NumberStr(), "<no message: __str__ raised TypeError>"),
    (ValueError(EvilText("evil")), "evil"),
    (EvilArgs("a"), "a"),
    (Unpicklable(), "held"),
    (ValueError(object), "<class 'object'>"),
    (KeyboardInterrupt(), ""),
    (SystemExit(3), "3"),
    (GeneratorExit("g"), "g"),
    (asyncio.CancelledError("stop"), "stop"),
]


@pytest.mark.parametrize(
    ("error", "message"), NOT_REBUILT, ids=[type(e).__name__ for e, _ in NOT_REBUILT]
)
def test_what_is_recorded_and_does_not_come_back(error: BaseException, message: str) -> None:
    record = error_record(error)
    assert record["message"] == message
    assert json.loads(json.dumps(record)) == record
    if not isinstance(error, (EvilStr, NumberStr, EvilArgs)):
        assert error_from_record(record) is None
    assert message in str(RunFailedError.from_record(record, run_id="r", workflow="w"))


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_the_traceback_says_where() -> None:
    record = error_record(raised(ValueError("x")))
    assert f'File "{__file__}"' in record["traceback"]
    assert "in raised\n    raise error" in record["traceback"]


def test_causes_and_contexts_are_kept() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as outer:
        record = error_record(outer)
    assert record["cause"]["type"] == "builtins:KeyError"
    found = error_from_record(record)
    assert isinstance(found, ValueError)
    assert repr(found.__cause__) == "KeyError('inner')"
    hidden = ValueError("x")
    hidden.__context__, hidden.__suppress_context__ = KeyError(), True
    assert "cause" not in error_record(hidden)
    hidden.__suppress_context__ = False
    assert error_record(hidden)["cause"]["type"] == "builtins:KeyError"


def test_circular_and_endless_chains_end() -> None:
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first
    assert "cause" not in error_record(first)["cause"]
    error: BaseException = ValueError("0")
    for number in range(5_000):
        outer = ValueError(number)
        outer.__cause__ = error
        error = outer
    assert len(json.dumps(error_record(error))) < 10_000
    assert error_from_record(error_record(error)) is not None


def test_huge_messages_are_shortened() -> None:
    error = raised(ValueError("x" * (64 * 1024 * 1024)))
    shorter = raised(ValueError("x" * 1024 * 1024))
    record = error_record(error)
    assert record["message"].endswith("… (67,108,864 characters)")
    assert len(json.dumps(record)) < 50_000
    assert error_from_record(record) is None
    lines = lines_executed(lambda: error_record(shorter))
    assert lines_executed(lambda: error_record(error)) < 2 * lines


def test_a_deep_recursion_is_recorded() -> None:
    def deeper() -> None:
        deeper()

    try:
        deeper()
    except RecursionError as error:
        record = error_record(error)
    assert record["type"] == "builtins:RecursionError"
    assert 0 < len(record["traceback"]) < 30_000


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups and notes came with 3.11")
def test_groups_and_notes() -> None:
    group = ExceptionGroup("two of them", [ValueError("a"), ExceptionGroup("in", [KeyError("k")])])  # noqa: F821
    group.add_note("look here")
    record = json.loads(json.dumps(error_record(group)))
    assert [member["message"] for member in record["members"]] == ["a", "in (1 sub-exception)"]
    found = error_from_record(record)
    assert repr(found) == repr(group)
    assert found.__notes__ == ["look here"]
    many = ExceptionGroup("many", [ValueError(n) for n in range(1000)])  # noqa: F821
    record = error_record(many)
    assert (len(record["members"]), record["members_total"]) == (20, 1000)
    assert error_from_record(record) is None


HOSTILE = [
    {"type": "os:system", "args": '["touch /tmp/polos-canary"]', "state": "{}"},
    {"type": "builtins:eval", "args": '["1"]', "state": "{}"},
    {"type": "builtins:SystemExit", "args": "[1]", "state": "{}"},
    {"type": "builtins:BaseException", "args": "[1]", "state": "{}"},
    {"type": "nowhere:Gone", "args": "[]", "state": "{}"},
    {"type": "builtins:ValueError", "args": "5", "state": "{}"},
    {"type": "builtins:ValueError", "args": "[", "state": "{}"},
    {"type": "builtins:ValueError", "args": "[]", "state": "[]"},
    {"type": "builtins:ValueError", "args": "[]"},
    {"type": "builtins:UnicodeDecodeError", "args": "[1]", "state": "{}"},
    {"type": "builtins:ExceptionGroup", "members": 5},
    {"type": ["x"]},
]


@pytest.mark.parametrize("record", HOSTILE)
def test_hostile_records_give_nothing(record: Any) -> None:
    assert error_from_record(record) is None


def test_a_record_is_json_that_the_codec_stores() -> None:
    encode(error_record(raised(Http(500, url="\ud800"))))


def test_a_database_of_another_application_is_no_outage(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA application_id = 1")
        other.execute("CREATE TABLE orders (id INTEGER)")
        other.commit()
    with PolosClient(path) as client, pytest.raises(exceptions.StoreCorruptError, match="polos"):
        schedules.sync.list(client)

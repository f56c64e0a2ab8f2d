"""The decorator: accepted handlers and options, and errors at import."""

from __future__ import annotations

import asyncio
import copy
import functools
import importlib
import inspect
import pickle
import sys
import textwrap
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import pytest
import sample_types as t

from polos._runtime.backoff import Backoff
from polos.exceptions import (
    DuplicateWorkflowError,
    InvalidArgumentError,
    InvalidCronError,
    InvalidScheduleError,
)
from polos.payload import SchedulePayload
from polos.schedules import check_declaration
from polos.workflow import Workflow, isolated_registry, registry, set_trigger_check, workflow

if TYPE_CHECKING:
    from nowhere import OnlyForCheckers


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    with isolated_registry():
        yield


async def plain(ctx: Any, payload: SchedulePayload) -> dict[str, str]:
    """The plain one."""
    return {"status": "completed"}


def test_bare_called_and_with_options() -> None:
    @workflow
    async def first(ctx: Any) -> None: ...

    @workflow()
    async def second(ctx: Any) -> None: ...

    @workflow(id="a third")
    async def third(ctx: Any) -> None: ...

    assert [first.id, second.id, third.id] == ["first", "second", "a third"]
    assert registry() == {"first": first, "second": second, "a third": third}
    assert all(isinstance(each, Workflow) for each in registry().values())


def test_it_is_still_the_plain_function() -> None:
    made = workflow(id="x")(plain)
    assert asyncio.run(made(None, None)) == {"status": "completed"}
    assert made.fn is plain
    assert (made.__name__, made.__doc__, made.__wrapped__) == ("plain", "The plain one.", plain)
    assert inspect.signature(made) == inspect.signature(plain)
    assert repr(made).startswith("<Workflow 'x' at ")
    if sys.version_info >= (3, 12):
        assert inspect.iscoroutinefunction(made)


@workflow(id="at module level")
def module_level() -> int:
    return 7


def test_it_can_be_copied_and_pickled_as_a_function_can() -> None:
    assert copy.copy(module_level) is module_level
    assert copy.deepcopy([module_level])[0] is module_level
    if module_level.__module__ in sys.modules:
        assert pickle.loads(pickle.dumps(module_level)) is module_level


class Callable2:
    async def __call__(self, ctx: Any, payload: t.User) -> int:
        return 1

    def method(self, ctx: Any) -> int:
        return 2

    @staticmethod
    def static(ctx: Any) -> int:
        return 3


def wrapping(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


def positional(a: Any, b: Any, /) -> None: ...
def with_default(ctx: Any, payload: Any = None) -> None: ...
def with_more(ctx: Any, payload: Any, extra: int = 1, *, flag: bool = False) -> None: ...
def with_args(*args: Any, **kwargs: Any) -> None: ...
def only_default(ctx: Any = None) -> None: ...
def named_self(self: Any, payload: Any) -> None: ...
def three(a: Any, b: Any, c: Any) -> None: ...
def keyword(ctx: Any, *, needed: int) -> None: ...
def generator(ctx: Any) -> Iterator[int]:
    yield 1


async def async_generator(ctx: Any) -> AsyncIterator[int]:
    yield 1


HANDLERS = [
    (lambda: None, 0, False),
    (lambda ctx: None, 1, False),
    (lambda ctx, payload: None, 2, False),
    (plain, 2, True),
    (positional, 2, False),
    (with_default, 2, False),
    (with_more, 2, False),
    (with_args, 2, False),
    (lambda ctx, *rest: None, 2, False),
    (only_default, 1, False),
    (named_self, 2, False),
    (functools.partial(three, 1), 2, False),
    (functools.partial(plain, None), 1, True),
    (functools.partial(three, c=1), 2, False),
    (Callable2(), 2, True),
    (Callable2().method, 1, False),
    (Callable2.static, 1, False),
    (staticmethod(plain), 2, True),
    (wrapping(plain), 2, False),
    (print, 2, False),
]


@pytest.mark.parametrize(("fn", "arity", "is_async"), HANDLERS)
def test_arity_and_kind(fn: Any, arity: int, is_async: bool) -> None:
    made = workflow(id="x")(fn)
    assert (made.arity, made.is_async) == (arity, is_async)
    assert made.arguments("ctx", "payload") == ("ctx", "payload")[:arity]


REFUSED_HANDLERS = [
    (three, r"takes `\(a, b, c\)`; a handler takes `\(\)`, `\(ctx\)` or `\(ctx, payload\)`"),
    (keyword, "keyword `needed` has no default"),
    (generator, "generator function; use `return`"),
    (async_generator, "generator function; use `return`"),
    (Callable2.method, r"a method of a class.*workflow\(id=...\)\(obj.method\)"),
    (Callable2, "the handler is a class"),
    (classmethod(plain), "a class method"),
    (5, "`5`, which can't be called"),
    (functools.partial(three), "takes `"),
]


@pytest.mark.parametrize(("fn", "message"), REFUSED_HANDLERS)
def test_what_cannot_be_a_handler_is_refused_with_advice(fn: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        workflow(id="x")(fn)
    assert registry() == {}


def test_what_has_no_name_needs_an_id() -> None:
    for fn in (lambda ctx: None, functools.partial(plain)):
        with pytest.raises(InvalidArgumentError, match=r"pass one with `workflow\(id=...\)`"):
            workflow(fn)


def test_an_id_in_place_of_the_function_is_explained() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"to set the id, write `workflow\(id='daily'\)`"
    ):
        workflow("daily")  # type: ignore[call-overload]


def test_a_workflow_is_not_registered_twice() -> None:
    made = workflow(id="x")(plain)
    with pytest.raises(InvalidArgumentError, match="`x` is already a workflow"):
        workflow(id="y")(made)


IDS = [
    "a",
    "daily-report",
    "a b",
    "'; DROP TABLE x; --",
    "é😀",
    "\u202eabc",
    "x" * 255,
    "%_",
    "a:b",
]


@pytest.mark.parametrize("name", IDS)
def test_ids_are_kept_as_they_are(name: str) -> None:
    assert workflow(id=name)(plain).id == name
    assert list(registry()) == [name]


BAD_IDS = [
    ("", "non-empty"),
    (" a", "begins or ends with a blank"),
    ("a\n", "begins or ends with a blank"),
    ("a\0b", "control characters"),
    ("a\nb", "control characters"),
    ("a\x85b", "control characters"),
    ("a\ud800", "lone surrogates"),
    ("x" * 256, "has 256 characters, at most 255"),
    ("x" * 1_000_000, "has 1000000 characters"),
    (5, r"`5` of type `int` given, expected text; use `str\(...\)`"),
    (None.__class__, "expected text"),
    (b"x", "expected text"),
]


@pytest.mark.parametrize(("name", "message"), BAD_IDS)
def test_bad_ids_are_refused(name: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        workflow(id=name)(plain)
    assert str(caught.value).startswith("workflow id: ")
    assert len(str(caught.value)) < 300
    str(caught.value).encode()


BAD_OPTIONS = [
    ({"retries": -1}, "retries: `-1` given"),
    ({"retries": True}, "retries: `True` given"),
    ({"retries": 1.5}, "whole number"),
    ({"timeout": 0}, "more than 0 seconds"),
    ({"timeout": -1}, "more than 0 seconds"),
    ({"timeout": "5s"}, "expected a number of seconds or a timedelta"),
    ({"timeout": float("nan")}, "expected a number"),
    ({"timeout": 10**30}, "expected a number"),
    ({"backoff": -1}, "0 seconds and at most 100 years"),
    ({"backoff": "fast"}, "expected a number of seconds"),
    ({"on_failure": "log"}, "on_failure: `log` given, expected a function"),
    ({"on_missed": 1}, "on_missed: `1` given"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_bad_options_are_refused(options: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        workflow(id="x", **options)(plain)


def test_options_are_normalised() -> None:
    made = workflow(id="x", retries=2, backoff=3, timeout=1.5, on_failure=print)(plain)
    assert made.retries == 2
    assert made.backoff == Backoff(timedelta(seconds=3))
    assert made.timeout == timedelta(seconds=1.5)
    assert made.on_failure is print
    assert workflow(id="y")(plain).timeout is None
    with pytest.raises(TypeError, match="scheduel"):
        workflow(scheduel="* * * * *")  # type: ignore[call-overload]


# --- schedules -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, False])
def test_without_a_schedule_it_is_not_schedulable(value: Any) -> None:
    made = workflow(id="x", schedule=value)(plain)
    assert made.schedule is None
    assert not made.schedulable


def test_schedules_of_the_documentation() -> None:
    daily = workflow(id="daily-report", schedule="0 9 * * *")(plain)
    assert daily.schedule.spec["cron"] == "0 9 * * *"
    assert daily.schedule.spec["timezone"] == "UTC"
    zoned = {"cron": "0 17 * * *", "timezone": "America/New_York"}
    assert workflow(id="eod", schedule=zoned)(plain).schedule.spec["timezone"] == "America/New_York"
    assert workflow(id="user-reminder", schedule=True)(plain).schedule is True


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "expected a cron expression, a dict of options, or `True`"),
        (timedelta(minutes=1), r'for an interval, `{"every": ...}`'),
        (["0 9 * * *"], "expected a cron expression"),
        ({}, "exactly one of `cron`, `every` and `at`; none given"),
        ({"corn": "0 9 * * *"}, "unknown schedule option `corn`; did you mean `cron`"),
    ],
)
def test_other_schedules_are_refused(value: Any, message: str) -> None:
    with pytest.raises(InvalidScheduleError, match=message):
        workflow(id="x", schedule=value)(plain)
    assert registry() == {}


def test_the_core_checks_when_the_decorator_runs() -> None:
    def judge(spec: dict[str, Any]) -> None:
        seen.append(spec["cron"])
        if spec["cron"] != "0 9 * * *":
            raise InvalidCronError("cron field `hour`: `25` is out of range")

    seen: list[str] = []
    set_trigger_check(judge)
    try:
        workflow(id="x", schedule="0 9 * * *")(plain)
        workflow(id="y", schedule=True)(plain)
        with pytest.raises(InvalidCronError):
            workflow(id="z", schedule="0 25 * * *")(plain)
    finally:
        set_trigger_check(check_declaration)
    assert seen == ["0 9 * * *", "0 25 * * *"]
    assert set(registry()) == {"x", "y"}


# --- annotations -----------------------------------------------------------------------------


def eagerly(payload: Any, result: Any = inspect.Signature.empty) -> Any:
    def handler(ctx: Any, payload: Any) -> Any: ...

    handler.__annotations__ = {"payload": payload, "return": result}
    return workflow(id="x")(handler)


def test_annotations_are_resolved_when_they_are_asked_for() -> None:
    @workflow
    async def handler(ctx: OnlyForCheckers, payload: t.User | None) -> list[Later]: ...

    assert handler.payload_type == Optional[t.User]  # noqa: UP045 - equal to both spellings
    assert handler.result_type == list[Later]


class Later: ...


def test_classes_of_the_function_around_are_found() -> None:
    def make() -> Any:
        class Local: ...

        @workflow
        async def handler(ctx: Any, payload: list[Local]) -> Local: ...

        return Local, handler

    local, handler = make()
    assert (handler.payload_type, handler.result_type) == (list[local], local)


def test_what_cannot_be_resolved_is_as_if_missing() -> None:
    @workflow
    async def handler(ctx: Any, payload: OnlyForCheckers) -> OnlyForCheckers: ...

    assert handler.payload_type is None
    assert handler.result_type is None
    assert handler.payload_from({"a": 1}) == {"a": 1}


def test_missing_annotations() -> None:
    @workflow
    def handler(ctx, payload): ...  # type: ignore[no-untyped-def]

    assert handler.payload_type is None
    assert handler.result_type is None
    assert handler.takes_slot


def test_the_payloads_class_need_not_be_imported() -> None:
    namespace: dict[str, Any] = {"workflow": workflow}
    source = """
    from __future__ import annotations
    @workflow(id="daily-report", schedule="0 9 * * *")
    async def daily_report(ctx: WorkflowContext, payload: SchedulePayload):
        return {"status": "completed"}
    """
    exec(textwrap.dedent(source), namespace)
    assert namespace["daily_report"].payload_type is SchedulePayload


def test_an_applications_own_schedule_payload_comes_first() -> None:
    class SchedulePayload(t.BaseModel):
        key: str
        timestamp: Any

    @workflow
    async def handler(ctx: Any, payload: SchedulePayload) -> None: ...

    given = module_payload()
    made = handler.payload_from(given)
    assert type(made) is SchedulePayload
    assert made.timestamp == given.timestamp


def module_payload() -> SchedulePayload:
    return SchedulePayload._from_micros(0, None, "Asia/Tokyo", "sch_1", "user_1", 10**9)


def test_payloads_are_made_as_annotated() -> None:
    made = eagerly(t.User).payload_from({"id": "5", "email": "a"})
    assert made == t.User(id=5, email="a")
    with pytest.raises(InvalidArgumentError, match=r"payload of workflow `x`: not a valid `sample"):
        eagerly(t.User).payload_from({"id": "no"})


@pytest.mark.parametrize(
    "hint", ["SchedulePayload", SchedulePayload, Any, "SchedulePayload | None"]
)
def test_a_schedules_payload_is_passed_on_as_it_is(hint: Any) -> None:
    given = module_payload()
    assert eagerly(hint).payload_from(given) is given


def test_arguments_of_partials_and_objects() -> None:
    assert workflow(id="x")(Callable2()).payload_type is t.User
    assert workflow(id="y")(functools.partial(plain, None)).payload_type is None
    assert workflow(id="z")(wrapping(plain)).payload_type is SchedulePayload
    assert workflow(id="z2")(wrapping(plain)).result_type == dict[str, str]


# --- registry --------------------------------------------------------------------------------


def test_two_functions_under_one_id_are_an_error_that_names_both() -> None:
    @workflow(id="same")
    def first(ctx: Any) -> None: ...

    with pytest.raises(DuplicateWorkflowError) as caught:

        @workflow(id="same")
        def second(ctx: Any) -> None: ...

    message = str(caught.value)
    assert message.startswith("workflow id `same` is used by two functions: ")
    line = first.fn.__code__.co_firstlineno
    assert f"first` at {__file__}:{line} and" in message
    assert f"second` at {__file__}:{line + 5}; change one of the ids" in message
    assert registry()["same"] is first


def test_two_definitions_of_one_name_are_an_error() -> None:
    @workflow
    def report(ctx: Any) -> None: ...

    with pytest.raises(DuplicateWorkflowError):

        @workflow
        def report(ctx: Any) -> int: ...


def test_two_closures_of_one_function_are_an_error() -> None:
    def make(tenant: str) -> Any:
        @workflow(id="report")
        def handler(ctx: Any) -> str:
            return tenant

        return handler

    make("a")
    with pytest.raises(DuplicateWorkflowError):
        make("b")


def test_a_loop_that_registers_one_function_under_one_id_is_an_error() -> None:
    def register(tenant: str) -> None:
        @workflow(id="report")
        def handler(ctx: Any, payload: Any = None, name: str = tenant) -> str:
            return name

    register("a")
    with pytest.raises(DuplicateWorkflowError):
        register("b")


def test_the_same_function_again_replaces_itself() -> None:
    first = workflow(id="x")(plain)
    second = workflow(id="x", retries=1)(plain)
    assert registry()["x"] is second is not first


MODULE = """
from polos.workflow import workflow
@workflow(id="x")
def handler(ctx): return {version}
"""


def test_a_reloaded_module_replaces_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "reloaded_app.py"
    file.write_text(MODULE.format(version=1))
    module = importlib.import_module("reloaded_app")
    file.write_text("# another line, another size\n" + MODULE.format(version=2))
    importlib.reload(module)
    assert registry()["x"](None) == 2
    sys.modules.pop("reloaded_app")
    importlib.import_module("reloaded_app")
    assert registry()["x"](None) == 2
    spec = importlib.util.spec_from_file_location("another_name", file)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    del sys.modules["reloaded_app"]


DECORATED = """
import functools
from polos.workflow import workflow
from test_workflow_helper import wrapping
@workflow(id="x")
@wrapping
def handler(ctx): return 1
"""


def test_a_decorated_handler_is_reloaded_quietly_too(monkeypatch: pytest.MonkeyPatch) -> None:
    helper = types.ModuleType("test_workflow_helper")
    vars(helper)["wrapping"] = wrapping
    monkeypatch.setitem(sys.modules, "test_workflow_helper", helper)
    names: dict[str, Any] = {"__name__": "decorated_app"}
    for _ in range(2):
        exec(compile(DECORATED, "decorated_app.py", "exec"), names)
    workflow(id="y")(wrapping(plain))
    workflow(id="y")(wrapping(plain))
    assert set(registry()) == {"x", "y"}


def test_handlers_that_differ_in_what_they_are_bound_to_are_different() -> None:
    workflow(id="m")(Callable2().method)
    workflow(id="o")(Callable2())
    workflow(id="p")(functools.partial(three, 1))
    for name, fn in (
        ("m", Callable2().method),
        ("o", Callable2()),
        ("p", functools.partial(three, 2)),
    ):
        with pytest.raises(DuplicateWorkflowError):
            workflow(id=name)(fn)


def test_a_notebook_cell_that_is_run_again_replaces_quietly() -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for run in (1, 2):
        exec(compile(MODULE.format(version=run), f"/tmp/ipykernel_1/{run}.py", "exec"), names)
    assert registry()["x"](None) == 2


def test_two_definitions_in_one_cell_are_an_error() -> None:
    cell = compile(MODULE.format(version=1) + MODULE.format(version=2), "<cell>", "exec")
    with pytest.raises(DuplicateWorkflowError, match="<cell>:3 and `handler` at <cell>:7"):
        exec(cell, {"__name__": "__main__"})


def test_the_registry_is_isolated_and_restored() -> None:
    outer = workflow(id="x")(plain)
    with isolated_registry():
        assert registry() == {}
        workflow(id="y")(plain)
        with isolated_registry():
            assert registry() == {}
        assert set(registry()) == {"y"}
    assert registry() == {"x": outer}


def test_registering_from_many_threads() -> None:
    def register(number: int) -> None:
        for each in range(50):
            workflow(id=f"{number}-{each}")(plain)

    threads = [threading.Thread(target=register, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry()) == 400

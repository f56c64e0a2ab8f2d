"""Random combinations of faults: an order is fulfilled, and no finished step is repeated."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import polos.testing
from polos import WorkflowContext, runs, workflow
from polos.testing import BlockingVirtualTime, Fault, isolated_registry

STEPS = ("charge", "pack", "ship")

troubles = st.one_of(
    st.tuples(
        st.just("crash"),
        st.sampled_from([*STEPS, None]),
        st.sampled_from(["before_call", "before_commit", "after_commit"]),
    ),
    st.tuples(st.just("fail"), st.sampled_from(STEPS), st.integers(1, 2)),
    st.tuples(st.just("fail run"), st.just(None), st.just(1)),
    st.tuples(st.just("outage"), st.integers(1, 600), st.just(None)),
    st.tuples(st.just("crash now"), st.just(None), st.booleans()),
    st.tuples(st.just("stop"), st.just(None), st.just(None)),
)


def arm(t: BlockingVirtualTime, trouble: tuple[Any, ...]) -> Fault | None:
    """Inject the fault now or at its time."""
    kind, what, how = trouble
    while t._time._worker is None:  # earlier faults have happened, perhaps at a restart
        t.restart()
    if kind == "crash":
        return t.crash_at(what, workflow="order", when=how)
    if kind == "fail":
        return t.fail_step(what, times=how)
    if kind == "fail run":
        return t.fail_run("order")
    if kind == "outage":
        with t.outage():
            t.advance(seconds=what)
    elif kind == "crash now":
        t.crash()
        t.advance(seconds=5)
        t.restart(elsewhere=how)
    else:
        t.stop()
        t.advance(seconds=5)
        t.restart()
    return None


def repeated(faults: list[Fault]) -> Counter[str]:
    """Return the steps that are executed again since their result was lost."""
    again: Counter[str] = Counter()
    for fault in faults:
        if fault._kind == "crash" and fault._moment == "before_commit" and fault._step:
            again[fault._step] += fault.happened
    return again


@given(st.lists(troubles, max_size=8))
@settings(
    max_examples=60,
    deadline=None,  # the result doesn't depend on timing
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_an_order_is_fulfilled(storm: list[tuple[Any, ...]]) -> None:
    executed: Counter[str] = Counter()

    with isolated_registry():

        @workflow(retries=50, backoff=1)
        async def order(ctx: WorkflowContext) -> str:
            for step in STEPS:
                await ctx.step.run(step, executed.update, [step], retries=20, backoff=1)
            return "fulfilled"

        with polos.testing.clock("2026-01-01T00:00Z") as t:
            handle = runs.sync.invoke(t.client, order)
            faults = []
            for trouble in storm:
                fault = arm(t, trouble)
                if fault is not None:
                    faults.append(fault)
            for _ in range(len(storm) + 1):
                t.advance(minutes=10)
                while t._time._worker is None:
                    t.restart()
            assert handle.sync.result() == "fulfilled"
            for fault in faults:
                fault.disarm()
            assert [step.status for step in t.steps(handle.id)] == ["succeeded"] * 3
    assert executed == Counter(STEPS) + repeated(faults)

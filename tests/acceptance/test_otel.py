"""Traces and metrics in a real OpenTelemetry SDK with in-memory exporters."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased

import polos.testing
from polos import SyncWorkflowContext, WorkflowContext, otel, workflow
from polos._runtime import instrumentation as _observe
from polos.testing import VirtualTime

PYTHON = Path(__file__).parents[2] / "python"


class Telemetry:
    """The exported spans and metrics."""

    def __init__(self, sampler: Any = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self.reader])
        otel.instrument(self.provider, self.meters)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def points(self, name: str) -> dict[tuple[Any, ...], Any]:
        data = self.reader.get_metrics_data()
        found = {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            if metric.name == name:
                for point in metric.data.data_points:
                    found[tuple(point.attributes.values())] = point
        return found


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    yield Telemetry()
    otel.uninstrument()


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.trace_id


def is_under(child: ReadableSpan, parent: ReadableSpan) -> bool:
    assert parent.context is not None
    return child.parent is not None and child.parent.span_id == parent.context.span_id


async def test_a_run_is_a_trace_from_its_schedule_to_its_steps(
    telemetry: Telemetry, polos_clock: VirtualTime
) -> None:
    inner = trace.get_tracer("application", tracer_provider=telemetry.provider)

    async def fetch() -> int:
        with inner.start_as_current_span("query"):
            return 1

    def total(numbers: list[int]) -> int:
        with inner.start_as_current_span("sum"):
            return sum(numbers)

    @workflow(schedule={"cron": "0 9 * * *", "timezone": "Europe/Paris"})
    async def report(ctx: WorkflowContext) -> None:
        await ctx.step.run("fetch", fetch)
        await ctx.step.run("total", total, [1, 2])
        with inner.start_as_current_span("render"):
            await asyncio.sleep(0)

    await polos_clock.advance(days=1)
    (run,) = await polos_clock.runs()
    (root,) = telemetry.named("schedule report")
    (executed,) = telemetry.named("run report")
    assert root.parent is None
    assert is_under(executed, root)
    for step, own in (("step fetch", "query"), ("step total", "sum")):
        (span,) = telemetry.named(step)
        assert is_under(span, executed)
        assert is_under(telemetry.named(own)[0], span), "in a thread as well"
    assert is_under(telemetry.named("render")[0], executed)
    assert len({trace_of(span) for span in telemetry.spans}) == 1
    assert root.attributes is not None
    assert root.attributes["polos.run_id"] == run.id
    assert root.attributes["polos.slot"] == "2026-01-01T08:00:00Z"
    assert executed.attributes is not None
    assert executed.attributes["polos.outcome"] == "succeeded"


async def test_a_resumed_run_continues_its_trace(
    telemetry: Telemetry, polos_clock: VirtualTime
) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step.run("charge", len, [1])
        await ctx.step.sleep("a day", timedelta(days=1))
        await ctx.step.run("ship", len, [1])

    handle = await order.invoke(polos_clock.client)
    polos_clock.crash_at("ship", when="before_commit")
    await polos_clock.advance(days=2)
    await polos_clock.restart()
    # As in another process: nothing of this process's memory is needed.
    otel.instrument(telemetry.provider, telemetry.meters)
    await handle.result()

    assert len(telemetry.named("invoke order")) == 1
    executions = telemetry.named("run order")
    outcomes = [dict(span.attributes or {})["polos.outcome"] for span in executions]
    assert outcomes == ["parked", "lost", "succeeded"]
    assert all(is_under(span, telemetry.named("invoke order")[0]) for span in executions)
    assert len(telemetry.named("step charge")) == 1, "a step that is done is not executed again"
    assert len(telemetry.named("step ship")) == 2
    assert len({trace_of(span) for span in telemetry.spans}) == 1


async def test_a_child_run_is_linked(telemetry: Telemetry, polos_clock: VirtualTime) -> None:
    @workflow
    async def child() -> None: ...

    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.step.invoke(child)

    await parent.run(polos_clock.client)
    (invoked,) = telemetry.named("invoke child")[:1]
    (executed,) = telemetry.named("run child")
    assert trace_of(invoked) == trace_of(telemetry.named("run parent")[0])
    assert [link.context.trace_id for link in invoked.links] == [trace_of(executed)]


async def test_runs_have_traces_of_their_own(
    telemetry: Telemetry, polos_clock: VirtualTime
) -> None:
    @workflow(schedule="0 * * * *")
    async def hourly() -> None: ...

    with trace.get_tracer("test", tracer_provider=telemetry.provider).start_as_current_span("x"):
        await polos_clock.advance(hours=10)
    assert len({trace_of(span) for span in telemetry.named("run hourly")}) == 10


async def test_failures_are_seen(telemetry: Telemetry, polos_clock: VirtualTime) -> None:
    @workflow(retries=1, backoff=60)
    async def job(ctx: WorkflowContext) -> None:
        await ctx.step.run("try", len, [1], retries=1, backoff=1)

    polos_clock.fail_step("try", error=ValueError("no luck"))
    polos_clock.fail_run(job, error=OSError("no disk"))
    await job.run(polos_clock.client)
    failed, succeeded = telemetry.named("run job")
    assert not failed.status.is_ok
    assert failed.events[0].attributes is not None
    assert failed.events[0].attributes["exception.message"] == "no disk"
    assert succeeded.status.is_ok
    first, second = telemetry.named("step try")
    assert not first.status.is_ok
    assert (second.attributes or {})["polos.step.attempt"] == 2

    executions = telemetry.points("polos.runs")
    assert {key: point.value for key, point in executions.items()} == {
        ("job", "failed"): 1,
        ("job", "succeeded"): 1,
    }
    steps = telemetry.points("polos.step.duration")
    assert {key: point.count for key, point in steps.items()} == {
        ("job", "failed"): 1,
        ("job", "succeeded"): 1,
    }
    assert telemetry.points("polos.runs.active")["job",].value == 0


async def test_lateness_is_measured(telemetry: Telemetry, polos_clock: VirtualTime) -> None:
    @workflow(schedule="0 * * * *")
    async def hourly() -> None: ...

    await polos_clock.advance(minutes=30)
    await polos_clock.stop()
    await polos_clock.advance(hours=1)
    await polos_clock.restart()
    await polos_clock.advance(hours=1)
    lateness = telemetry.points("polos.run.lateness")["hourly",]
    assert (lateness.count, lateness.min, lateness.max) == (2, 0, 1800)
    late, punctual = telemetry.named("schedule hourly")
    assert late.end_time is not None
    assert late.start_time is not None
    assert late.end_time - late.start_time == 1_800_000_000_000
    assert punctual.end_time == punctual.start_time


async def test_a_sync_handler_is_traced(telemetry: Telemetry, polos_clock: VirtualTime) -> None:
    @workflow
    def job(ctx: SyncWorkflowContext) -> str:
        ctx.step.run("count", len, [1])
        return f"{trace.get_current_span().get_span_context().trace_id:x}"

    seen = await job.run(polos_clock.client)
    (executed,) = telemetry.named("run job")
    assert f"{trace_of(executed):x}" == seen
    assert len(telemetry.named("step count")) == 1


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
async def test_a_trace_is_sampled_as_a_whole(ratio: float, polos_clock: VirtualTime) -> None:
    telemetry = Telemetry(ParentBased(TraceIdRatioBased(ratio)))

    @workflow
    async def job(ctx: WorkflowContext) -> None:
        await ctx.step.sleep("a day", timedelta(days=1))

    try:
        await asyncio.gather(*(job.run(polos_clock.client) for _ in range(40)))
    finally:
        otel.uninstrument()
    spans_by_trace: dict[int, int] = {}
    for span in telemetry.spans:
        spans_by_trace[trace_of(span)] = spans_by_trace.get(trace_of(span), 0) + 1
    assert set(spans_by_trace.values()) <= {3}, "all three spans, or none"
    assert len(spans_by_trace) in {0.0: [0], 0.5: range(5, 36), 1.0: [40]}[ratio]


async def test_nothing_is_exported_that_is_not_sampled(polos_clock: VirtualTime) -> None:
    telemetry = Telemetry(ALWAYS_OFF)

    @workflow
    async def job() -> None: ...

    try:
        await job.run(polos_clock.client)
    finally:
        otel.uninstrument()
    assert telemetry.spans == []


async def test_after_uninstrument_nothing_is_reported(polos_clock: VirtualTime) -> None:
    telemetry = Telemetry()
    otel.uninstrument()
    otel.uninstrument()

    @workflow
    async def job() -> None: ...

    await job.run(polos_clock.client)
    assert telemetry.spans == []


async def test_errors_of_instrumentation_affect_no_run(
    polos_clock: VirtualTime, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def run(self, *_: Any) -> Any:
            raise RuntimeError("no span")

        def step(self, *_: Any) -> Any:
            return 5  # no context manager

        invoked = run

    @workflow
    async def job(ctx: WorkflowContext) -> int:
        return await ctx.step.run("count", len, [1])

    broken = Broken()
    _observe.observe(broken)
    try:
        with caplog.at_level(logging.ERROR, "polos.worker"):
            assert await job.run(polos_clock.client) == 1
    finally:
        _observe.unobserve(broken)
    assert "an observer of runs failed" in caplog.text


def test_without_opentelemetry_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import polos\n"
        "try:\n    import polos.otel\nexcept ImportError as error:\n    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(PYTHON)},
        capture_output=True,
        text=True,
    )
    assert "pip install 'polos[otel]'" in result.stdout, result.stderr


async def test_counts_are_those_of_the_core(telemetry: Telemetry) -> None:
    # Counts are per process, and no other test has a workflow of this name.
    @workflow(id="counted in otel", schedule="0 * * * *")
    async def counted() -> None: ...

    async with polos.testing.clock("2026-01-01T00:00:30+00:00") as t:
        await t.advance(hours=3)
        points = telemetry.points("polos.slots")
        assert points["counted in otel", "ran"].value == 3
        assert points["counted in otel", "missed"].value == 0
        assert telemetry.points("polos.runs.ended")["counted in otel", "succeeded"].value == 3
    assert telemetry.points("polos.slots")["counted in otel", "ran"].value == 3, "it only grows"
    otel.uninstrument()
    assert telemetry.points("polos.slots") == {}

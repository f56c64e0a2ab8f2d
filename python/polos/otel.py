"""OpenTelemetry traces and metrics: ``polos.otel.instrument()``.

Needs ``pip install 'polos[otel]'``.

Each run is a trace. Its first span is what started the run (a schedule: from the slot to the start
of the handler). Below it is one span for each execution of the handler, and below that one for each
execution of a step's function. Spans that the application opens nest inside.

The trace's id follows from the run's, so a run that is resumed in another process continues its
trace, without anything being stored.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timezone
from typing import TYPE_CHECKING, Any

from polos import _polos
from polos._core.instants import from_micros
from polos._core.real_datetime import datetime
from polos._runtime import counts
from polos._runtime.instrumentation import observe, unobserve

try:
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.metrics import Observation
    from opentelemetry.trace import (
        NonRecordingSpan,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
    )
except ImportError as missing:
    raise ImportError("polos.otel needs OpenTelemetry: pip install 'polos[otel]'") from missing

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from polos._runtime.active_run import ActiveRun

__all__ = ["instrument", "uninstrument"]

_NAME = "polos"

_lock = threading.Lock()
_instrumented: _Telemetry | None = None


def instrument(
    tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> None:
    """Trace and measure all runs that workers of this process execute from now on.

    Without arguments it uses the global providers. A second call switches to the new ones.
    """
    global _instrumented
    with _lock:
        _stop()
        _instrumented = _Telemetry(
            tracer_provider if tracer_provider is not None else trace.get_tracer_provider(),
            meter_provider if meter_provider is not None else metrics.get_meter_provider(),
        )
        observe(_instrumented)


def uninstrument() -> None:
    """Stop tracing and measuring."""
    with _lock:
        _stop()


def _stop() -> None:
    global _instrumented
    if _instrumented is not None:
        unobserve(_instrumented)
        _instrumented.is_active = False
        _instrumented = None


class _Telemetry:
    """Observes runs and reports them to OpenTelemetry."""

    def __init__(self, tracer_provider: TracerProvider, meter_provider: MeterProvider) -> None:
        self._tracer = tracer_provider.get_tracer(_NAME, _polos.__version__)
        self._roots = _Roots(tracer_provider)
        meter = meter_provider.get_meter(_NAME, _polos.__version__)
        self._active = meter.create_up_down_counter(
            "polos.runs.active", unit="{run}", description="Handlers in progress."
        )
        self._executions = meter.create_counter(
            "polos.runs", unit="{run}", description="Executions of handlers that have ended."
        )
        self._duration = meter.create_histogram(
            "polos.run.duration", unit="s", description="How long executions of handlers took."
        )
        self._lateness = meter.create_histogram(
            "polos.run.lateness", unit="s", description="From a slot to the start of its handler."
        )
        self._step_duration = meter.create_histogram(
            "polos.step.duration", unit="s", description="How long executions of steps took."
        )
        self.is_active = True
        meter.create_observable_counter(
            "polos.slots",
            [self._counted("slots", "polos.outcome")],
            unit="{slot}",
            description="Slots that the workers of this process have decided.",
        )
        meter.create_observable_counter(
            "polos.runs.ended",
            [self._counted("runs", "polos.status")],
            unit="{run}",
            description="Runs whose end the workers of this process have recorded.",
        )

    def _counted(self, kind: str, label: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """Return the callback of a counter: the counts of the core, as on the health port."""

        def observed(options: CallbackOptions) -> Iterable[Observation]:
            if not self.is_active:
                return
            for (counted, workflow, value), count in counts.totals().items():
                if counted == kind:
                    yield Observation(count, {"polos.workflow": workflow, label: value})

        return observed

    @contextmanager
    def run(self, active: ActiveRun) -> Iterator[None]:
        """See :class:`polos._runtime.instrumentation.Observer`."""
        about = {"polos.workflow": active.workflow.id}
        late = _lateness(active)
        if late is not None and _is_begun_here(active):
            self._lateness.record(late, about)
        parent = self._roots.context_of(active, late or 0.0)
        begun = time.perf_counter()
        self._active.add(1, about)
        try:
            with self._tracer.start_as_current_span(
                f"run {active.workflow.id}",
                context=parent,
                kind=SpanKind.CONSUMER,
                attributes=_attributes(active),
            ) as span:
                try:
                    yield
                finally:
                    _note_end(span, active)
        finally:
            self._active.add(-1, about)
            ended = {**about, "polos.outcome": active.outcome or "lost"}
            self._executions.add(1, ended)
            self._duration.record(time.perf_counter() - begun, ended)

    @contextmanager
    def step(self, active: ActiveRun, name: str, attempt: int) -> Iterator[None]:
        """See :class:`polos._runtime.instrumentation.Observer`."""
        about: dict[str, str | int] = {
            "polos.step": name,
            "polos.step.attempt": attempt,
            "polos.run_id": active.run_id,
        }
        begun = time.perf_counter()
        outcome = "failed"
        try:
            with self._tracer.start_as_current_span(f"step {name}", attributes=about):
                yield
            outcome = "succeeded"
        finally:
            # Without the step's name: numbered steps in a loop would each be a series.
            measured = {"polos.workflow": active.workflow.id, "polos.outcome": outcome}
            self._step_duration.record(time.perf_counter() - begun, measured)

    def invoked(self, active: ActiveRun, name: str, child: str) -> None:
        """See :class:`polos._runtime.instrumentation.Observer`."""
        about = {"polos.step": name, "polos.run_id": active.run_id, "polos.child_run_id": child}
        link = trace.Link(self._roots.of(child))
        self._tracer.start_span(f"invoke {name}", attributes=about, links=[link]).end()


class _Roots:
    """The first span of each run's trace. Its ids are derived from the run's id."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer: Tracer = provider.get_tracer(_NAME, _polos.__version__)
        self._sampler: Any = getattr(provider, "sampler", None)
        self._ids: _GivenIds | None = None
        if hasattr(self._tracer, "id_generator"):
            self._ids = _GivenIds(self._tracer.id_generator)
            self._tracer.id_generator = self._ids  # of this tracer only

    def context_of(self, active: ActiveRun, late: float) -> Context:
        """Return the parent of the run's execution spans; the first execution creates it."""
        root = self.of(active.run_id)
        if self._ids is not None and _is_begun_here(active):
            with self._ids.given(root.trace_id, root.span_id):
                now = time.time_ns()
                self._tracer.start_span(
                    _started_by(active),
                    context=Context(),  # not the context in which the event loop was started
                    kind=SpanKind.PRODUCER,
                    attributes=_attributes(active),
                    start_time=now - int(max(0.0, late) * 1e9),
                ).end(now)
        return trace.set_span_in_context(NonRecordingSpan(root), Context())

    def of(self, run_id: str) -> SpanContext:
        """Return the first span of the run's trace, in whichever process it was created."""
        trace_id, span_id = _digest(run_id, 16), _digest(run_id, 8)
        flags = TraceFlags(TraceFlags.SAMPLED if self._is_sampled(trace_id) else 0)
        return SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)

    def _is_sampled(self, trace_id: int) -> bool:
        if self._sampler is None:
            return True
        decided = self._sampler.should_sample(Context(), trace_id, _NAME, SpanKind.PRODUCER)
        return bool(decided.decision.is_sampled())


class _GivenIds:
    """Generates given ids inside ``given``, and otherwise those of ``others``."""

    def __init__(self, others: Any) -> None:
        self._others = others
        self._given = threading.local()

    @contextmanager
    def given(self, trace_id: int, span_id: int) -> Iterator[None]:
        self._given.ids = (trace_id, span_id)
        try:
            yield
        finally:
            self._given.ids = None

    def _or(self, index: int, other: Any) -> int:
        ids = getattr(self._given, "ids", None)
        found: int = other() if ids is None else ids[index]
        return found

    def generate_trace_id(self) -> int:
        return self._or(0, self._others.generate_trace_id)

    def generate_span_id(self) -> int:
        return self._or(1, self._others.generate_span_id)

    def is_trace_id_random(self) -> bool:
        # A digest is distributed as evenly as a random number, on which samplers rely.
        return True


def _is_begun_here(active: ActiveRun) -> bool:
    """Whether this is the run's first execution.

    A run that was interrupted before it recorded a step looks the same: its root span is then
    reported twice, with the same ids.
    """
    return active.attempt == 1 and active.journal.is_empty()


def _digest(run_id: str, size: int) -> int:
    made = hashlib.blake2b(run_id.encode(), digest_size=size, person=b"polos")
    return int.from_bytes(made.digest(), "big") or 1


def _started_by(active: ActiveRun) -> str:
    what = active.origin if active.schedule_id is None else "schedule"
    return f"{what} {active.workflow.id}"


def _lateness(active: ActiveRun) -> float | None:
    slot = active.slot
    if slot is None or active.origin != "schedule":
        return None
    return (active.now() - slot) / 1e6


def _attributes(active: ActiveRun) -> dict[str, str | int]:
    found: dict[str, str | int] = {
        "polos.run_id": active.run_id,
        "polos.workflow": active.workflow.id,
        "polos.key": active.key,
        "polos.origin": active.origin,
        "polos.attempt": active.attempt,
    }
    if active.schedule_id is not None:
        found["polos.schedule_id"] = active.schedule_id
    if active.slot is not None:
        found["polos.slot"] = _text(from_micros(active.slot))
    return found


def _text(instant: datetime) -> str:
    return instant.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def _note_end(span: Span, active: ActiveRun) -> None:
    """Set the outcome of an execution: the run completed, or it continues later."""
    span.set_attribute("polos.outcome", active.outcome or "lost")
    if active.failure is not None:
        span.record_exception(active.failure)
        span.set_status(Status(StatusCode.ERROR, type(active.failure).__name__))
    elif active.outcome == "succeeded":
        span.set_status(StatusCode.OK)

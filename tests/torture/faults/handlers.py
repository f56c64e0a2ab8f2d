"""Faults of handlers: what they raise, return, and accept; hanging; cancellation."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

from apps.handler_acts import FAILURES, HANGING, STORABLE, UNSTORABLE, nested, same
from checker import OracleReader, check_file
from programs import Program

from harness import Bench, until
from polos import (
    ErrorInfo,
    PayloadTooLargeError,
    PolosError,
    Run,
    RunNotFoundError,
    SerializationError,
    runs,
)

ENDED = ("succeeded", "failed", "cancelled")


def handler_worker(bench: Bench, *options: object) -> Program:
    return Program(bench, "handler_worker.py", bench.database, bench.oracle, *options).ready()


def wait_for_completion(bench: Bench, id: str, timeout: float = 60.0) -> Run:
    """I4: wait until the run has completed; return it."""
    until(lambda: bench.status(id) in ENDED, timeout)
    run = runs.sync.get(bench.client, id)
    bench.verdict.expect("I4", run.status in ENDED, f"{run.workflow} {run.id} is {run.status}")
    return run


def check_alive(bench: Bench, worker: Program, what: str) -> None:
    """I7: the worker is alive, and executes a run."""
    bench.verdict.expect(
        "I7", worker.is_alive(), f"{what}: the worker has ended: {worker.output[-800:]}"
    )
    if worker.is_alive():
        run = wait_for_completion(bench, bench.invoke("echo", what))
        bench.verdict.expect(
            "I7", run.result == what, f"{what}: afterwards a run returns {run.result!r}"
        )


def close(bench: Bench, worker: Program) -> None:
    """Close the worker; the file is sound then."""
    worker.term()
    bench.client.close()
    check_file(bench.verdict, bench.database)


def entries(bench: Bench) -> Counter[str]:
    """Return how often each run's handler was started."""
    return Counter(line.run for line in OracleReader(bench.oracle).read() if line.kind == "enter")


def have_entered(bench: Bench, ids: list[str]) -> bool:
    seen = entries(bench)
    return all(seen[id] for id in ids)


def f25(bench: Bench) -> None:
    """Handlers and steps raise every kind of error."""
    worker = handler_worker(bench)
    verdict = bench.verdict
    asked: dict[str, tuple[str, str]] = {}
    for _ in range(bench.times(5)):
        for name, workflow in itertools.product(
            FAILURES, ("act-async", "act-sync", "act-step", "act-step-of-sync")
        ):
            if "step" in workflow and not FAILURES[name].in_step:
                continue
            asked[bench.invoke(workflow, {"act": name})] = name, workflow
            bench.injections += 1
    for id, (name, workflow) in asked.items():
        run = wait_for_completion(bench, id)
        what = f"{name} in {workflow}"
        verdict.expect("I4", run.status == "failed", f"{what}: {run.status}")
        error = run.error
        if "step" in workflow:
            error = next((step.error for step in run.steps if step.name == "act"), None)
            names = [step.name for step in run.steps]
            verdict.expect("I3", names == ["act"], f"{what}: continued with {names}")
        is_right = (
            error is not None
            and FAILURES[name].type in error.type
            and FAILURES[name].text in error.message
        )
        verdict.expect(
            "I12", is_right, f"{what}: recorded as {error and (error.type, error.message)}"
        )
        text = "".join(each.traceback for each in causes(error))
        verdict.expect("I12", "handler_acts.py" in text, f"{what}: traceback {text[:200]!r}")
        check_size(bench, run, what)
    entered = entries(bench)
    for id in asked:
        verdict.expect("I5", entered[id] == 1, f"{asked[id]}: started {entered[id]} times")
    check_alive(bench, worker, "what handlers raise")
    close(bench, worker)


def causes(error: ErrorInfo | None) -> Iterator[ErrorInfo]:
    """Yield an error and its causes."""
    while error is not None:
        yield error
        error = error.cause


def check_size(bench: Bench, run: Run, what: str) -> None:
    """I9: the record of an error is bounded."""
    size = sum(len(error.message) + len(error.traceback) for error in causes(run.error))
    bench.verdict.expect("I9", size < 1_000_000, f"{what}: its error has {size} characters")


def f26(bench: Bench) -> None:
    """Handlers hang, or ignore their timeout or cancellation; threads never end."""
    verdict = bench.verdict
    for _ in range(bench.times(5)):
        # Less concurrency than hanging handlers: one that timed out must free its permit.
        worker = handler_worker(bench, "--concurrency", 6, "--drain", 0.5, "--threads", 32)
        asked = {}
        for name in HANGING:
            for workflow in ("limited", "limited-step"):
                asked[bench.invoke(workflow, {"act": name})] = name, workflow
                bench.injections += 1
        asked[bench.invoke("limited-sync", {"act": "thread"})] = "thread", "limited-sync"
        bench.injections += 1
        for id, (name, workflow) in asked.items():
            run = wait_for_completion(bench, id, 90.0)
            what = f"{name} in {workflow}"
            # A step that returns a value has done its work, in time or not.
            may = ("failed", "succeeded") if workflow == "limited-step" else ("failed",)
            verdict.expect("I4", run.status in may, f"{what}: {run.status}")
            text = "" if run.error is None else f"{run.error.type} {run.error.message}"
            is_described = "imeout" in text or "longer than" in text
            verdict.expect("I12", run.status == "succeeded" or is_described, f"{what}: {text}")
        check_alive(bench, worker, "handlers that hang")
        output = worker.output
        verdict.expect(
            "I12", "ignores its cancellation" in output, "the handler that remains isn't logged"
        )
        # Handlers without a timeout don't delay the end of the worker.
        left = [bench.invoke("unlimited", {"act": name}) for name in HANGING if name != "thread"]
        left += [bench.invoke("unlimited-sync", {"act": "thread"})]
        until(partial(have_entered, bench, left[:5]), 10)
        took = worker.term()
        verdict.expect("I11", took < 8, f"draining took {took:.1f} s")
        bench.injections += len(left)
        for id in left:
            status = bench.status(id)
            verdict.expect("I4", status in ("queued", "cancelled", *ENDED), f"{id} is {status}")
            runs.sync.cancel(bench.client, id)
            verdict.expect("I4", bench.status(id) in ENDED, f"{id} can't be cancelled")
    bench.client.close()
    check_file(verdict, bench.database)


def f27(bench: Bench) -> None:
    """Runs are cancelled at any moment from another process, by several threads, and again."""
    worker = handler_worker(bench, "--concurrency", 20)
    verdict = bench.verdict
    answers: dict[str, list[str]] = defaultdict(list)

    def cancel(id: str) -> None:
        answers[id].append(runs.sync.cancel(bench.client, id))

    asked = []
    for number in range(bench.times(500, 12)):
        pace = bench.random.choice([0.0, 0.001, 0.01, 0.05])
        id = bench.invoke("walk", pace)
        asked.append(id)
        # From before the worker knows of the run until after its end.
        time.sleep(bench.random.choice([0.0, 0.002, 0.02, 0.1, 0.3]) * bench.random.random())
        if number % 3 == 0:
            threads = [threading.Thread(target=cancel, args=(id,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            cancel(id)
        bench.injections += 1
    first = {id: wait_for_completion(bench, id) for id in asked}
    for id in asked:
        cancel(id)
    check_alive(bench, worker, "cancellations")
    lines = defaultdict(list)
    for line in OracleReader(bench.oracle).read():
        lines[line.run].append(line)
    for id, run in first.items():
        again = runs.sync.get(bench.client, id)
        verdict.expect("I4", again == run, f"{id} has changed after its end: {run}, {again}")
        verdict.expect("I4", run.status in ("succeeded", "cancelled"), f"{id}: {run.error}")
        verdict.expect("I5", answers[id][-1] == run.status, f"{id}: {answers[id]}, {run.status}")
        was_ended = [answer for answer in answers[id] if answer in ENDED]
        verdict.expect("I5", set(was_ended) == {run.status}, f"{id}: {answers[id]}")
        kinds = [(line.kind, line.step) for line in lines[id]]
        if run.status == "succeeded":
            expected = [(kind, f"{n}") for n in range(20) for kind in ("before", "after")]
            verdict.expect("I3", kinds == expected, f"{id} has succeeded without {expected}")
            continue
        verdict.expect(
            "I5", ("before", "cleanup") not in kinds, f"{id}: executed a step after it was stopped"
        )
        assert run.finished_at is not None
        late = [line for line in lines[id] if line.time > run.finished_at.timestamp() + 0.001]
        verdict.expect("I5", not late, f"{id}: ended at {run.finished_at}, and then {late}")
        recorded = [step.name for step in run.steps if step.status == "succeeded"]
        done = [step for kind, step in kinds if kind == "after"]
        extra = set(recorded) - set(done)
        verdict.expect("I3", not extra, f"{id}: {extra} are recorded and were not executed")
    statuses = Counter(run.status for run in first.values())
    bench.remarks.append(f"ended as {dict(statuses)}")
    close(bench, worker)


def f28(bench: Bench) -> None:
    """Huge and unusual values are returned unchanged, or are refused and leave nothing."""
    worker = handler_worker(bench)
    verdict = bench.verdict
    for _ in range(bench.times(5)):
        for name, make in STORABLE.items():
            check_value(bench, name, make())
            run = wait_for_completion(bench, bench.invoke("act-step", {"act": name}))
            check_round_trip(bench, f"{name} as a step's result", run, make())
            bench.injections += 2
        for name, value in {
            "nested-10000": nested(10_000),
            "17-mebibytes": "x" * (17 << 20),
            "64-mebibytes": "x" * (64 << 20),
        }.items():
            check_value(bench, name, value)
            bench.injections += 1
        count = max(100, round(10_000 * min(1.0, bench.scale)))
        run = wait_for_completion(bench, bench.invoke("steps", count), 300.0)
        verdict.expect("I5", run.result == count * (count - 1) // 2, f"{count} steps: {run.result}")
        verdict.expect("I5", len(run.steps) == count, f"{len(run.steps)} steps, not {count}")
        bench.injections += 1
    check_alive(bench, worker, "unusual values")
    close(bench, worker)


def check_value(bench: Bench, name: str, value: Any) -> None:
    """Expect that a handler returns the value unchanged, or a refusal that leaves nothing."""
    count = len(runs.sync.list(bench.client, limit=None))
    try:
        id = bench.invoke("echo", value)
    except SerializationError as error:
        left = len(runs.sync.list(bench.client, limit=None))
        bench.verdict.expect("I10", left == count, f"{name} was refused, and has left a run")
        is_clear = "payload" in str(error) and len(str(error)) < 2_000
        bench.verdict.expect("I12", is_clear, f"{name}: {str(error)[:300]}")
        if isinstance(error, PayloadTooLargeError):
            bench.verdict.expect(
                "I12", "16" in str(error), f"{name}: the error doesn't name the limit: {error}"
            )
        bench.verdict.expect("I10", name not in MUST, f"{name} was refused: {str(error)[:200]}")
        return
    check_round_trip(bench, name, wait_for_completion(bench, id), value)


# Every JSON value must be accepted.
MUST = {"none", "false", "empty", "1-kibibyte", "1-mebibyte", "15-mebibytes", "many-small", "nul"}


def check_round_trip(bench: Bench, name: str, run: Run, value: Any) -> None:
    if run.status == "succeeded":
        text = f"{name} came back as {str(run.result)[:200]!r}"
        bench.verdict.expect("I10", same(value, run.result), text)
        return
    error = run.error
    is_clear = error is not None and "Serialization" in error.type
    bench.verdict.expect("I12", is_clear, f"{name}: {error and (error.type, error.message[:200])}")
    bench.verdict.expect("I10", name not in MUST, f"{name} was refused as a result")


# What a refusal names if it isn't the type of the whole value.
CAUSES = ("itself", "deep", "`object`", "16 MiB", "limit")


def f29(bench: Bench) -> None:
    """Arguments and results can't be stored."""
    worker = handler_worker(bench)
    verdict = bench.verdict
    for _ in range(bench.times(5)):
        for name, make in UNSTORABLE.items():
            for workflow in ("act-async", "act-sync", "act-step", "act-step-of-sync"):
                run = wait_for_completion(bench, bench.invoke(workflow, {"act": name}))
                bench.injections += 1
                what = f"{name} of {workflow}"
                verdict.expect("I4", run.status == "failed", f"{what}: {run.status}")
                verdict.expect("I5", run.attempt == 1, f"{what}: tried {run.attempt} times")
                message = "" if run.error is None else run.error.message
                names = any(word in message for word in (type(make()).__name__, *CAUSES))
                verdict.expect("I12", names, f"{what}: {message[:300]}")
                is_step_named = "step" not in workflow or "`act`" in message
                verdict.expect("I12", is_step_named, f"{what}: {message[:300]}")
            count = len(runs.sync.list(bench.client, limit=None))
            try:
                bench.invoke("echo", make())
                verdict.expect("I12", False, f"{name} was accepted as a payload")
            except SerializationError as error:
                verdict.expect("I12", "payload" in str(error), f"{name}: {error}")
            left = len(runs.sync.list(bench.client, limit=None))
            verdict.expect("I10", left == count, f"{name} was refused, and has left a run")
            bench.injections += 1
    check_alive(bench, worker, "what can't be stored")
    canary = bench.folder / "canary"
    verdict.expect("I5", not canary.exists(), "something was unpickled")
    close(bench, worker)


DEEP = "[" * 100_000

# What another process may write into a column: text that isn't a value, has the wrong type, or is
# hostile.
HOSTILE = (
    "cposix\nsystem\n(S'touch canary'\ntR.",
    '{"$polos": "os:system", "value": "touch canary"}',
    '{"$polos": ["class", "os:system"], "$value": ["touch canary"]}',
    '{"$polos": {"type": "subprocess:Popen", "args": ["touch", "canary"]}}',
    DEEP,
    "",
    "\0",
    "not json",
    "NaN",
    "1e999999",
    '{"a": 1, "a": 2}',
    '"\\ud800"',
)
TARGETS = (
    ("run", "payload"),
    ("run", "input"),
    ("run", "state"),
    ("run", "timezone"),
    ("run", "result"),
    ("run", "error"),
    ("step", "result"),
    ("step", "error"),
    ("step", "state"),
)


def f30(bench: Bench) -> None:
    """Another process writes hostile values into the columns of runs and steps."""
    verdict = bench.verdict
    pairs = list(itertools.product(TARGETS, HOSTILE))
    chosen = [pairs[n % len(pairs)] for n in range(bench.times(len(pairs), 24))]
    if len(chosen) < len(pairs):
        chosen = bench.random.sample(pairs, len(chosen))
    # A worker that has the workflows, and leaves unfinished runs.
    worker = handler_worker(bench, "--drain", 0)
    victims = []
    for (table, column), poison in chosen:
        id = bench.invoke("walk", 0.05)
        victims.append((id, table, column, poison))
    healthy = bench.invoke("walk", 0.05)
    until(lambda: all(runs.sync.get(bench.client, id).steps for id, *_ in victims), 30)
    worker.kill()
    for id, table, column, poison in victims:
        where = "id = ?" if table == "run" else "run = (SELECT no FROM run WHERE id = ?)"
        bench.sql(f"UPDATE {table} SET {column} = ? WHERE {where}", poison, id)
        bench.injections += 1
    worker = handler_worker(bench)
    run = wait_for_completion(bench, healthy)
    verdict.expect("I7", run.status == "succeeded", f"beside hostile rows: {run.status}")
    check_alive(bench, worker, "hostile rows")
    for id, table, column, poison in victims:
        what = f"{table}.{column} = {poison[:40]!r}"
        until(partial(is_settled, bench, id), 20)
        try:
            run = runs.sync.get(bench.client, id)
            list(runs.sync.list(bench.client, limit=None))
        except RunNotFoundError as error:
            verdict.expect("I12", False, f"{what}: {error}")
        except PolosError as error:
            verdict.expect("I12", len(str(error)) < 2_000, f"{what}: {str(error)[:200]}")
        else:
            text = f"{what}: {run.status}, {run.error and run.error.message[:100]}"
            verdict.expect("I4", run.status in ENDED or column == "state", text)
    verdict.expect("I5", not (bench.folder / "canary").exists(), "stored text was executed")
    verdict.expect("I7", worker.output.count("\n") < 5_000, "it logs the same repeatedly")
    check_alive(bench, worker, "looking at hostile rows")
    close(bench, worker)


def is_settled(bench: Bench, id: str) -> bool:
    try:
        return bench.status(id) in ENDED
    except PolosError:
        return True


FAULTS = {"F25": f25, "F26": f26, "F27": f27, "F28": f28, "F29": f29, "F30": f30}

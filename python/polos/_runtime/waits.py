"""How a run waits: in the database, without a task, or in place beside its other work."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import weakref
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from polos._core.blocking import awaiting
from polos._core.instants import micros_of
from polos._runtime.current_run import current_step, running
from polos._runtime.threads import blocked_thread, pool_of_thread
from polos.exceptions import HandlerParked

if TYPE_CHECKING:
    from polos._runtime.active_run import ActiveRun

__all__ = ["STOP_GRACE", "Waits"]

R = TypeVar("R")

# A handler that sleeps for longer releases its task and its permit, and is called again when it is
# time. For shorter sleeps, that would cost more than it saves.
_PARK_MIN_US = 5_000_000

STOP_GRACE = timedelta(seconds=5)
"""How long cancelled code may take before polos continues without it."""


class Waits:
    """What a run executes and what it waits for at the moment."""

    __slots__ = (
        "_active_ref",
        "_blocked",
        "_executing",
        "_handler_thread",
        "_sleeping",
        "_tasks",
        "awaited",
        "awaited_events",
        "wakes_at",
    )

    def __init__(self, active: ActiveRun) -> None:
        # Weak: see `ActiveRun.requests`.
        self._active_ref = weakref.ref(active)
        self._executing = 0
        self._sleeping = 0
        self._blocked = 0  # how many waits need its permit to be free
        # Tasks in which threads of the run wait; whether it is the handler's own thread.
        self._tasks: dict[asyncio.Task[Any] | None, bool] = {}
        self._handler_thread: int | None = None
        # Tuples, because most runs wait for nothing.
        self.awaited: tuple[str, ...] = ()  # runs that it waits for
        self.awaited_events: tuple[str, ...] = ()  # events that it waits for in place
        self.wakes_at: int | None = None  # when a parked run continues

    @property
    def _active(self) -> ActiveRun:
        active = self._active_ref()
        assert active is not None, "whoever waits has the run"
        return active

    def note_handler_thread(self) -> None:
        """Note that the calling thread executes the handler."""
        self._handler_thread = threading.get_ident()

    def executing(self, change: int) -> None:
        """Note that a step starts (1) or stops (-1) executing its function."""
        self._executing += change

    def are_for_time(self) -> bool:
        """Whether the run sleeps and does nothing else."""
        return self._sleeping > 0 and self._executing == 0

    def cancel(self) -> None:
        """End the waits of the run's threads. Threads cannot be stopped, but their waits can."""
        for task in list(self._tasks):
            if task is not None:
                task.cancel()

    # -- in the database ----------------------------------------------------------------------

    def can_park(self) -> bool:
        """Whether nothing else of the run is in progress, so that the handler can be unwound."""
        if self._executing:
            return False
        task = asyncio.current_task()
        return task is self._active.task or (self._tasks.get(task, False) and len(self._tasks) == 1)

    def park(self, wakes_at: int | None) -> NoReturn:
        """Release the task and the permit until ``wakes_at``, or until a child run completes or an
        event arrives.
        """
        self.wakes_at = wakes_at
        self._active.stop_reason = "parked"
        raise HandlerParked

    async def sleep_until(self, instant_us: int) -> None:
        """Wait by the database's clock; a long wait holds no task."""
        if instant_us - self._active.now() > _PARK_MIN_US and self.can_park():
            self.park(instant_us)
        delay = instant_us - self._active.now()
        timer = self._active.executor.timers.start(delay)
        if timer.done():
            return
        with self.waiting(), self.blocked() if delay > _PARK_MIN_US else nullcontext():
            await timer

    # -- in place -----------------------------------------------------------------------------

    @contextmanager
    def waiting(self, run_id: str | None = None) -> Iterator[None]:
        """Note that the run waits inside the block, for the clock or for run ``run_id``."""
        self._sleeping += 1
        if run_id is not None:
            self.awaited = (*self.awaited, run_id)
        self._active.executor.note_change()
        try:
            yield
        finally:
            self._sleeping -= 1
            if run_id is not None:
                self.awaited = _without(self.awaited, run_id)

    @contextmanager
    def waiting_for_event(self, name: str) -> Iterator[None]:
        """Note that the run waits for an event inside the block."""
        self.awaited_events = (*self.awaited_events, name)
        try:
            with self.waiting():
                yield
        finally:
            self.awaited_events = _without(self.awaited_events, name)

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Release what other runs may need inside the block.

        The permit is free for another run, and if the handler has a thread, its pool may start
        another one. Both are reclaimed at once when the run continues.
        """
        active = self._active
        executor = active.executor
        core = executor.core
        self._blocked += 1
        if self._blocked == 1:
            core.block(active.run_id, active.token)
            if not active.workflow.is_async:
                executor.handler_threads.grow(1)
        try:
            yield
        finally:
            self._blocked -= 1
            if self._blocked == 0:
                core.unblock(active.run_id, active.token)
                if not active.workflow.is_async:
                    executor.handler_threads.grow(-1)

    @contextmanager
    def waiting_for_run(self, run_id: str) -> Iterator[None]:
        """Note that a handler, or a step's function, waits for another run inside the block."""
        is_in_step = current_step.get() is not None
        if is_in_step:
            self.executing(-1)
        try:
            is_over = self._active.stop_reason is not None or self._active.is_reported
            with nullcontext() if is_over else self.waiting(run_id), self.blocked():
                yield
        finally:
            if is_in_step:
                self.executing(1)

    def wait_here(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Execute ``coroutine`` on the worker's loop, block the calling thread, and return the
        result.

        If the run is stopped, the wait ends with what :meth:`ActiveRun.check_alive` raises.
        """
        active = self._active
        is_handler = threading.get_ident() == self._handler_thread

        async def on_loop() -> R:
            task = asyncio.current_task()
            self._tasks[task] = is_handler
            token = running.set(active)  # the thread may lack our context
            try:
                if active.stop_reason is not None and not active.is_reported:
                    active.check_alive()
                return await awaiting(coroutine)
            finally:
                running.reset(token)
                del self._tasks[task]
                coroutine.close()

        wait = on_loop()
        try:
            answer = asyncio.run_coroutine_threadsafe(wait, active.loop)
        except RuntimeError:  # the loop is closed
            wait.close()
            coroutine.close()
            raise asyncio.CancelledError("the worker of this run has ended") from None
        # `blocked` handles the handler's own thread, in steps as well.
        is_accounted = pool_of_thread() is active.executor.handler_threads
        with nullcontext() if is_accounted else blocked_thread():
            try:
                return answer.result()
            except concurrent.futures.CancelledError:
                active.check_alive()
                raise asyncio.CancelledError("the wait was cancelled") from None

    async def within(self, limit: timedelta, work: Coroutine[Any, Any, Any], what: str) -> Any:
        """Return the result of ``work``; raise ``TimeoutError`` after ``limit``."""
        active = self._active
        task = active.loop.create_task(work)
        timer = active.executor.timers.start(micros_of(limit))
        try:
            await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            task.cancel()
            await asyncio.wait({task}, timeout=STOP_GRACE.total_seconds())
            if task.done() and not task.cancelled() and task.exception() is None:
                return task.result()
            raise TimeoutError(f"{what} took longer than {limit}")
        finally:
            timer.cancel()
            if not task.done():
                task.cancel()


def _without(items: tuple[str, ...], item: str) -> tuple[str, ...]:
    """Return ``items`` without the first that equals ``item``."""
    place = items.index(item)
    return items[:place] + items[place + 1 :]

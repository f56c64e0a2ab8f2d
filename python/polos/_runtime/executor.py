"""Execute a worker's runs on an event loop, from claim to completion.

The core decides what runs and when. The executor starts it, passes on what the core says, and
contains no policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from polos._core.bridge import LoopBridge
from polos._core.safe_logging import quiet_logger
from polos._runtime.active_run import ActiveRun
from polos._runtime.entry import Entries
from polos._runtime.hook_calls import HookCalls, WorkerHooks
from polos._runtime.loop_shutdown import LoopWatch
from polos._runtime.middleware import MiddlewareChain
from polos._runtime.missed_slots import log_missed
from polos._runtime.processes.pool import ProcessPool
from polos._runtime.recorded_calls import follow, make_calls
from polos._runtime.threads import ThreadPool
from polos._runtime.timers import Timers
from polos._runtime.watchdog import Watchdog

if TYPE_CHECKING:
    from polos._polos import ClaimedRun, WorkerCore
    from polos.client import PolosClient
    from polos.workflow import Workflow

__all__ = ["Executor"]

_log = quiet_logger("polos.worker")

# How many seconds after a start the executor looks for runs whose tasks were cancelled before they
# began.
_START_CHECK = 1.0


class Executor:
    """Executes runs that the core claims, until it is closed."""

    def __init__(
        self,
        client: PolosClient,
        workflows: dict[str, Workflow[Any, Any]],
        thread_count: int,
        process_count: int,
        middleware: MiddlewareChain,
        hooks: WorkerHooks,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        # Import most of pydantic now, so that the first run is not slow.
        from polos import hooks as _hooks  # noqa: F401
        from polos._codec import decoder as _decoding  # noqa: F401
        from polos._codec import encoder as _encoding  # noqa: F401
        from polos.payload import SchedulePayload

        self.new_payload = SchedulePayload._from_micros
        self.client = client
        self.workflows = workflows
        self.middleware = middleware
        # Separate pools, because a sync handler waits in its thread for its steps: in one pool,
        # handlers that fill it would wait forever.
        self.handler_threads = ThreadPool(thread_count, "polos-handler")
        self.step_threads = ThreadPool(thread_count, "polos-step")
        self.processes = ProcessPool(process_count)
        self.loop = loop
        self.bridge = LoopBridge(loop, self._handle, self._start, is_held=True)
        self.core: WorkerCore  # set by `begin`, before which no run starts
        self.registered = loop.create_future()
        self.over = loop.create_future()
        self.lost: str | None = None  # why the worker stopped on its own
        self.active: dict[tuple[str, int], ActiveRun] = {}
        self.on_idle: Callable[[], None] = lambda: None
        self.entries = Entries(self)
        self.timers = Timers(loop, self._set_timer)
        self.change_count = 0
        # How many times the clock or the core has resumed a handler.
        self.nudge_count = 0
        # Called before a handler (step `None`) or a step's function. An exception from it counts as
        # an exception of the handler or step.
        self.before_call: Callable[[ActiveRun, str | None], None] | None = None
        self._change: asyncio.Future[None] | None = None
        self._will_check_starts = False
        self.opened = client._opened()
        self.watchdog = Watchdog(loop, self._describe)
        self.loop_watch = LoopWatch(loop, self._check_starts)
        is_closing = self.loop_watch.is_closing
        self.hooks = HookCalls(loop, self.step_threads, hooks, client, is_closing)
        # Workflows with a hook for success. For other outcomes, this is looked up when they occur.
        self.tell_of_success = frozenset(
            id for id, each in workflows.items() if self.hooks.has("on_success", each)
        )
        self.is_deregistering = False  # whether to ignore runs that arrive

    # -- what the core says -------------------------------------------------------------------

    def begin(self, core: WorkerCore) -> None:
        """Execute what ``core`` sends, and what it has sent before its constructor returned."""
        self.core = core
        self.bridge.release()

    def _handle(self, item: tuple[Any, ...]) -> None:
        kind = item[0]
        if kind == "stop":
            self.nudge_count += 1
            for run_id, token, reason in item[1]:
                active = self.active.get((run_id, token))
                if active is not None:
                    active.stop(reason)
        elif kind == "ring":
            self.nudge_count += 1
            self.timers.fire(item[1])
        elif kind == "notice":
            self._notice(item[1], item[2])
        elif kind == "missed":
            log_missed(item[1])
        elif kind == "hooks":
            make_calls(item[1], self.workflows, self.hooks, self._hook_called)
        elif kind == "tell":
            _, run_id, token, call = item
            self.nudge_count += 1
            tasks = self.hooks.told((run_id, token), call)
            if call is not None:
                follow(call, tasks, self._hook_called)
        elif kind == "over" and not self.over.done():
            self.over.set_result(None)

    def _hook_called(self, call: str) -> None:
        self.nudge_count += 1
        self.core.hook_called(call)

    def _notice(self, kind: str, text: str) -> None:
        if kind == "entered":
            _log.debug("registered as %s", text)
            if not self.registered.done():
                self.registered.set_result(text)
            return
        if kind == "lost":
            self.lost = text
            kind = "error"
        getattr(_log, kind)(text)

    def _start(self, claimed: ClaimedRun) -> None:
        if self.is_deregistering:
            # The core sent it before it knew. Deregistering frees the claim, and may have done so.
            return
        if not self.active:
            self.watchdog.busy(True)
        workflow = self.workflows[claimed.workflow]
        active = ActiveRun(self, workflow, claimed)
        key, execution = (active.run_id, active.token), active.execute()
        try:
            self.active[key] = active
            active.task = self.loop.create_task(execution)
        except BaseException:
            self.active.pop(key, None)
            execution.close()
            raise
        # The task has started: nothing after this may undo it. Without the check only a run that
        # is cancelled before it begins goes unnoticed. (`suppress` would need memory, too.)
        try:
            if not self._will_check_starts:
                self.loop.call_later(_START_CHECK, self._check_starts)
                self._will_check_starts = True
        except MemoryError:
            pass

    def _check_starts(self) -> None:
        """Report the runs whose tasks were cancelled before their first instruction.

        Whoever cancels a run, or all tasks of the loop, has this done at once. For any other
        cancellation, one timer serves all runs: a callback for each would make every run slower.
        """
        self._will_check_starts = False
        for active in list(self.active.values()):
            active.check_has_begun()

    # -- for runs -----------------------------------------------------------------------------

    def ended(self, active: ActiveRun) -> None:
        """Note that a run no longer executes here."""
        active.task = None  # or the task, its context, and the run would refer to each other
        if self.active.pop((active.run_id, active.token), None) is not None and not self.active:
            self.watchdog.busy(False)
            self.on_idle()
        self.note_change()

    def _set_timer(self, id: int, delay_us: int) -> None:
        self.core.set_timer(id, delay_us)

    def close(self) -> None:
        """Stop listening to the core."""
        self.bridge.close()
        self.watchdog.close()
        self.loop_watch.close()
        self.handler_threads.close()
        self.step_threads.close()
        self.processes.close()

    def _describe(self, task: asyncio.Task[Any] | None) -> str:
        for active in list(self.active.values()):
            if active.task is task and task is not None:
                return f"the handler of workflow `{active.workflow.id}` (run {active.run_id})"
        return "something other than a handler"

    # -- for virtual time ---------------------------------------------------------------------

    def has_timers(self) -> bool:
        """Whether anything waits for the clock, or may be ended by it."""
        return bool(self.timers) or any(a.workflow.timeout for a in self.active.values())

    def note_change(self) -> None:
        """Note that a run has completed or has started to wait."""
        self.change_count += 1
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    async def changed(self, timeout: float) -> None:
        """Wait for the next change, at most ``timeout`` seconds."""
        self._change = self.loop.create_future()
        await asyncio.wait({self._change}, timeout=timeout)
        self._change = None

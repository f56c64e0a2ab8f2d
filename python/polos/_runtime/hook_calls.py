"""Call the application's hooks: ``on_success``, ``on_failure``, ``on_missed``, and others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from polos._core.safe_logging import loggable, quiet_logger
from polos._runtime.hook_runs import start_run
from polos._runtime.threads import ThreadPool
from polos._validate.hooks import check_hook
from polos._validate.signature import is_async_function
from polos.workflow import Workflow

if TYPE_CHECKING:
    from polos.client import PolosClient

__all__ = ["HOOKS", "Hook", "HookCalls", "HookName", "WorkerHooks"]

_log = quiet_logger("polos.worker")

HookName = Literal["on_success", "on_failure", "on_missed", "on_skipped", "on_late"]
HOOKS: tuple[HookName, ...] = ("on_success", "on_failure", "on_missed", "on_skipped", "on_late")

Hook = Callable[[Any], Any]
"""A function of one argument, sync or async, or a workflow; its result is ignored."""


class WorkerHooks:
    """The hooks of a worker for all of its workflows, and those of its middleware.

    Raises :class:`InvalidArgumentError` for a hook that cannot be called.
    """

    def __init__(self, middleware: Iterable[Any], **given: Hook | None) -> None:
        self._hooks: dict[str, list[tuple[Hook, str]]] = {name: [] for name in HOOKS}
        for name, hook in given.items():
            if hook is None:
                continue
            check_hook(name, hook, Workflow)
            self._hooks[name].append((hook, f"{name} of the worker"))
        for each in middleware:
            for name in HOOKS:
                hook = getattr(each, name, None)
                if callable(hook):
                    owner = f"middleware `{type(each).__name__}`"
                    self._hooks[name].append((hook, f"{name} of {owner}"))

    def includes(self, name: HookName, workflow: Workflow[Any, Any]) -> bool:
        """Whether the workflow has such a hook, or the worker has one for all workflows."""
        return getattr(workflow, name) is not None or bool(self._hooks[name])

    def of(self, name: HookName) -> list[tuple[Hook, str]]:
        """Return the hooks of that name, the worker's own first, and what the log calls them."""
        return self._hooks[name]


class _Outcome(NamedTuple):
    """An outcome that hooks are told of once it is recorded."""

    name: HookName
    workflow: Workflow[Any, Any]
    event: Callable[[], Any]
    of_hook: bool


class HookCalls:
    """Calls hooks in separate tasks, sync ones in ``threads``; their errors are logged."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: ThreadPool,
        for_all: WorkerHooks,
        client: PolosClient | None,
        is_closing: Callable[[], bool],
    ) -> None:
        """``is_closing`` says whether the loop is cancelling all of its tasks."""
        self._loop = loop
        self._is_closing = is_closing
        self._threads = threads
        self._for_all = for_all
        self._client = client
        self.tasks: set[asyncio.Task[None]] = set()
        # By run and token.
        self._outcomes: dict[tuple[str, int], _Outcome] = {}
        self._was_told: asyncio.Future[None] | None = None

    def has(self, name: HookName, workflow: Workflow[Any, Any]) -> bool:
        """Whether the workflow has such a hook, or the worker has one for all workflows."""
        return self._for_all.includes(name, workflow)

    def expect(
        self,
        claim: tuple[str, int],
        name: HookName,
        workflow: Workflow[Any, Any],
        event: Callable[[], Any],
        of_hook: bool,
    ) -> None:
        """Note what to tell the hooks when the outcome of this claim is recorded.

        ``of_hook`` is as for :meth:`fire`.
        """
        self._outcomes[claim] = _Outcome(name, workflow, event, of_hook)

    def told(self, claim: tuple[str, int], call: str | None) -> list[asyncio.Task[None]]:
        """Make the recorded ``call`` about the outcome of this claim. Without one, forget it."""
        outcome = self._outcomes.pop(claim, None)
        if self._was_told is not None and not self._was_told.done():
            self._was_told.set_result(None)
        if outcome is None or call is None:
            return []
        name, workflow, event, of_hook = outcome
        return self.fire(name, workflow, event, call=call, of_hook=of_hook)

    def fire(
        self,
        name: HookName,
        workflow: Workflow[Any, Any],
        event: Callable[[], Any],
        *,
        call: str | None = None,
        of_hook: bool = False,
    ) -> list[asyncio.Task[None]]:
        """Call the workflow's hook of that name and those for all workflows with ``event()``.

        :param call: the id of the recorded call, which hooks that are workflows need.
        :param of_hook: whether it is about the run of a hook. No run is started about that, since
            one that fails would start others without end.
        """
        own: Hook | None = getattr(workflow, name)
        for_all = self._for_all.of(name)
        if own is None and not for_all:
            return []
        made = event()
        if own is not None:
            for_all = [(own, f"{name} of workflow `{workflow.id}`"), *for_all]
        return [
            self.call(hook, made, what, call)
            for hook, what in for_all
            if not (of_hook and isinstance(hook, Workflow))
        ]

    def call(
        self, hook: Hook, event: Any, what: str, call: str | None = None
    ) -> asyncio.Task[None]:
        """Call ``hook(event)``, or start its run; ``what`` names it in the log."""
        task = self._loop.create_task(self._call(hook, event, what, call))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def finish(self, timeout: timedelta, forced: asyncio.Event | None = None) -> None:
        """Wait for hooks that are in progress or about to be called, until ``forced`` is set."""
        end = self._loop.time() + timeout.total_seconds()
        force = None if forced is None else self._loop.create_task(forced.wait())
        try:
            while self.tasks or self._outcomes:
                waits: set[asyncio.Future[Any]] = set(self.tasks)
                if self._outcomes:
                    self._was_told = self._loop.create_future()
                    waits.add(self._was_told)
                if force is not None:
                    waits.add(force)
                left = end - self._loop.time()
                if left <= 0 or (force is not None and force.done()):
                    return
                await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._was_told = None
            if force is not None:
                force.cancel()

    async def _call(self, hook: Hook, event: Any, what: str, call: str | None) -> None:
        try:
            if isinstance(hook, Workflow) and call is not None and self._client is not None:
                await start_run(self._client, hook, event, call, what)
            elif is_async_function(hook):
                await hook(event)
            else:
                made = await self._threads.run(hook, event)
                if asyncio.iscoroutine(made):
                    await made
        except asyncio.CancelledError as error:
            if self._is_closing():
                raise
            _log.error(
                "%s was cancelled, or awaited something that was; nobody had asked polos to "
                "cancel it, and it counts as called",
                what,
                exc_info=loggable(error),
            )
        except BaseException as error:
            _log.error("%s failed", what, exc_info=loggable(error))

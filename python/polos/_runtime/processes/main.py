"""The process of a step: receives functions and arguments, and sends back what they return.

It ends when its worker closes the socket, and the system ends it, with everything that it has
started, when the worker is gone (``end_with_stdin``).
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

from polos import _polos
from polos._codec.codec import decode, encode
from polos._codec.exceptions import error_record
from polos._codec.known_classes import register_function
from polos._runtime.processes.channel import Frame, receive, send
from polos._runtime.processes.functions import FunctionRef, hints_of_arguments, load
from polos._runtime.processes.memory import (
    MemoryLimit,
    amount,
    peak_of,
    peak_so_far,
    reset_peak,
    used,
)
from polos.exceptions import SerializationError, WorkerError

__all__ = ["main"]

# The system's killer of processes prefers those with a high score, so it ends a step rather than
# the worker. 1000 is the highest.
_OOM_SCORE = "500"


def main(descriptor: int) -> None:
    """Serve calls from the socket ``descriptor`` until it is closed."""
    _polos.end_with_stdin()
    _reset_signals()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(_OOM_SCORE)
    setup = receive(channel)
    if setup is None:
        return
    sys.path[:] = setup.header["path"]
    sys.argv[:] = setup.header["argv"]
    send(channel, Frame({"kind": "ready", **_memory()}))
    process = os.getpid()
    while (call := receive(channel)) is not None and call.header["kind"] == "call":
        answer = _Call(call).execute()
        if os.getpid() != process:  # a process that the function has forked, and not ended
            os._exit(0)
        _flush()
        send(channel, answer)


def _reset_signals() -> None:
    """Undo what a process inherits from the thread that has started it."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, or replaced by anything
            stream.flush()


def _memory() -> dict[str, int | None]:
    return {"accounted": peak_so_far(), "peak": peak_of("self"), "used": used()}


class _Call:
    """One call of a function."""

    def __init__(self, frame: Frame) -> None:
        header = frame.header
        self._ref = FunctionRef(
            header["module"], header["name"], header["file"], header["is_script"]
        )
        self._parts = frame.parts
        self._names: list[str] = header["keywords"]
        self._memory: int | None = header["memory"]

    def execute(self) -> Frame:
        """Execute it and return the answer. Raises nothing that the function raises."""
        try:
            fn = self._import()
            arguments, keywords = self._arguments(fn)
        except _RefusedError as refused:
            return Frame({"kind": "refused", "message": str(refused), **_memory()})
        before = used()
        if self._memory is not None and before is not None and before >= self._memory:
            return self._has_no_room(before)
        reset_peak()
        value, error = None, None
        try:
            with MemoryLimit(self._memory):
                value = fn(*arguments, **keywords)
                if inspect.iscoroutine(value):
                    value = asyncio.run(_awaited(value))
        except BaseException as raised:
            error = raised
        del arguments, keywords
        return self._failed(error) if error is not None else self._returned(value)

    def _import(self) -> Any:
        # The worker of an application that starts one when it is imported would run here, too.
        undo = _forbid_workers(self._ref)
        try:
            fn = load(self._ref)
        except BaseException as error:
            raise _RefusedError(
                f"its process cannot import `{self._ref.module}`: {type(error).__name__}: {error}"
            ) from error
        finally:
            undo()
        if not callable(fn):
            raise _RefusedError(f"its process finds no function `{self._ref!r}`")
        register_function(fn)
        return fn

    def _arguments(self, fn: Any) -> tuple[list[Any], dict[str, Any]]:
        count = len(self._parts) - len(self._names)
        hints, hints_by_name = hints_of_arguments(fn, count, self._names)
        try:
            arguments = [
                decode(part, hint, name=f"argument {index + 1}", function=fn, is_strict=True)
                for index, (part, hint) in enumerate(zip(self._parts, hints, strict=False))
            ]
            keywords = {
                name: decode(part, hints_by_name[name], name=name, function=fn, is_strict=True)
                for name, part in zip(self._names, self._parts[count:], strict=True)
            }
        except SerializationError as error:
            raise _RefusedError(
                f"its process cannot rebuild an argument: {error}; name the type in the "
                f"annotation of the parameter"
            ) from error
        return arguments, keywords

    def _returned(self, value: Any) -> Frame:
        try:
            text = encode(value, name="result")
        except SerializationError as error:
            return Frame({"kind": "unstorable", "message": str(error), **_memory()})
        return Frame({"kind": "returned", **_memory()}, [text])

    def _failed(self, error: BaseException) -> Frame:
        if isinstance(error, MemoryError) and self._memory is not None:
            note = f"the step's process may use {amount(self._memory)} (memory=)"
            with suppress(Exception):
                error.__notes__ = [*getattr(error, "__notes__", ()), note]  # type: ignore[attr-defined]
        if error.__traceback__ is not None:
            error.__traceback__ = error.__traceback__.tb_next  # without this file's frame
        record = json.dumps(error_record(error)).encode()
        kind = "raised" if issubclass(type(error), Exception) else "exited"
        return Frame({"kind": kind, **_memory()}, [record])

    def _has_no_room(self, before: int) -> Frame:
        message = (
            f"memory: {amount(self._memory or 0)} given, but its process uses {amount(before)} "
            f"before the function is called; expected more than that"
        )
        return Frame({"kind": "refused", "message": message, **_memory()})


class _RefusedError(Exception):
    """The call cannot be executed, and a retry would change nothing."""


async def _awaited(coroutine: Any) -> Any:
    return await coroutine


def _forbid_workers(ref: FunctionRef) -> Any:
    """Make :class:`Worker` refuse to start until the returned function is called."""
    from polos.worker import Worker

    original = Worker.start

    async def start(self: Worker) -> NoReturn:
        raise WorkerError(
            f"`{ref.file or ref.module}` starts a worker when it is imported, which the process of "
            f'a step does; put that under `if __name__ == "__main__":`'
        )

    Worker.start = start  # type: ignore[method-assign]

    def undo() -> None:
        Worker.start = original  # type: ignore[method-assign]

    return undo

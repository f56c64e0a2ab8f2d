"""Functions that tests execute in processes of steps, which import this module."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import NoReturn

from sample_types import User

import polos


@dataclass
class Bill:
    amount: Decimal
    user: User


class Office:
    @classmethod
    def double(cls, number: int) -> int:
        return 2 * number

    @staticmethod
    def halve(number: int) -> int:
        return number // 2

    def method(self) -> int:
        return 1


class Refusal(Exception):
    """An error of the application."""

    def __init__(self, text: str = "", code: int = 0) -> None:
        super().__init__(text)
        self.code = code


def pay(bill: Bill, factor: Decimal = Decimal(2), *more: Bill) -> Bill:
    return Bill(bill.amount * factor + sum(other.amount for other in more), bill.user)


async def pay_later(bill: Bill) -> Bill:
    await asyncio.sleep(0)
    return bill


def untyped(bill, **options):  # type: ignore[no-untyped-def]
    return bill


def process_id() -> int:
    return os.getpid()


def session_and_group() -> tuple[int, int, int]:
    return os.getpid(), os.getsid(0), os.getpgrp()


def refuse(text: str) -> NoReturn:
    raise Refusal(text, code=7)


class Locked(OSError):
    """An exception that cannot be rebuilt elsewhere."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class LockedForever(polos.PermanentError):
    """The same, permanent."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def give_up() -> NoReturn:
    """Fail for good."""
    raise polos.PermanentError("there is no such customer")


def lock() -> NoReturn:
    """Fail with an exception that cannot be rebuilt."""
    raise Locked("busy")


def lock_forever() -> NoReturn:
    """Fail for good with an exception that cannot be rebuilt."""
    raise LockedForever("gone")


def leave(code: int) -> NoReturn:
    sys.exit(code)


def vanish(code: int) -> NoReturn:
    os._exit(code)


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def die_once(path: str) -> str:
    """Crash in the first execution."""
    if not os.path.exists(path):
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return "survived"


def refuse_twice(path: str) -> int:
    count = os.path.getsize(path) if os.path.exists(path) else 0
    if count < 2:
        with open(path, "a") as file:
            file.write("x")
        raise ConnectionError("not yet")
    return count


def allocate(size: int) -> int:
    return len(bytearray(size))


def allocate_and_die(size: int) -> None:
    data = bytearray(size)
    for position in range(0, size, 4096):
        data[position] = 1
    os.kill(os.getpid(), signal.SIGKILL)


def unstorable() -> object:
    return object()


def fork_and_return() -> str:
    """Fork, and return in both processes; only the first one belongs to the step."""
    return "child" if os.fork() == 0 else "parent"


def close_descriptors() -> None:
    os.closerange(3, 65_536)
    signal.pause()


def signals_of_the_process() -> tuple[bool, bool]:
    """Return whether SIGTERM has its default action and is not blocked."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, signal.SIGTERM not in blocked


# The following functions write their process id (and those of their children) to a named pipe, and
# do not return.


def _report(path: str, *numbers: int) -> None:
    with open(path, "w") as pipe:
        pipe.write(" ".join(str(number) for number in numbers) + "\n")


def hang(path: str) -> None:
    _report(path, os.getpid())
    while True:
        signal.pause()


def hang_stubbornly(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hang(path)


def hang_with_the_lock(path: str) -> None:
    """Hang in C code that holds the interpreter's lock."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _report(path, os.getpid())
    re.match(r"(a+)+$", "a" * 64 + "b")


def hang_with_a_child(path: str) -> None:
    program = "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    _report(path, os.getpid(), child.pid)
    child.wait()


def wait_for(path: str, answer: str) -> int:
    """Report that it executes, and return after an answer."""
    _report(path, os.getpid())
    with open(answer) as pipe:
        pipe.read()
    return os.getpid()

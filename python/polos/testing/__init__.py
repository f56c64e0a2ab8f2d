"""Run real workflows on the real engine, in virtual time.

    async with polos.testing.clock("2026-03-07T12:00-05:00") as t:
        await t.advance(days=3)
        assert len(await t.runs(workflow="daily-report")) == 3

The database is in memory, and its clock stands still until the test advances it. Then everything
that is due happens in order, each at its instant, as fast as the machine can. Anything else that a
handler awaits (a thread, a socket) takes its real time.

Tests can inject faults: crash the worker (:meth:`VirtualTime.crash`,
:meth:`VirtualTime.crash_at`), make steps and handlers fail, or take the database away. The pytest
plugin provides the same as the fixture ``polos_clock``.
"""

from polos.testing._blocking import BlockingVirtualTime
from polos.testing._clock import Clock, clock
from polos.testing._faults import Fault, Moment
from polos.testing._virtual_time import VirtualTime
from polos.workflow import isolated_registry

__all__ = [
    "BlockingVirtualTime",
    "Clock",
    "Fault",
    "Moment",
    "VirtualTime",
    "clock",
    "isolated_registry",
]

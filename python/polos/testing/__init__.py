"""Real workflows on the real engine, in virtual time.

    async with polos.testing.clock("2026-03-07T12:00-05:00") as t:
        await t.advance(days=3)
        assert len(await t.runs(workflow="daily-report")) == 3

The database is in memory, and its clock stands still until it is advanced: then everything that
is due happens in order, each at its instant, as fast as the machine can. What a handler awaits
besides time (a thread, a socket) takes as long as it takes.

What can go wrong can be made to: the worker crashes (:meth:`VirtualTime.crash`,
:meth:`VirtualTime.crash_at`), steps and handlers fail, the database is away. The plugin of pytest
gives the same as the fixture ``polos_clock``.
"""

from polos.testing._blocking import BlockingVirtualTime
from polos.testing._clock import Clock, clock
from polos.testing._faults import Fault, Moment
from polos.testing._time import VirtualTime
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

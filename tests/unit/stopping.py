"""A part of programs that tests start: it gives them the time that a busy machine needs to stop."""

# After a second signal, a worker gets less than a second to release its runs. A test of what it
# does then must not depend on how much of that second it gets.
TIME_TO_STOP = """
import polos.worker
from polos._runtime import signals

signals._AFTER_SECOND = polos.worker._CLOSING_FORCED = polos.worker._STOPPING_FORCED = 3_600.0
"""

"""Tasks that are all due at one instant: due -> started."""

import threading
import time

import setup

import side

options = side.options(count=1_000, lead=4.0)
tasks = setup.queue(options.folder)
starts: list[float] = []
all_started = threading.Event()


@tasks.task()
def task() -> None:
    starts.append(time.time())
    if len(starts) == options.count:
        all_started.set()


due = side.whole_second(options.lead)
for _ in range(options.count):
    task.schedule(eta=side.aware(due))
with setup.consuming(tasks):
    side.due_in_time(due)
    all_started.wait(due - time.time() + 60)
side.herd(due, starts, options.count)

"""One task a second: due -> its first line."""

import threading
import time

import setup

import side

options = side.options(fires=20)
tasks = setup.queue(options.folder)
late: list[float] = []
enough = threading.Event()


@tasks.task()
def task(due: float) -> None:
    late.append((time.time() - due) * 1e3)
    if len(late) == options.fires:
        enough.set()


first = side.whole_second(1.0)
for number in range(options.fires):
    # Spread over the second, since the consumer's polls might hit or miss a full second by chance.
    due = first + number * (1 + 1 / options.fires)
    task.schedule(args=(due,), eta=side.aware(due))
with setup.consuming(tasks):
    enough.wait(options.fires * 2 + 30)
side.report(lateness_ms=late, early=sum(each < 0 for each in late))

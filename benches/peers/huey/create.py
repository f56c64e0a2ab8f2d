"""One-off tasks stored for later, one by one."""

import time
from datetime import timedelta

import setup

import side

options = side.options(alone=1_000)
tasks = setup.queue(options.folder)


@tasks.task()
def task() -> None:
    raise AssertionError("not due today")


eta = side.aware(time.time()) + timedelta(days=1)
begun = time.perf_counter()
for _ in range(options.alone):
    task.schedule(eta=eta)
spent = time.perf_counter() - begun
side.report(alone_per_s=side.rate(options.alone, spent))

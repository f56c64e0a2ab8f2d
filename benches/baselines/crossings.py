"""Round trips to another thread and back to the loop, in plain Python.

One by one, and many at once with one wake-up.
"""

import asyncio
import queue
import threading
import time

import side

options = side.options(alone=2_000, at_once=1_000, batches=5)
Asked = "asyncio.Future[None]"


def answer(loop: asyncio.AbstractEventLoop, asked: "queue.SimpleQueue[Asked | None]") -> None:
    def done(futures: list[Asked]) -> None:
        for future in futures:
            future.set_result(None)

    while (first := asked.get()) is not None:
        together = [first]
        while not asked.empty():
            together.append(asked.get())
        loop.call_soon_threadsafe(done, together)


async def main() -> None:
    loop = asyncio.get_running_loop()
    asked: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
    thread = threading.Thread(target=answer, args=(loop, asked))
    thread.start()

    async def ask() -> None:
        future = loop.create_future()
        asked.put(future)
        await future

    begun = time.perf_counter()
    for _ in range(options.alone):
        await ask()
    alone = (time.perf_counter() - begun) / options.alone
    begun = time.perf_counter()
    for _ in range(options.batches):
        await asyncio.gather(*(ask() for _ in range(options.at_once)))
    together = (time.perf_counter() - begun) / (options.batches * options.at_once)
    asked.put(None)
    thread.join()
    side.report(alone_us=alone * 1e6, together_us=together * 1e6)


asyncio.run(main())

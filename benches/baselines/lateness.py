"""A thread that waits for each full second and wakes a loop: the minimum lateness of a scheduler.

Nothing is stored.
"""

import asyncio
import threading
import time

import side

options = side.options(fires=20)


def tick(loop: asyncio.AbstractEventLoop, first: float, heard: asyncio.Queue[float]) -> None:
    never = threading.Event()
    for number in range(options.fires):
        due = first + number
        never.wait(max(0.0, due - time.time()))
        loop.call_soon_threadsafe(heard.put_nowait, due)


async def main() -> None:
    heard: asyncio.Queue[float] = asyncio.Queue()
    first = side.whole_second(0.2)
    thread = threading.Thread(target=tick, args=(asyncio.get_running_loop(), first, heard))
    thread.start()
    late = []
    for _ in range(options.fires):
        due = await heard.get()
        late.append((time.time() - due) * 1e3)
    thread.join()
    side.report(lateness_ms=late, early=sum(each < 0 for each in late))


asyncio.run(main())

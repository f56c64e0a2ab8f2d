"""One-row commits, one after another, and rows in bulk in one transaction."""

import time
from pathlib import Path

import files
import side

options = side.options(count=2_000, bulk=200_000)


def main() -> None:
    database = files.opened(Path(options.folder) / "baseline.db")
    database.execute("CREATE TABLE step (run INTEGER, name TEXT, result TEXT)")
    insert = "INSERT INTO step VALUES (?, ?, ?)"
    begun = time.perf_counter()
    for number in range(options.count):
        database.execute(insert, (1, f"step-{number}", "null"))
    alone = time.perf_counter() - begun
    begun = time.perf_counter()
    with files.transaction(database):
        database.executemany(insert, ((2, f"step-{n}", "null") for n in range(options.bulk)))
    bulk = time.perf_counter() - begun
    database.close()
    rate = side.rate(options.count, alone)
    side.report(
        alone_per_s=rate,
        steps_per_s=rate,
        step_us=1e6 / rate,
        bulk_per_s=side.rate(options.bulk, bulk),
    )


main()

"""Faults of storage: no space, and damaged rows."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shim import Shim

from harness import LATE, Bench, WorkerProcess, now, until
from polos import StoreUnavailableError, schedules


def f20(bench: Bench) -> None:
    """No space is left: by a resource limit, by failing writes, and on a full file system."""
    limited(bench)
    refused(bench)
    if os.geteuid() == 0 and shutil.which("mount"):
        on_a_small_disk(bench)
    else:
        bench.remarks.append("the part on a file system that is full was NOT RUN: it needs root")


def limited(bench: Bench) -> None:
    """No write of the worker beyond 128 KiB of a file succeeds for seconds."""
    with Bench(folder_in(bench, "limited"), bench.scale, 0, bench.verdict) as part:
        worker = part.start("--lease", 2).ready()
        part.create_digests()
        limit = 128 * 1024
        for _ in range(bench.times(20, 1)):
            # Files are longer than the limit then, even if a checkpoint comes in between.
            for _ in range(40):
                part.invoke(payload={"filler": "x" * 8_000})
            _, hard = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
            before = part.oracle.stat().st_size
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (max(limit, before + limit), hard))
            for _ in range(20):
                part.invoke(payload={"filler": "x" * 8_000})
                time.sleep(bench.random.uniform(0.05, 0.25))
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
            check_recovery(part, worker)
            bench.injections += 1
        check_said(part, worker)
        part.finish(start_worker=False)


def refused(bench: Bench) -> None:
    """Every write of the worker fails with ENOSPC for seconds, then with EIO."""
    folder = folder_in(bench, "refused")
    shim = Shim(folder, made_in=bench.folder)
    with Bench(folder, bench.scale, 0, bench.verdict) as part:
        worker = part.start("--lease", 2, environment=shim.environment).ready()
        part.create_digests()
        before = None
        for number in range(bench.times(20, 2)):
            error = (errno.ENOSPC, errno.EIO)[number % 2]
            # From the first write on, or within the writes of one commit.
            shim.fail_writes(error, number=bench.random.randint(1, 4), count=10**9)
            for _ in range(10):
                part.invoke()
                time.sleep(bench.random.uniform(0.05, 0.25))
            text = f"nothing failed with {errno.errorcode[error]}"
            bench.verdict.expect("I12", shim.control.failed, text)
            shim.heal()
            check_recovery(part, worker)
            bench.injections += 1
            # I9: failed connections are closed together with their descriptors.
            after = worker.resources()
            before = before or after
            is_same = after.files <= before.files + 8 and after.threads <= before.threads + 4
            bench.verdict.expect("I9", is_same, f"from {before} to {after}")
        check_said(part, worker)
        part.finish(start_worker=False)


def on_a_small_disk(bench: Bench) -> None:
    """Client and worker use a file system of 4 MiB, which something else fills."""
    disk = folder_in(bench, "disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "polos-torture", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        bench.remarks.append("the part on a file system that is full was NOT RUN: no mount")
        return
    try:
        database = disk / "polos.db"
        folder = folder_in(bench, "small")
        with Bench(folder, bench.scale, 0, bench.verdict, database) as part:
            worker = part.start("--lease", 2).ready()
            part.create_digests(2)
            for _ in range(bench.times(20, 1)):
                fill(part, disk / "ballast", bench.random.uniform(1.0, 4.0))
                check_recovery(part, worker)
                bench.injections += 1
            check_said(part, worker)
            part.finish(start_worker=False)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(part: Bench, ballast: Path, seconds: float) -> None:
    """Leave no byte free for a while; the client gets an error."""
    refusals = []
    end = time.monotonic() + seconds
    with ballast.open("wb", buffering=0) as file:
        while time.monotonic() < end:
            with suppress(OSError):
                # Including what a checkpoint frees meanwhile.
                while file.write(b"x" * 4_096):
                    pass
            try:
                part.invoke(payload={"filler": "x" * 50_000})
            except StoreUnavailableError as error:
                refusals.append(str(error))
            time.sleep(0.02)
    ballast.unlink()
    part.verdict.expect("I12", refusals, "no write failed on a full disk")
    for text in refusals:
        is_named = str(part.file) in text and ("full" in text or "failed" in text)
        part.verdict.expect("I12", is_named, f"the client got {text!r}")


def folder_in(bench: Bench, name: str) -> Path:
    folder = bench.folder / name
    folder.mkdir()
    return folder


def check_recovery(bench: Bench, worker: WorkerProcess) -> None:
    """Expect that the worker survives, and recovers by itself."""
    bench.verdict.expect("I7", worker.is_alive(), "the worker has ended")
    last = until(lambda: invoked(bench), 30)
    bench.verdict.expect(
        "I4", last and bench.wait_for_success(last, 30), "the worker doesn't recover"
    )


def invoked(bench: Bench) -> str | None:
    """Start a run; return whether it was possible."""
    try:
        return bench.invoke()
    except StoreUnavailableError:
        return None


def check_said(bench: Bench, worker: WorkerProcess) -> None:
    output = worker.errors.read_text()
    bench.verdict.expect("I12", "database fails" in output, "nothing was logged about it")


POISONS = (
    '{"cron":"61 * * * *","timezone":"UTC"}',
    '{"every_us":1000000,"timezone":"Mars/Olympus"}',
    "not json",
    "",
    '{"every_us":-5,"timezone":"UTC"}',
    "[" * 5_000,
)


def f33(bench: Bench) -> None:
    """The row of a schedule is damaged while a worker runs."""
    bench.start("--lease", 2).ready()
    for number in range(bench.times(60, len(POISONS))):
        victim, healthy = bench.create_digests(2)
        bench.wait_for_slot(victim, now() - LATE)
        poison = POISONS[number % len(POISONS)]
        bench.excluded.add(victim)
        bench.sql("UPDATE schedule SET spec = ? WHERE id = ?", poison, victim)
        bench.injections += 1

        def is_broken(id: str = victim) -> bool:
            found = [s for s in schedules.sync.list(bench.client) if s.id == id]
            return bool(found) and found[0].status == "broken" and bool(found[0].note)

        # Lists have it with the reason, beside the others.
        seen = until(is_broken, 10)
        what = f"{victim} with spec {poison[:50]!r}"
        bench.verdict.expect("I12", seen, f"{what} isn't reported as broken")
        continues = bench.wait_for_slot(healthy, now())
        bench.verdict.expect("I7", continues, f"beside {what} another schedule has no new slot")
        if number >= 12:
            bench.pause(healthy)
    bench.finish(2.0, start_worker=False)


FAULTS: dict[str, Callable[[Bench], None]] = {
    "F20": f20,
    "F33": f33,
}

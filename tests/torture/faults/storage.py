"""Faults of the file: no space, damage."""

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

from harness import LATE, Bench, Life, now, until
from polos import StoreUnavailableError, schedules


def f20(bench: Bench) -> None:
    """No space: by a limit of the worker's, by failing writes, on a file system that is full."""
    limited(bench)
    refused(bench)
    if os.geteuid() == 0 and shutil.which("mount"):
        on_a_small_disk(bench)
    else:
        bench.remarks.append("the part on a file system that is full was NOT RUN: it needs root")


def limited(bench: Bench) -> None:
    """No write of the worker beyond 128 KiB of a file succeeds, for seconds."""
    with Bench(folder_in(bench, "limited"), bench.scale, 0, bench.verdict) as place:
        life = place.start("--lease", 2).ready()
        place.create_digests()
        limit = 128 * 1024
        for _ in range(bench.times(20, 1)):
            # Files are longer than the limit then, whatever a checkpoint does in between.
            for _ in range(40):
                place.invoke(payload={"filler": "x" * 8_000})
            _, hard = resource.prlimit(life.pid, resource.RLIMIT_FSIZE)
            before = place.oracle.stat().st_size
            resource.prlimit(life.pid, resource.RLIMIT_FSIZE, (max(limit, before + limit), hard))
            for _ in range(20):
                place.invoke(payload={"filler": "x" * 8_000})
                time.sleep(bench.random.uniform(0.05, 0.25))
            resource.prlimit(life.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
            check_recovery(place, life)
            bench.injections += 1
        check_said(place, life)
        place.finish(helper=False)


def refused(bench: Bench) -> None:
    """Every write of the worker fails with ENOSPC, for seconds; and, the same way, with EIO."""
    folder = folder_in(bench, "refused")
    shim = Shim(folder, made_in=bench.folder)
    with Bench(folder, bench.scale, 0, bench.verdict) as place:
        life = place.start("--lease", 2, environment=shim.environment).ready()
        place.create_digests()
        before = None
        for number in range(bench.times(20, 2)):
            error = (errno.ENOSPC, errno.EIO)[number % 2]
            # From the first one, or in the middle of what is written together.
            shim.fail_writes(error, number=bench.random.randint(1, 4), count=10**9)
            for _ in range(10):
                place.invoke()
                time.sleep(bench.random.uniform(0.05, 0.25))
            text = f"nothing failed with {errno.errorcode[error]}"
            bench.verdict.expect("I12", shim.control.failed, text)
            shim.heal()
            check_recovery(place, life)
            bench.injections += 1
            # I9: connections that failed are thrown away, and their descriptors with them.
            after = life.resources()
            before = before or after
            is_same = after.files <= before.files + 8 and after.threads <= before.threads + 4
            bench.verdict.expect("I9", is_same, f"from {before} to {after}")
        check_said(place, life)
        place.finish(helper=False)


def on_a_small_disk(bench: Bench) -> None:
    """The file system has 4 MiB, for client and worker, and something else fills it."""
    disk = folder_in(bench, "disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "polos-torture", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        bench.remarks.append("the part on a file system that is full was NOT RUN: no mount")
        return
    try:
        database = disk / "polos.db"
        folder = folder_in(bench, "small")
        with Bench(folder, bench.scale, 0, bench.verdict, database) as place:
            life = place.start("--lease", 2).ready()
            place.create_digests(2)
            for _ in range(bench.times(20, 1)):
                fill(place, disk / "ballast", bench.random.uniform(1.0, 4.0))
                check_recovery(place, life)
                bench.injections += 1
            check_said(place, life)
            place.finish(helper=False)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(place: Bench, ballast: Path, seconds: float) -> None:
    """Leave no byte for a while; the client is told so."""
    refusals = []
    end = time.monotonic() + seconds
    with ballast.open("wb", buffering=0) as file:
        while time.monotonic() < end:
            with suppress(OSError):
                # The last page too: what a checkpoint frees goes as well.
                while file.write(b"x" * 4_096):
                    pass
            try:
                place.invoke(payload={"filler": "x" * 50_000})
            except StoreUnavailableError as error:
                refusals.append(str(error))
            time.sleep(0.02)
    ballast.unlink()
    place.verdict.expect("I12", refusals, "no write failed on a full disk")
    for text in refusals:
        is_named = str(place.file) in text and ("full" in text or "failed" in text)
        place.verdict.expect("I12", is_named, f"the client was told {text!r}")


def folder_in(bench: Bench, name: str) -> Path:
    folder = bench.folder / name
    folder.mkdir()
    return folder


def check_recovery(bench: Bench, life: Life) -> None:
    """It lives, and works by itself when it can."""
    bench.verdict.expect("I7", life.is_alive(), "it has ended the worker")
    last = until(lambda: invoked(bench), 30)
    bench.verdict.expect("I4", last and bench.succeeds(last, 30), "it doesn't recover")


def invoked(bench: Bench) -> str | None:
    """A run, or that there can't be one yet."""
    try:
        return bench.invoke()
    except StoreUnavailableError:
        return None


def check_said(bench: Bench, life: Life) -> None:
    said = life.errors.read_text()
    bench.verdict.expect("I12", "database fails" in said, "nothing was said about it")


POISONS = (
    '{"cron":"61 * * * *","timezone":"UTC"}',
    '{"every_us":1000000,"timezone":"Mars/Olympus"}',
    "not json",
    "",
    '{"every_us":-5,"timezone":"UTC"}',
    "[" * 5_000,
)


def f33(bench: Bench) -> None:
    """A stored schedule is damaged under a running worker."""
    bench.start("--lease", 2).ready()
    for number in range(bench.times(60, len(POISONS))):
        victim, healthy = bench.create_digests(2)
        bench.comes_due(victim, now() - LATE)
        poison = POISONS[number % len(POISONS)]
        bench.excluded.add(victim)
        bench.sql("UPDATE schedule SET spec = ? WHERE id = ?", poison, victim)
        bench.injections += 1

        def is_broken(id: str = victim) -> bool:
            found = [s for s in schedules.sync.list(bench.client) if s.id == id]
            return bool(found) and found[0].status == "broken" and bool(found[0].note)

        # With its reason, and to be seen in a list beside the others.
        seen = until(is_broken, 10)
        what = f"{victim} with spec {poison[:50]!r}"
        bench.verdict.expect("I12", seen, f"{what} isn't seen to be broken")
        goes_on = bench.comes_due(healthy, now())
        bench.verdict.expect("I7", goes_on, f"beside {what} another stands still")
        if number >= 12:
            bench.pause(healthy)
    bench.finish(2.0, helper=False)


FAULTS: dict[str, Callable[[Bench], None]] = {
    "F20": f20,
    "F33": f33,
}

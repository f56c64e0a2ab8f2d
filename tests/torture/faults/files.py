"""Faults of the file itself: damaged, foreign, newer, inaccessible; and removed while in use."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from harness import APPS, PYTHON, Bench, until
from polos import StoreUnavailableError, schedules

# Words of the advice that each kind of error must give.
ADVICE = {
    "StoreCorruptError": ("restore", "choose another path"),
    "StoreVersionError": ("upgrade",),
    "StoreUnavailableError": ("must be", "make it first", "give the path", "put the database back"),
}
UNUSABLE = "StoreUnavailableError"
NOBODY = 65534

Answer = dict[str, object]


def open_each(bench: Bench, paths: Iterable[Path], *, as_nobody: bool = False) -> list[Answer]:
    """Open each file in another process; start a new process if a file ends it."""
    answers: list[Answer] = []
    user = (str(NOBODY),) if as_nobody else ()
    waiting = list(paths)
    while len(answers) < len(waiting):
        text = "".join(json.dumps(str(path)) + "\n" for path in waiting[len(answers) :])
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(APPS / "open_databases.py"), *user],
            env={**os.environ, "PYTHONPATH": str(PYTHON)},
            input=text,
            capture_output=True,
            text=True,
            timeout=600,
        )
        answers += [json.loads(line) for line in done.stdout.splitlines()]
        bench.verdict.expect("I7", "panicked" not in done.stderr, f"panic: {done.stderr[-2000:]}")
        if done.returncode:
            place = waiting[len(answers)] if len(answers) < len(waiting) else "the end"
            text = f"rc {done.returncode} at {place}: {done.stderr[-500:]}"
            bench.verdict.expect("I7", False, text)
            answers.append({"bug": text})
    return answers


def contents(path: Path) -> dict[str, bytes]:
    """Return the contents of the file and its log."""
    each = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-journal")]
    return {file.name: file.read_bytes() for file in each if file.exists()}


def check_refusal(bench: Bench, path: Path, answer: Answer, kinds: tuple[str, ...]) -> None:
    """I12: expect an error of the right kind that names the file and says what to do."""
    kind, text = str(answer.get("error")), str(answer.get("text"))
    bench.verdict.expect("I12", kind in kinds, f"{path.name}: {answer}, not {kinds}")
    if "error" in answer:
        bench.verdict.expect("I12", str(path) in text, f"{path.name}: the path is missing: {text}")
        advice = ADVICE.get(kind, ())
        is_advised = any(word in text for word in advice)
        bench.verdict.expect("I12", is_advised, f"{path.name}: no advice: {text}")


def stored(bench: Bench) -> tuple[bytes, bytes, set[str]]:
    """Make a database with schedules and runs, the newest in the log; return it and its keys."""
    worker = bench.start().ready()
    keys = [f"key-{number:03}" for number in range(200)]
    cron = "0 0 1 1 *"
    schedules.sync.create_many(
        bench.client, [{"workflow": "digest", "cron": cron, "key": key} for key in keys]
    )
    for _ in range(10):
        bench.wait_for_success(bench.invoke())
    worker.term()
    bench.client.close()
    # All of that is in the file now. What follows is in the log of a killed process.
    worker = bench.start().ready()
    with Bench(bench.folder, bench.scale, 0, bench.verdict) as other:
        for _ in range(5):
            other.wait_for_success(other.invoke())
        worker.kill()
        log = bench.file.with_name("polos.db-wal").read_bytes()
        file = bench.file.read_bytes()
    return file, log, {*keys, *(["global"] if bench.ticks else [])}


def f22(bench: Bench) -> None:
    """A file is damaged, foreign, newer, or inaccessible."""
    file, log, keys = stored(bench)
    folder = bench.folder / "damaged"
    folder.mkdir()
    flipped(bench, folder, file, keys)
    cut(bench, folder, file, keys)
    damaged_log(bench, folder, file, log, keys)
    refused(bench, folder, file, log)
    out_of_reach(bench, folder, file)


def check_damaged(bench: Bench, cases: dict[Path, dict[str, bytes]], keys: set[str]) -> None:
    """Each file is refused and left unchanged, or it is used; it never counts as empty."""
    outcomes: Counter[str] = Counter()
    for path, answer in zip(cases, open_each(bench, cases), strict=True):
        bench.injections += 1
        bench.verdict.expect("I7", "bug" not in answer, f"{path.name}: {answer}")
        if "bug" in answer:
            continue
        if answer.get("error") == "RunNotFoundError":
            # The index and the table have different ids, which reading one of them can't reveal.
            outcomes["a run not found"] += 1
            continue
        if "error" in answer:
            check_refusal(bench, path, answer, ("StoreCorruptError", "StoreVersionError"))
            outcomes[f"refused at {answer['stage']}"] += 1
            if answer["stage"] == "opening":
                is_same = contents(path) == cases[path]
                bench.verdict.expect("I6", is_same, f"{path.name} was refused, and has changed")
            continue
        found = answer.get("keys")
        assert isinstance(found, list)
        is_empty = len(keys & set(found)) == 0
        bench.verdict.expect("I10", not is_empty, f"{path.name} was treated as empty: {answer}")
        outcomes["unharmed" if keys <= set(found) else "some schedules not seen"] += 1
    kind = next(iter(cases)).name.partition("-")[0]
    bench.remarks.append(f"{kind}: {dict(outcomes)}")
    for path in cases:
        for name in contents(path):
            path.with_name(name).unlink()


def placed(path: Path, file: bytes, log: bytes | None = None) -> dict[str, bytes]:
    path.write_bytes(file)
    if log is not None:
        path.with_name(path.name + "-wal").write_bytes(log)
    return contents(path)


def flipped(bench: Bench, folder: Path, file: bytes, keys: set[str]) -> None:
    """Change one byte; every third time one of the first page, which describes the rest."""
    cases = {}
    for number in range(bench.times(500, 12)):
        data = bytearray(file)
        place = bench.random.randrange(4096 if number % 3 == 0 else len(data))
        data[place] ^= bench.random.randrange(1, 256)
        path = folder / f"flipped-{place}-{number}"
        cases[path] = placed(path, bytes(data))
    check_damaged(bench, cases, keys)


def cut(bench: Bench, folder: Path, file: bytes, keys: set[str]) -> None:
    """Cut off the end."""
    cases = {}
    for number in range(bench.times(200, 6)):
        size = bench.random.randrange(1, len(file))
        if number % 2:
            size = max(4096, size - size % 4096)
        path = folder / f"cut-{size}-{number}"
        cases[path] = placed(path, file[:size])
    check_damaged(bench, cases, keys)


def damaged_log(bench: Bench, folder: Path, file: bytes, log: bytes, keys: set[str]) -> None:
    """Damage the log, which then counts up to the damage as after a power loss; or remove it."""
    cases = {}
    for number in range(bench.times(200, 6)):
        data = bytearray(log)
        place = bench.random.randrange(64 if number % 4 == 0 else len(data))
        if number % 2:
            del data[place:]
        else:
            data[place] ^= bench.random.randrange(1, 256)
        path = folder / f"log-{place}-{number}"
        cases[path] = placed(path, file, bytes(data))
    gone = folder / "log-gone"
    cases[gone] = placed(gone, file)
    check_damaged(bench, cases, keys)


def refused(bench: Bench, folder: Path, file: bytes, log: bytes) -> None:
    """A file that isn't a database of polos, or is of a newer release, stays unchanged."""
    noise = bench.random.randbytes(50_000)
    other = folder / "of another application"
    with closing(sqlite3.connect(other)) as connection:
        connection.executescript("CREATE TABLE schedule (id TEXT); INSERT INTO schedule VALUES (1)")
    newer = folder / "newer"
    newer.write_bytes(file)
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    foreign, damage = "StoreCorruptError", UNUSABLE
    cases: dict[Path, str] = {other: foreign, newer: "StoreVersionError"}
    for name, data in {
        "random": noise,
        "text": b"# settings\nname = polos\n" * 99,
        "short": b"x",
        "another format": b"SQLite format 2\0" + noise,
        "zeros": bytes(8192),
    }.items():
        path = folder / name
        path.write_bytes(data)
        cases[path] = foreign
    gone, emptied = folder / "gone", folder / "emptied"
    emptied.write_bytes(b"")
    for path in (gone, emptied):
        path.with_name(path.name + "-wal").write_bytes(log)
        cases[path] = damage
    before = {path: contents(path) for path in cases}
    for path, answer in zip(cases, open_each(bench, cases), strict=True):
        check_refusal(bench, path, answer, (cases[path],))
        is_same = contents(path) == before[path]
        bench.verdict.expect("I6", is_same, f"{path.name} was refused, and has changed")
        bench.injections += 1


def out_of_reach(bench: Bench, folder: Path, file: bytes) -> None:
    """Folders, and files that must not be read or written."""
    is_folder = folder / "folder"
    is_folder.mkdir()
    cases = [is_folder, folder / "nowhere" / "polos.db"]
    for path, answer in zip(cases, open_each(bench, cases), strict=True):
        check_refusal(bench, path, answer, (UNUSABLE,))
        bench.injections += 1
    # Permissions don't apply to root.
    as_nobody = os.geteuid() == 0
    bound = Path(tempfile.mkdtemp(prefix="polos-bound-"))  # which other users can enter
    try:
        cases = []
        for name, file_mode, folder_mode in (
            ("file", 0o444, 0o777),
            ("folder", 0o666, 0o555),
            ("secret", 0o000, 0o777),
        ):
            place = bound / f"readonly-{name}"
            place.mkdir()
            path = place / "polos.db"
            path.write_bytes(file)
            path.chmod(file_mode)
            place.chmod(folder_mode)
            cases.append(path)
        bound.chmod(0o755)
        for path, answer in zip(cases, open_each(bench, cases, as_nobody=as_nobody), strict=True):
            check_refusal(bench, path, answer, (UNUSABLE,))
            is_same = path.read_bytes() == file
            bench.verdict.expect("I6", is_same, f"{path.parent.name} was refused, and has changed")
            bench.injections += 1
    finally:
        shutil.rmtree(bound)


# --- in use ----------------------------------------------------------------------------------


def set_aside(path: Path) -> Path:
    """Link the files of a database under other names, to find them after they are removed."""
    kept = path.parent / "kept"
    kept.mkdir()
    for each in path.parent.glob(path.name + "*"):
        os.link(each, kept / each.name)
    return kept / path.name


def deleted(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def log_deleted(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def replaced(path: Path) -> None:
    """Replace the database by another one that is in use, with its own log."""
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE precious (text)")
        files = {each.name: each.read_bytes() for each in path.parent.glob("other.db-wal")}
        data = other.read_bytes()
    os.replace(other, path)
    path.write_bytes(data)
    for name, text in files.items():
        fresh = path.with_name(name + ".new")
        fresh.write_bytes(text)
        os.replace(fresh, path.with_name(path.name + "-wal"))


AWAY: tuple[Callable[[Path], None], ...] = (deleted, moved, log_deleted, replaced)


def f23(bench: Bench) -> None:
    """The file is removed under a worker, or another process locks it."""
    for number in range(bench.times(40, len(AWAY))):
        gone(bench, number, AWAY[number % len(AWAY)])
    for number in range(bench.times(10)):
        # Once longer than any timeout.
        locked(bench, number, 35.0 if number == 1 else bench.random.uniform(1.0, 4.0))


def gone(bench: Bench, number: int, vanish: Callable[[Path], None]) -> None:
    """The worker stops and logs it, and writes neither to an unlinked file nor to another's."""
    folder = bench.folder / f"{vanish.__name__}-{number}"
    folder.mkdir()
    verdict = bench.verdict
    with Bench(folder, bench.scale, 0, verdict) as part:
        worker = part.start("--lease", 2).ready()
        part.create_digests()
        part.wait_for_success(part.invoke())
        part.client.close()
        time.sleep(bench.random.uniform(0.0, 1.0))
        kept = set_aside(part.file)
        vanish(part.file)
        since = time.time()
        there = contents(part.file)
        worker.ends(1, timeout=20)
        output = worker.errors.read_text()
        text = f"{vanish.__name__}: it printed {output[-300:]!r}"
        verdict.expect("I12", "was deleted, moved or replaced" in output, text)
        late = [
            line for line in part.recorded_lines() if line.kind == "ack" and line.time > since + 1
        ]
        verdict.expect(
            "I10", not late, f"{vanish.__name__}: recorded in an unlinked file: {late[:3]}"
        )
        if vanish is not log_deleted:  # then the file is still its own
            text = f"{vanish.__name__}: the file in its place was written"
            verdict.expect("I6", contents(part.file) == there, text)
    for each in contents(part.file):
        (folder / each).unlink()
    for each in contents(kept):
        (kept.parent / each).rename(folder / each)
    with Bench(folder, bench.scale, 0, verdict) as after:
        after.jobs, after.digests = part.jobs, part.digests
        after.finish(2.0)
    bench.injections += 1
    if not verdict.violations:
        shutil.rmtree(folder)


HOLDER = """
import sqlite3, sys
file = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
file.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
"""


def locked(bench: Bench, number: int, seconds: float) -> None:
    """Another process holds the write lock: all wait, then continue."""
    folder = bench.folder / f"locked-{number}"
    folder.mkdir()
    with Bench(folder, bench.scale, 0, bench.verdict) as part:
        worker = part.start("--lease", 2).ready()
        part.create_digests()
        command = [sys.executable, "-c", HOLDER, str(part.file)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            holder.stdout.readline()
            release = threading.Timer(seconds, holder.stdin.close)
            release.start()
            begun = time.monotonic()
            try:
                part.invoke()
            except StoreUnavailableError as error:
                waited = time.monotonic() - begun
                text = f"gave up after {waited:.1f} s: {error}"
                is_right = "locked by another process" in str(error) and waited > 25
                bench.verdict.expect("I12", is_right, text)
            release.join()
        bench.verdict.expect("I7", worker.is_alive(), "the worker ended because of a lock")
        if seconds > 31:
            output = until(lambda: "did not answer" in worker.errors.read_text(), 10)
            bench.verdict.expect("I12", output, f"unexplained: {worker.errors.read_text()[-300:]}")
        bench.verdict.expect(
            "I4", part.wait_for_success(part.invoke()), "the worker doesn't recover"
        )
        part.finish(2.0, start_worker=False)
    bench.injections += 1
    shutil.rmtree(folder)


FAULTS: dict[str, Callable[[Bench], None]] = {
    "F22": f22,
    "F23": f23,
}

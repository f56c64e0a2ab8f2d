"""Faults of the host process: servers that fork and reload, signals, threads, few resources,
loggers that leak, raise, or block.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from checker import OracleReader, check_file, history
from faults.handlers import check_alive, close, handler_worker, wait_for_completion
from programs import Command, Program

from harness import APPS, SECOND, TIMEOUT, Bench, NotRunError, now, until
from polos import PolosClient, runs, schedules


def f39(bench: Bench) -> None:
    """Processes fork after they have used their client."""
    verdict = bench.verdict
    for number in range(bench.times(100, 4)):
        for how in ("fork", "fork-in-thread", "fork-while-busy", "multiprocessing"):
            if sys.platform == "win32":
                raise NotRunError("os.fork doesn't exist here")
            program = Program(bench, "forks.py", bench.database, how, number)
            output = program.line()
            program.ends(0)
            bench.injections += 1
            verdict.expect("I5", output == "well", f"{how}: {output}")
    keys = Counter(schedule.key for schedule in schedules.sync.list(bench.client))
    verdict.expect("I10", all(count == 1 for count in keys.values()), f"{keys}")
    verdict.expect("I10", len(keys) == 3 * bench.injections, f"{len(keys)} schedules")
    bench.client.close()
    check_file(verdict, bench.database)


# --- servers -----------------------------------------------------------------------------------


def needs(*modules: str) -> None:
    lacking = [module for module in modules if find_spec(module) is None]
    if lacking:
        raise NotRunError(f"not installed: {', '.join(lacking)}")


def server(bench: Bench, *command: str) -> Command:
    """Serve the `web_app.py` in the bench's folder, on a socket there."""
    env = {"POLOS_DATABASE_URL": str(bench.database), "ORACLE": str(bench.oracle)}
    return Command(bench, sys.executable, "-m", *command, env=env)


def versions(bench: Bench) -> list[tuple[str, int, str]]:
    """Return the version, run, and process of each execution, in order."""
    return [(line.token, line.pid, line.run) for line in OracleReader(bench.oracle).read()]


def has_version(bench: Bench, version: str) -> bool:
    return any(token == version for token, _, _ in versions(bench))


def web_app(bench: Bench, version: int) -> None:
    text = (APPS / "web_app.py").read_text().replace("VERSION = 0", f"VERSION = {version}")
    file = bench.folder / "web_app.py"
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def check_one_run_each(bench: Bench) -> None:
    """I1: one outcome for each slot. I5: one execution of each run that wasn't interrupted."""
    verdict = bench.verdict
    for schedule in schedules.sync.list(bench.client):
        slots = [
            entry.timestamp + SECOND * number
            for entry in history(bench.client, schedule.id)
            for number in range(entry.count)
        ]
        span = (max(slots) - min(slots)) // SECOND + 1
        verdict.expect("I1", len(slots) == len(set(slots)) == span, f"{len(slots)} of {span}")
    executed = Counter(run for _, _, run in versions(bench))
    entered = {run.id: run for run in runs.sync.list(bench.client, limit=None)}
    for run, count in executed.items():
        verdict.expect("I2", run in entered, f"{run} was executed and doesn't exist")
        verdict.expect("I5", count == 1, f"{run} was executed {count} times")
    bench.client.close()
    check_file(verdict, bench.database)


def f39b(bench: Bench) -> None:
    """``uvicorn --reload``: the application is saved repeatedly while its schedule runs."""
    needs("fastapi", "uvicorn", "watchfiles")
    verdict = bench.verdict
    web_app(bench, 1)
    worker = server(
        bench, "uvicorn", "web_app:app", "--uds", "web.sock", "--reload", "--reload-dir", "."
    )
    for version in range(1, bench.times(50, 4) + 1):
        if version > 1:
            web_app(bench, version)
        is_new = until(partial(has_version, bench, f"{version}"), TIMEOUT)
        verdict.expect("I7", is_new, f"version {version} doesn't run: {worker.output[-1000:]}")
        bench.injections += 1
    worker.signal(signal.SIGINT)
    worker.ends(0, timeout=30)
    verdict.expect("I7", "Traceback" not in worker.output, worker.output[-2000:])
    check_one_run_each(bench)


def f39c(bench: Bench) -> None:
    """``uvicorn --workers 4``: one worker after the other is killed."""
    needs("fastapi", "uvicorn")
    _many(bench, "uvicorn", "web_app:app", "--uds", "web.sock", "--workers", "4")


def f39d(bench: Bench) -> None:
    """gunicorn loads the application before it forks four workers."""
    needs("fastapi", "uvicorn", "gunicorn")
    worker = "uvicorn.workers.UvicornWorker"
    if find_spec("uvicorn.workers") is None:
        raise NotRunError("this version of uvicorn has no worker for gunicorn")
    _many(
        bench, "gunicorn", "web_app:app", "-k", worker, "--preload", "-w", "4",
        "-b", "unix:web.sock", "--no-control-socket",
    )  # fmt: skip


def _many(bench: Bench, *command: str) -> None:
    verdict = bench.verdict
    web_app(bench, 1)
    worker = server(bench, *command)
    pids: set[int] = set()

    def has_run(count: int) -> bool:
        """Return whether there are at least so many runs."""
        pids.update(pid for _, pid, _ in versions(bench))
        return len(versions(bench)) >= count

    verdict.expect("I7", until(lambda: has_run(3), TIMEOUT), f"no new run: {worker.output[-1000:]}")
    for _ in range(bench.times(50, 3)):
        # Between two slots: a run in progress would rightly be executed again.
        victim = versions(bench)[-1][1]
        count = len(versions(bench))
        until(partial(has_run, count + 1), 10)
        until(lambda: time.time() % 1 > 0.3, 2)
        if alive(victim):
            subprocess.run(["kill", "-9", str(victim)], check=True)
            bench.injections += 1
        count = len(versions(bench))
        continues = until(partial(has_run, count + 2), 30)
        verdict.expect(
            "I7", continues, f"without {victim} there is no new run: {worker.output[-1000:]}"
        )
    worker.signal(signal.SIGTERM)
    worker.ends(0, -signal.SIGTERM, timeout=30)
    verdict.expect("I7", len(pids) > 1, f"all runs were executed by {pids}")
    verdict.expect("I7", "Traceback" not in worker.output, worker.output[-2000:])
    verdict.expect("I7", not [pid for pid in pids if alive(pid)], "a process is still running")
    check_one_run_each(bench)


def alive(pid: int) -> bool:
    """Return whether the process is still running."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


# --- ends ----------------------------------------------------------------------------------------


# Ways to end a program, the program that does so, and its return code.
ENDS: dict[str, tuple[str, int]] = {
    "return": ("worker.py", 0),
    "raise": ("worker.py", 1),
    "leave": ("worker.py", 0),
    "sys-exit": ("worker.py", 3),
    "atexit": ("worker.py", 0),
    "daemon-thread": ("worker.py", 0),
}


def f40b(bench: Bench) -> None:
    """The program ends in many ways. Python's development mode reports what leaks."""
    verdict = bench.verdict
    for number in range(bench.times(200, len(ENDS))):
        name = list(ENDS)[number % len(ENDS)]
        script, code = ENDS[name]
        worker = Program(
            bench, script, bench.database, bench.oracle, "--exit", name, "--drain", 0.3,
            "--hold", 60, python=("-X", "dev", "-X", "faulthandler"),
        ).ready()  # fmt: skip
        job = bench.invoke()
        bench.wait_for_line("before", job, "b", 10)
        begun = time.monotonic()
        worker.send_line()
        worker.ends(code)
        took = time.monotonic() - begun
        verdict.expect("I11", took < 8, f"{name}: it took {took:.1f} s to end")
        output = worker.output
        for trouble in ("Fatal Python error", "Segmentation", "Current thread"):
            verdict.expect("I7", trouble not in output, f"{name}: {output[-1500:]}")
        ours = [line for line in output.splitlines() if "polos" in line and "Warning" in line]
        ours = [line for line in ours if "ScheduleFrequency" not in line]
        verdict.expect("I7", not ours, f"{name}: {ours}")
        runs.sync.cancel(bench.client, job)
        bench.injections += 1
    bench.client.close()
    check_file(verdict, bench.database)


def f41b(bench: Bench) -> None:
    """SIGINT, SIGTERM, and SIGHUP drain; a second one ends at once; nohup disables SIGHUP."""
    verdict = bench.verdict
    for _ in range(bench.times(50, 2)):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # A hanging run is released at once, and the next worker continues it.
            worker = handler_worker(bench, "--drain", 0.3)
            held = bench.invoke("unlimited", {"act": "hang"})
            bench.wait_for_line("enter", held, "-", 10)
            worker.signal(number)
            worker.ends(0)
            status = bench.status(held)
            verdict.expect("I11", status == "queued", f"{number.name}: its run is {status}")
            verdict.expect(
                "I11", "Traceback" not in worker.output, f"{number.name}: {worker.output[-900:]}"
            )
            runs.sync.cancel(bench.client, held)
            # A second signal ends the wait.
            worker = handler_worker(bench, "--drain", 60)
            held = bench.invoke("unlimited", {"act": "hang"})
            bench.wait_for_line("enter", held, "-", 10)
            worker.signal(number)
            time.sleep(bench.random.uniform(0.1, 0.4))
            begun = time.monotonic()
            worker.signal(number)
            worker.ends(0)
            took = time.monotonic() - begun
            verdict.expect("I11", took < 5, f"{number.name} twice: it took {took:.1f} s")
            runs.sync.cancel(bench.client, held)
            bench.injections += 2
        # With nohup, it must survive the terminal.
        nohup = Program(bench, "handler_worker.py", bench.database, bench.oracle, before=("nohup",))
        nohup.ready()
        nohup.signal(signal.SIGHUP)
        job = wait_for_completion(bench, bench.invoke("echo", "still here"))
        verdict.expect("I11", job.result == "still here" and nohup.is_alive(), "nohup is ignored")
        nohup.term()
        bench.injections += 1
    bench.client.close()
    check_file(verdict, bench.database)


# --- threads and resources -----------------------------------------------------------------------


def f44(bench: Bench) -> None:
    """32 threads and several event loops share a client while a worker works."""
    verdict = bench.verdict
    worker = handler_worker(bench)
    for number in range(bench.times(50, 2)):
        for how in ("sync", "loops", "mixed", "closing"):
            program = Program(
                bench,
                "shared_client.py",
                bench.database,
                how,
                32,
                20,
                python=("-X", "dev", "-W", "ignore"),
            )
            output = program.line()
            program.ends(0)
            verdict.expect("I5", output == "well", f"{how} {number}: {output}")
            bench.injections += 1
    check_alive(bench, worker, "threads")
    close(bench, worker)


def f45(bench: Bench) -> None:
    """File descriptors or memory are exhausted."""
    verdict = bench.verdict
    worker = handler_worker(bench)
    digests = [
        schedules.sync.create(bench.client, "digest", every=SECOND, key=f"{n}") for n in range(3)
    ]
    for number in range(bench.times(25, 2)):
        # At the start: it works, or names what it lacks.
        for limit in (12, 16, 20, 24, 32):
            check_start(bench, f"ulimit -n {limit}", f"ulimit -n {limit}")
        for mebibytes in (60, 120, 250, 500):
            check_start(bench, f"ulimit -v {mebibytes * 1024}", f"{mebibytes} MiB")
        # While it works: no more descriptors for seconds.
        usual = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, usual[1]))
        jobs = [bench.invoke("act-step", {"act": "1-mebibyte"}) for _ in range(10)]
        jobs += [bench.invoke("limited-sync", {"act": "thread"})]
        time.sleep(1.0)
        bench.verdict.expect(
            "I7", worker.is_alive(), f"without descriptors: {worker.output[-900:]}"
        )
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, usual)
        # And no more memory: handlers may fail, but not the worker.
        before = resource.prlimit(worker.pid, resource.RLIMIT_AS)
        pages = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[0])
        resource.prlimit(worker.pid, resource.RLIMIT_AS, (pages * 4096 + (8 << 20), before[1]))
        jobs += [bench.invoke("act-step", {"act": "15-mebibytes"}) for _ in range(2)]
        jobs += [bench.invoke("act-sync", {"act": "none"}) for _ in range(5)]
        time.sleep(1.0)
        if worker.is_alive():
            resource.prlimit(worker.pid, resource.RLIMIT_AS, before)
        else:
            # The core can't continue without memory. It logs that, and another process continues.
            code = worker.ends(-signal.SIGABRT, 1)
            verdict.expect("I12", "memory" in worker.output, f"rc {code}: {worker.output[-500:]}")
            bench.remarks.append("without memory the worker has ended, and another one continued")
            worker = handler_worker(bench)
        bench.injections += 2
        for job in jobs:
            wait_for_completion(bench, job, 60)
        here = now()
        for id in digests:
            verdict.expect(
                "I7", bench.wait_for_slot(id, here), f"after {number}: {id} has no new slot"
            )
    check_alive(bench, worker, "having had too little")
    close(bench, worker)


def check_start(bench: Bench, limit: str, what: str) -> None:
    """Under the limit it works, or soon ends with an error; it never hangs or crashes."""
    script = APPS / "low_limits.py"
    command = f'{limit} && exec "{sys.executable}" -W ignore "{script}" tight-{bench.injections}.db'
    done = Command(bench, "sh", "-c", command, env={"RUST_BACKTRACE": "0"})
    code = done.ends(0, 1, 2, timeout=30)
    output = done.output
    bench.verdict.expect("I7", code != -signal.SIGSEGV, f"{what}: {output[-500:]}")
    is_clear = code == 0 or "Error" in output or "rror" in output or "memory" in output
    bench.verdict.expect("I12", is_clear, f"{what}: rc {code}, {output[-500:]}")
    bench.injections += 1


# --- logging -------------------------------------------------------------------------------------


MARKS = ("S3CRET-PAYLOAD", "S3CRET-RESULT", "S3CRET-STEP", "S3CRET-INPUT", "S3CRET-PASSWORD")


def f47(bench: Bench) -> None:
    """Payloads, results, and passwords must not appear in logs or errors."""
    verdict = bench.verdict
    for number in range(bench.times(25)):
        worker = Program(
            bench, "secret_values.py", bench.database, *MARKS[:4], env={"PYTHONUTF8": "1"}
        )
        while (output := worker.line()) != "done":
            found = [mark for mark in MARKS if mark in output]
            verdict.expect("I12", not found, f"{number}: {found} in {output[:300]}")
        worker.kill()
        text = worker.output
        for mark in MARKS:
            place = text.find(mark)
            shown = text[max(0, place - 200) : place + 100]
            verdict.expect("I12", place < 0, f"{mark} was logged: …{shown}…")
        verdict.expect("I12", "failed" in text, "nothing was logged")
        for url in DSNS:
            try:
                made: Any = PolosClient(url)
                text = repr(made)
                made.close()
            except Exception as error:
                text = f"{error} {error!r}"
            verdict.expect("I12", MARKS[4] not in text, f"an error has the password: {text[:300]}")
        bench.injections += 1
    bench.client.close()
    check_file(verdict, bench.database)


DSNS = (
    "postgresql://user:S3CRET-PASSWORD@host/db",
    "postgres://user:S3CRET-PASSWORD@host:99999/db",
    "mysql://user:S3CRET-PASSWORD@host/db",
    "://user:S3CRET-PASSWORD@host",
)


def f48(bench: Bench) -> None:
    """Loggers raise, block, or recurse; outputs are closed or not read."""
    verdict = bench.verdict
    for number in range(bench.times(50, 2)):
        for how in ("raise", "block", "recurse", "filter", "broken-pipe", "closed", "full"):
            key = f"{how}-{number}"
            worker = Program(bench, "hostile_logging.py", bench.database, how, key)
            worker.ready()
            if how == "broken-pipe":
                worker.stop_listening()
            bench.injections += 1
            until(partial(schedules.sync.list, bench.client, key=key))
            found = schedules.sync.list(bench.client, key=key)
            verdict.expect("I7", found, f"{how}: its schedule doesn't exist")
            for _ in range(2):
                here = now()
                comes = bench.wait_for_slot(found[0].id, here)
                verdict.expect("I7", comes, f"{how}: its schedule has no new slot")
            failed = runs.sync.invoke(bench.client, "failing").id
            run = wait_for_completion(bench, failed, 30)
            verdict.expect("I4", run.status == "failed", f"{how}: a failing run is {run.status}")
            verdict.expect("I7", worker.is_alive(), f"{how}: the worker has ended")
            schedules.sync.delete(bench.client, found[0].id)
            took = worker.term()
            verdict.expect("I11", took < 15, f"{how}: it took {took:.1f} s to end")
    bench.client.close()
    check_file(verdict, bench.database)


FAULTS = {
    "F39": f39,
    "F39b": f39b,
    "F39c": f39c,
    "F39d": f39d,
    "F40b": f40b,
    "F41b": f41b,
    "F44": f44,
    "F45": f45,
    "F47": f47,
    "F48": f48,
}

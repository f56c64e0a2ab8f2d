"""What a PostgreSQL server on this machine has spent: processor time, and bytes of its log.

Standard library and the server's own ``psql``, for any environment.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import subprocess
from pathlib import Path

_SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "postgres-for-tests"


def psql() -> str:
    """The path of ``psql``."""
    loader = importlib.machinery.SourceFileLoader("postgres_for_tests", str(_SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    tools = importlib.util.module_from_spec(spec)
    loader.exec_module(tools)
    return str((tools.local_binaries() or tools.installed_binaries()) / "psql")


class Server:
    """The server at ``url``."""

    def __init__(self, url: str) -> None:
        self._command = [psql(), "-XqAt", "-v", "ON_ERROR_STOP=1", url]

    def sql(self, text: str) -> str:
        """Execute it; what it returns, as text."""
        done = subprocess.run([*self._command, "-c", text], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        return done.stdout.strip()

    def without_full_pages(self, is_without: bool) -> None:
        """Whether pages that change for the first time after a checkpoint stay out of the log: how
        many they are depends on when the last checkpoint was.
        """
        self.sql(f"ALTER SYSTEM SET full_page_writes = {'off' if is_without else 'on'}")
        self.sql("SELECT pg_reload_conf()")

    def log_position(self) -> int:
        """Bytes that were ever written to the log."""
        return int(self.sql("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))

    def processor_seconds(self) -> float:
        """Time on a processor that all processes of the server have used, also those that ended."""
        postmaster = int(self.sql("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)"))
        ticks = 0
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            # After the name: state, parent; from the 12th on user, system, and those of children.
            if int(entry) == postmaster:
                ticks += sum(map(int, fields[11:15]))
            elif int(fields[1]) == postmaster:
                ticks += sum(map(int, fields[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

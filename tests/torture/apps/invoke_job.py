"""Starts a run of `job`, and prints its id."""

from __future__ import annotations

import sys

from polos import PolosClient, runs

with PolosClient(sys.argv[1]) as client:
    print(runs.sync.invoke(client, "job").id, flush=True)  # noqa: T201

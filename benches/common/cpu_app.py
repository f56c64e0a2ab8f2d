"""The application of ``several.py``: a handler that computes and never waits."""

import hashlib
import os

from polos import workflow

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "20"))


@workflow(id="burn", schedule=True)
async def burn() -> int:
    """About a millisecond of one processor for each round; returns who computed."""
    for _ in range(ROUNDS):
        hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 2_000)
    return os.getpid()
